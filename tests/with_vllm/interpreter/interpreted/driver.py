"""The device on which kernels are interpreted."""

from __future__ import annotations

from typing import Any

import torch
from triton.backends import driver
from triton.backends.compiler import GPUTarget


class Driver(driver.DriverBase):
    """The CPU."""

    map_python_to_cpp_type: Any = None
    get_benchmarker: Any = None

    @classmethod
    def is_active(cls) -> bool:
        """It always is."""
        return True

    def get_current_target(self) -> GPUTarget:
        """A name for the CPU."""
        return GPUTarget("cpu", 0, 1)

    def get_active_torch_device(self) -> torch.device:
        """Where tensors are."""
        return torch.device("cpu")
