"""The steering arithmetic: softmax(s + b) v, in three forms, each exact.

PASTA (Zhang et al., arXiv 2311.02262, section 3.1) scales the attention of a head to everything
outside the emphasis by alpha and renormalizes. With logits `s` that is `softmax(s + b) v`, where
`b` is log(alpha) outside the emphasis.

- `biased_mask` adds the bias to a mask, head by head, for attention that writes its logits out.
- `written_out` writes the logits out itself.
- `widened` lets the bias ride in one more channel of the head, `q' = [q, 1]` and
  `k' = [k, b/scale]`, since `scale q'·k' = s + b`. No attention matrix exists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Kernels want head sizes that are a multiple of this.
_MULTIPLE = 8


@dataclass(frozen=True)
class Steering:
    """What one layer needs to know of a request.

    Attributes:
        bias: Shape (rows, keys), float32 or wider; added to the logits of the steered heads.
        heads: Numbers of the steered query heads.
    """

    bias: Tensor
    heads: tuple[int, ...]

    @classmethod
    def of_keys(
        cls, bias: Tensor, heads: tuple[int, ...], key: Tensor, seen: int | None
    ) -> Steering:
        """Line the bias of a prompt up with a layer's keys.

        Args:
            bias: Shape (rows, prompt tokens).
            heads: Numbers of the steered query heads.
            key: Shape (rows, heads, keys, head size).
            seen: How many tokens each row has had, when a layer may keep only the last of them
                (sliding windows): its keys are then the last ones. None when all are kept. A
                cache of fixed size has keys after the last token, which a mask hides.
        """
        keys = key.shape[2]
        bias = bias.to(key.device, torch.promote_types(key.dtype, torch.float32))
        first = 0 if seen is None else max(seen - keys, 0)
        own = bias[:, first : first + keys]
        # Later keys are generated tokens, which are read like the strongest text: bias 0.
        return cls(nn.functional.pad(own, (0, keys - own.shape[1])), heads)


def biased_mask(mask: Tensor | None, steering: Steering, query: Tensor, key: Tensor) -> Tensor:
    """A mask to add to logits, with the bias on the steered heads: (rows, heads, queries, keys).

    Design: form 1, the definition. Float32, since one bfloat16 would err by 1 % in a weight.

    Args:
        mask: Shape (rows, 1 or heads, queries, keys), to add or of booleans; None for no mask.
        steering: Bias and heads.
        query: Shape (rows, heads, queries, head size).
        key: Shape (rows, key-value heads, keys, head size).
    """
    rows, heads, queries, _ = query.shape
    keys = key.shape[2]
    added = steering.bias.new_zeros((rows, heads, queries, keys))
    if mask is not None:
        added = added + _to_add(mask[..., :keys], query.dtype)
    added[:, list(steering.heads)] += steering.bias[:, None, None, :]
    return added


def _to_add(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return mask.new_zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


def _scaling(query: Tensor, arguments: Mapping[str, Any]) -> float:
    return float(arguments.get("scaling") or query.shape[-1] ** -0.5)


def written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    steering: Steering,
    arguments: Mapping[str, Any],
) -> Tensor:
    """Form 1, in float32 at least: softmax(s + b) v, of all heads, with b on the steered ones."""
    dtype, bias = steering.bias.dtype, steering.bias[:, None, None, :]
    wide_query, wide_key, wide_value = (x.to(dtype) for x in (query, key, value))
    rows, heads, queries, size = query.shape
    # The query heads that share a key are queries of it, so keys are not repeated.
    together = (wide_query * _scaling(query, arguments)).reshape(rows, key.shape[1], -1, size)
    logits = (together @ wide_key.transpose(-1, -2)).view(rows, heads, queries, -1)
    for added in (mask, arguments.get("position_bias")):
        if added is not None:
            logits = logits + _to_add(added[..., : key.shape[2]], dtype)
    if len(steering.heads) == heads:
        logits = logits + bias
    else:
        for head in steering.heads:
            logits[:, head : head + 1] += bias
    weights: Tensor = logits.softmax(-1).view(rows, key.shape[1], -1, key.shape[2])
    read = (weights @ wide_value).view(rows, heads, queries, -1)
    return read.transpose(1, 2).to(value.dtype).contiguous()


def widened(
    attend: Callable[..., tuple[Tensor, Any]],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    bias: Tensor,
    arguments: Mapping[str, Any],
) -> Tensor:
    """The kernel, with the bias in further channels of the head."""
    value_size, scaling = value.shape[-1], _scaling(query, arguments)
    # A product that no number of the key's type holds would end in one that is none.
    lowest = torch.finfo(key.dtype).min / 2
    channels = _bias_channels((bias / scaling).clamp(min=lowest), key)
    ones = query.new_ones((*query.shape[:-1], channels.shape[-1]))
    width = query.shape[-1] + channels.shape[-1]
    width += -width % _MULTIPLE
    query = _padded(torch.cat([query, ones], -1), width)
    key = _padded(torch.cat([key, channels], -1), width)
    value = _padded(value, width)
    output, _ = attend(query, key, value, mask, **{**arguments, "scaling": scaling})
    return output[..., :value_size]


def _padded(tensor: Tensor, width: int) -> Tensor:
    return nn.functional.pad(tensor, (0, width - tensor.shape[-1]))


def _bias_channels(bias: Tensor, key: Tensor) -> Tensor:
    """The bias as further channels of the key: (rows, heads, keys, 1 or 2)."""
    rows, heads, keys, _ = key.shape
    high = bias.to(key.dtype)
    parts = [high]
    if key.dtype in (torch.bfloat16, torch.float16):
        # One channel would err by up to 1.6 % in a token's weight, two by 3e-5.
        parts.append((bias - high.float()).to(key.dtype))
    return torch.stack(parts, -1)[:, None].expand(rows, heads, keys, len(parts))
