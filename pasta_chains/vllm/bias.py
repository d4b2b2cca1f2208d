"""The bias of every token that a worker is about to read, where the steered layers find it.

It stands in buffers that live as long as the worker, so that CUDA graphs may read them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import torch
from torch import Tensor

from ..wire import KEY
from .weights import Weights

CHANNELS = 2
"""A rounded bias and what the rounding left over. In bfloat16 one channel would err by up to 1.6 %
of a weight, two by 3e-5."""


class Bias:
    """Buffers for the bias of one step after the other.

    Args:
        tokens: Most tokens of a step, padding included.
        dtype: Of the model's keys.
        device: Of the model.
        shifted: Whether plain text has bias 0, otherwise the strongest text has.

    Attributes:
        shifted: As above.
        digest: Of the settings.
        heads: For each layer the heads of this process that are steered.
    """

    def __init__(
        self, tokens: int, dtype: torch.dtype, device: torch.device, *, shifted: bool
    ) -> None:
        self.shifted = shifted
        self.digest = ""
        self.heads: dict[int, list[int]] = {}
        self._tokens = tokens
        self._dtype = dtype
        self._device = device
        self._buffers: dict[tuple[float, int], Tensor] = {}
        self._requests: dict[str, Weights] = {}
        self._written = 0  # first tokens of the buffers, beyond which there are zeros

    def channels(self, scale: float, width: int) -> Tensor:
        """The buffer for layers that scale their logits alike, shape (tokens, width)."""
        buffer = self._buffers.get((scale, width))
        if buffer is None:
            shape = (self._tokens, width)
            buffer = torch.zeros(shape, dtype=self._dtype, device=self._device)
            self._buffers[scale, width] = buffer
        return buffer

    def add(self, new: Iterable[Any], running: Container[str]) -> None:
        """Take in what vLLM's scheduler tells of new requests.

        Args:
            new: The requests.
            running: Ids of all that the worker knows; others have ended.
        """
        self._requests = {one: w for one, w in self._requests.items() if one in running}
        for request in new:
            told = getattr(request.sampling_params, "extra_args", None) or {}
            self._requests.pop(request.req_id, None)
            if KEY in told:
                self._requests[request.req_id] = Weights.load(told[KEY])

    def write(self, rows: Iterable[tuple[str, int, int]]) -> None:
        """Write the bias of one step.

        Args:
            rows: In the order of the step's tokens: id of a request, position of its first token in
                this step, and how many there are.
        """
        if not self._requests and not self._written:
            return
        rows = list(rows)
        tokens = sum(count for _, _, count in rows)
        logs = torch.zeros(max(tokens, self._written), dtype=torch.float64)
        position, self._written = 0, 0
        for request, first, count in rows:
            weights = self._requests.get(request)
            if weights is not None:
                for start, end, log in weights.between(first, first + count):
                    logs[position + start : position + end] = log
                    self._written = tokens
            position += count
        for (scale, _), buffer in self._buffers.items():
            exact = logs / scale
            high = exact.to(self._dtype)
            low = (exact - high.double()).to(self._dtype)
            pair = torch.stack([high, low], -1)
            if self._device.type != "cpu":
                pair = pair.pin_memory()  # given back only when the copy has been made
            buffer[: len(pair), :CHANNELS].copy_(pair, non_blocking=True)
