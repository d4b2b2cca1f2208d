"""Tensors of a batch: tokens, padding, and the steering of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import attention
from .prompts import TokenizedPrompt


def batch_inputs(
    prompts: Sequence[TokenizedPrompt],
    heads: Mapping[int, tuple[int, ...]],
    *,
    pad: int | None,
    device: torch.device,
    left: bool = True,
) -> dict[str, Any]:
    """What a model's `forward` and `generate` take for a batch.

    Args:
        prompts: One per row.
        heads: For each layer the heads to steer; empty when none is.
        pad: The padding token, if the tokenizer has one.
        device: Where the model is.
        left: Pad on the left, so that every row ends where its answer begins.

    Returns:
        `input_ids` and `attention_mask` of shape (rows, tokens), and the steering arguments when
        any row is steered.
    """
    width = max(len(prompt.ids) for prompt in prompts)

    def padded(rows: list[list[Any]], filler: float) -> Tensor:
        added = [[filler] * (width - len(row)) for row in rows]
        return torch.tensor(
            [more + row if left else row + more for more, row in zip(added, rows, strict=True)],
            device=device,
        )

    inputs: dict[str, Any] = {
        # Padding is masked, so without a token for it any will do.
        "input_ids": padded([prompt.ids for prompt in prompts], 0 if pad is None else pad),
        "attention_mask": padded([[1] * len(prompt.ids) for prompt in prompts], 0),
    }
    if heads and any(prompt.is_steered for prompt in prompts):
        inputs[attention.BIAS] = padded([prompt.bias for prompt in prompts], 0.0)
        inputs[attention.HEADS] = heads
    return inputs
