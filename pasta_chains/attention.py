"""The steering arithmetic, as an attention function that transformers can call.

PASTA (Zhang et al., arXiv 2311.02262, section 3.1) scales the attention of a head to everything
outside the emphasis by alpha and renormalizes. With logits `s` that is `softmax(s + b) v`, where
`b` is log(alpha) outside the emphasis. Here the bias rides in one more channel of the head,
`q' = [q, 1]` and `k' = [k, b/scale]`, because `scale q'·k' = s + b`: any fused kernel computes it,
without a mask of its own and without the attention matrix.

Everything about one request arrives as arguments of `forward`; nothing is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .errors import UnsupportedModelError

NAME = "pasta"
"""What the attention function is registered as, with its mask function."""

BIAS = "steering_bias"
"""Argument of `forward`: a tensor (rows, prompt tokens), from `tokens.token_bias`."""

HEADS = "steering_heads"
"""Argument of `forward`: for each layer the heads to steer."""

# Kernels want head sizes that are a multiple of this.
_MULTIPLE = 8
# Gathered keys belong to their heads one to one: the layer's own grouping does not hold for them.
_UNGROUPED = nn.Module()
_NOT_STEERED_YET = {
    "sliding_window": "sliding-window attention",
    "softcap": "soft-capped attention logits",
    "s_aux": "attention sinks",
    "position_bias": "a position bias inside its attention",
}


def steered_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    steering_bias: Tensor | None = None,
    steering_heads: Mapping[int, tuple[int, ...]] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot product attention in which some heads read emphasized text more.

    Without a bias this is transformers' own `sdpa` attention, untouched.

    Args:
        module: The attention layer; its `layer_idx` chooses the heads.
        query: Shape (rows, heads, queries, head size).
        key: Shape (rows, key-value heads, keys, head size).
        value: Shape (rows, key-value heads, keys, head size).
        attention_mask: Shape (rows, 1, queries, keys), or None for plain causal attention.
        steering_bias: Shape (rows, prompt tokens); added to the logits of the first keys. Later
            keys, which are generated tokens, have bias 0.
        steering_heads: For each layer the numbers of its steered query heads.
        **kwargs: What transformers passes to `sdpa` attention.

    Returns:
        The output, shape (rows, queries, heads, head size), and None for the weights.

    Raises:
        UnsupportedModelError: The layer's attention is of a kind that is not steered yet.
    """
    if steering_bias is None or steering_heads is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    _refuse_other_attention(module, kwargs)
    heads = steering_heads[module.layer_idx]  # type: ignore[index]  # modules type it as Tensor
    plain = None
    if len(heads) < query.shape[1]:
        plain, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        if not heads:
            return plain, None
    steered = _biased(module, query, key, value, attention_mask, steering_bias, heads, kwargs)
    if plain is None:
        return steered, None
    return plain.index_copy(2, torch.tensor(heads, device=plain.device), steered), None


def register() -> None:
    """Make the attention function and its mask known to transformers, under `NAME`."""
    AttentionInterface.register(NAME, steered_attention)
    # Without a mask function of the same name the mask would be None and padding would be read.
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _refuse_other_attention(module: nn.Module, kwargs: Mapping[str, Any]) -> None:
    for argument, kind in _NOT_STEERED_YET.items():
        if kwargs.get(argument) is not None:
            raise UnsupportedModelError(
                f"{type(module).__name__} uses {kind}, which cannot be steered yet. Use the model "
                "through transformers, without emphasis, or choose one with full attention."
            )


def _biased(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    bias: Tensor,
    heads: tuple[int, ...],
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Attention of some heads with the bias in further channels: (rows, queries, these, size)."""
    size, value_size = query.shape[-1], value.shape[-1]
    scale = kwargs.get("scaling") or size**-0.5
    chosen = torch.tensor(heads, device=query.device)
    query = query[:, chosen]
    shared = chosen // getattr(module, "num_key_value_groups", 1)
    key, value = key[:, shared], value[:, shared]
    channels = _bias_channels(bias / scale, key)
    ones = query.new_ones((*query.shape[:-1], channels.shape[-1]))
    padding = -(size + channels.shape[-1]) % _MULTIPLE
    query = nn.functional.pad(torch.cat([query, ones], -1), (0, padding))
    key = nn.functional.pad(torch.cat([key, channels], -1), (0, padding))
    value = nn.functional.pad(value, (0, query.shape[-1] - value_size))
    output, _ = sdpa_attention_forward(
        _UNGROUPED, query, key, value, attention_mask, **{**kwargs, "scaling": scale}
    )
    return output[..., :value_size]


def _bias_channels(bias: Tensor, key: Tensor) -> Tensor:
    """The bias as further channels of the key: (rows, heads, keys, 1 or 2)."""
    rows, heads, keys, _ = key.shape
    # Fewer keys than prompt tokens: the first part of a prompt that is read in chunks.
    exact = nn.functional.pad(bias[:, :keys].float(), (0, max(keys - bias.shape[1], 0)))
    high = exact.to(key.dtype)
    parts = [high]
    if key.dtype in (torch.bfloat16, torch.float16):
        # One channel would err by up to 1.3 % in a token's weight, two by 1.2e-5.
        parts.append((exact - high.float()).to(key.dtype))
    return torch.stack(parts, -1)[:, None].expand(rows, heads, keys, len(parts))
