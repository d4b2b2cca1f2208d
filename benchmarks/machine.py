"""Names the machine that a figure was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def processor() -> str:
    """Name and number of cores of this machine's processor."""
    model = platform.processor() or platform.machine()
    names = Path("/proc/cpuinfo")
    if names.exists():
        lines = names.read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores"


def versions(*packages: str) -> str:
    """Names and versions of packages that took part."""
    return ", ".join(f"{name} {version(name)}" for name in packages)
