"""Sampling that depends on its seed alone: not on other threads, rows or calls."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor


class SeededSampling(LogitsProcessor):
    """Draws the next token of each row from generators of its own.

    transformers samples with torch's global generator, which every thread shares. This comes last
    among the processors, draws by the Gumbel-max trick, and leaves the sampler one token.

    Each prompt of a batch gets the same random numbers, so a prompt's answer does not depend on
    what else is in the batch; its several answers get different ones.

    Args:
        seed: Any whole number from 0.
        copies: Answers to each prompt; rows come prompt by prompt.
    """

    def __init__(self, seed: int, copies: int = 1) -> None:
        self._generators = [
            torch.Generator().manual_seed(seed * 1_000_003 + copy) for copy in range(copies)
        ]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Returns scores, shape (rows, vocabulary), that are minus infinity but for one token."""
        noise = torch.stack(
            [
                torch.empty(scores.shape[1]).exponential_(generator=generator).log_().neg_()
                for generator in self._generators
            ]
        )
        noise = noise.to(scores.device).repeat(len(scores) // len(noise), 1)
        drawn = (scores.float() + noise).argmax(-1, keepdim=True)
        return torch.full_like(scores, float("-inf")).scatter(-1, drawn, 0.0)
