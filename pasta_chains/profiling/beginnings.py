"""The beginning of each prompt that steering cannot change, and a batch lined up at its end.

A token reads only what is before it, and where all of that has one and the same bias, softmax takes
it out again. So up to the first token with another bias a prompt is read as without steering.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from ..engine import SteeredModel
from ..profile import HeadProfile
from ..prompts import TokenizedPrompt
from .upper_layers import Reading

_ALIKE = 1e-4
"""Of the largest logit: rounding in float32 changes less."""

_WORTH = 0.9
"""Of its columns a batch must keep less, or what the cache costs is more than it saves."""


def read(
    model: SteeredModel,
    path: str | None,
    prompts: Sequence[TokenizedPrompt],
    every: HeadProfile,
    first: Sequence[int],
    width: int,
) -> Reading:
    """Read prompts unsteered, to read them with heads steered after that.

    Args:
        model: A steerable model.
        path: Where its layers are, from `path_of_layers`; None to read all for each head.
        prompts: With the bias of one alpha.
        every: A profile of all heads.
        first: For each prompt the number of its first token for which logits are wanted.
        width: For how many tokens.
    """
    inputs = model.inputs_of(prompts, every, left=False)
    whole = Reading(model.model, path, inputs, first, width)
    if path is None or not model.takes_batches or _is_coarse(model.model.dtype):
        return whole
    begins = [unchanged(prompt, before - 1) for prompt, before in zip(prompts, first, strict=True)]
    begin = max(begins)
    inputs = line_up(model.model, inputs, begins)
    columns = [begin - own + before for own, before in zip(begins, first, strict=True)]
    reading = Reading(model.model, path, inputs, columns, width, begin)
    pays = reading.columns <= _WORTH * whole.columns
    if pays and _can_be_cut(reading) and _are_alike(reading, whole, every):
        return reading
    return whole


def _can_be_cut(reading: Reading) -> bool:
    """Whether a model keeps all keys of the beginning, and no more: windows count padding, too."""
    kept = type(reading.cache) is DynamicCache  # others keep more than layers tell
    return kept and all(type(layer) is DynamicLayer for layer in reading.cache.layers)


def _is_coarse(dtype: torch.dtype) -> bool:
    """Whether rounding would hide that two pieces are read otherwise, as in bfloat16."""
    return torch.finfo(dtype).eps > torch.finfo(torch.float32).eps


def _are_alike(reading: Reading, whole: Reading, every: HeadProfile) -> bool:
    """Whether a model reads the same in two pieces, with every head steered.

    Some count positions in ways of their own; and with attention sinks one and the same bias of all
    tokens does not leave the attention as it is.
    """
    # Later columns than the first may be of padding; and a view of it would keep them in memory.
    found = reading.logits(every.heads)[:, 0].clone()
    wanted = whole.logits(every.heads)[:, 0]
    return bool((found - wanted).abs().max() <= _ALIKE * wanted.abs().max())


def unchanged(prompt: TokenizedPrompt, most: int) -> int:
    """Number of tokens at a prompt's beginning that are read alike, steered or not.

    Args:
        prompt: The prompt.
        most: Not more than so many.
    """
    bias = prompt.bias[:most]
    return next((at for at, one in enumerate(bias) if one != bias[0]), len(bias))


def line_up(model: Any, inputs: Mapping[str, Any], begins: Sequence[int]) -> dict[str, Any]:
    """Move rows to the right, so that a token of each is in the same column.

    Args:
        model: What the inputs are for.
        inputs: Of a batch, padded on the right.
        begins: For each row the number of that token. All get the greatest one's column.
    """
    mask = inputs["attention_mask"]
    moved = max(begins) - torch.tensor(begins, device=mask.device)[:, None]
    ends = mask.sum(1, keepdim=True) + moved
    source = torch.arange(int(ends.max()), device=mask.device)[None] - moved
    is_there = (source >= 0) & (source < mask.shape[1])
    source = source.clamp(0, mask.shape[1] - 1)

    def lined_up(rows: Tensor) -> Tensor:
        return rows.gather(1, source).where(is_there, 0)

    lined = {
        name: lined_up(value) if isinstance(value, Tensor) else value
        for name, value in inputs.items()
    }
    if "position_ids" in inspect.signature(model.forward).parameters:
        lined["position_ids"] = (lined["attention_mask"].cumsum(1) - 1).clamp(min=0)
    return lined
