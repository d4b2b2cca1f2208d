"""The steering arithmetic, as attention functions that transformers can call.

PASTA (Zhang et al., arXiv 2311.02262, section 3.1) scales the attention of a head to everything
outside the emphasis by alpha and renormalizes. With logits `s` that is `softmax(s + b) v`, where
`b` is log(alpha) outside the emphasis. There are three ways to compute it here, each exact:

- Many queries on a fused kernel (prefill on sdpa, flash or flex attention): the bias rides in one
  more channel of the head, `q' = [q, 1]` and `k' = [k, b/scale]`, since `scale q'·k' = s + b`. The
  kernel needs no mask of its own, and no attention matrix exists. Padding rides there too, so a
  padded batch of steered heads runs on the causal kernel, where the plain ones need a mask.
- Few queries (decoding): the logits are so few that they are written out. No key is copied into
  a wider one, and the sum is taken in float32. A model in float32 has those of all its heads
  written out, which takes less time than choosing keys for the steered ones.
- A model whose own kernel is eager (soft-capped logits, attention sinks): the bias is added to its
  mask, head by head. Such a model writes its logits out anyway.

Only the steered heads pay. The others come from the model's own kernel, but where all logits are
written out.

Everything about one request arrives as arguments of `forward`; nothing is stored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, causal_mask_function
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .errors import UnsupportedModelError

PREFIX = "pasta_"
"""Our attention functions are registered as this and the name of the kernel they run on."""

BIAS = "steering_bias"
"""Argument of `forward`: a tensor (rows, prompt tokens), from `tokens.token_bias`."""

HEADS = "steering_heads"
"""Argument of `forward`: for each layer the heads to steer."""

SEEN = "steering_seen"
"""Argument of `forward`: how many tokens each row has had, this call's included; see `Steering`."""

WATCH = "steering_watch"
"""Argument of `forward`: what is shown each layer's queries and keys; see `inspection`."""

Attend = Callable[..., tuple[Tensor, Any]]

# Kernels want head sizes that are a multiple of this.
_MULTIPLE = 8
# Up to here written-out logits beat the wider keys (`benchmarks/overhead.py`, decoding).
_FEW_QUERIES = 16
# A logit so low that its weight is 0 in every precision, and that float16 holds when scaled.
_NEVER = -1e3
_PADDING = "steering_padding"


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


def register(kernel: str) -> str:
    """Make steered attention on a kernel known to transformers, with the kernel's mask.

    Args:
        kernel: What transformers calls it: "sdpa", "eager", "flash_attention_2", ….

    Returns:
        The name of the attention function.
    """
    kernel = kernel.removeprefix(PREFIX)
    name = PREFIX + kernel
    AttentionInterface.register(name, partial(steered_attention, kernel))
    # Without a mask function of the same name the mask would be None and padding would be read.
    mask = ALL_MASK_ATTENTION_FUNCTIONS[kernel]
    AttentionMaskInterface.register(
        name, partial(_mask_that_knows_its_padding, mask) if kernel == "sdpa" else mask
    )
    return name


def steered_attention(
    kernel: str,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    steering_bias: Tensor | None = None,
    steering_heads: Mapping[int, tuple[int, ...]] | None = None,
    steering_seen: int | None = None,
    steering_watch: Callable[..., None] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Any]:
    """Attention in which some heads read emphasized text more.

    Without a bias this is the kernel itself, untouched.

    Args:
        kernel: The attention that the model would use on its own.
        module: The attention layer; its `layer_idx` chooses the heads.
        query: Shape (rows, heads, queries, head size).
        key: Shape (rows, key-value heads, keys, head size).
        value: Shape (rows, key-value heads, keys, value size).
        attention_mask: What the kernel's mask function made.
        steering_bias: Shape (rows, prompt tokens); added to the logits of these keys. Later keys,
            which are generated tokens, have bias 0.
        steering_heads: For each layer the numbers of its steered query heads.
        steering_seen: See `Steering.of_keys`.
        steering_watch: Called with (layer, query, key, mask, steering, kwargs); steering is None
            where no head is steered.
        **kwargs: What transformers passes to the kernel.

    Returns:
        The output, shape (rows, queries, heads, value size), and what the kernel returns beside it.

    Raises:
        UnsupportedModelError: This kind of attention cannot be steered on this kernel.
    """
    attend = _kernel(kernel, module)
    steering = None
    if steering_bias is not None and steering_heads is not None:
        heads = steering_heads[module.layer_idx]  # type: ignore[index]  # modules type it as Tensor
        if heads:
            steering = Steering.of_keys(steering_bias, heads, key, steering_seen)
    if steering_watch is not None:
        steering_watch(module.layer_idx, query, key, attention_mask, steering, kwargs)
    if steering is None:
        return attend(module, query, key, value, attention_mask, **kwargs)
    if kernel == "eager":
        mask = biased_mask(attention_mask, steering, query, key)
        return attend(module, query, key, value, mask, **kwargs)
    if kwargs.get("softcap") is not None:
        raise UnsupportedModelError(
            f"{type(module).__name__} caps its logits, so a bias added before {kernel} attention "
            "would be capped too. Load the model with attn_implementation='eager'."
        )
    written_out = kernel == "sdpa" and _has_few_queries(query, attention_mask)
    if written_out and query.dtype == steering.bias.dtype:
        return _written_out(query, key, value, attention_mask, steering, kwargs), None
    every = len(steering.heads) == query.shape[1]
    plain = None if every else attend(module, query, key, value, attention_mask, **kwargs)
    steered = _steered_heads(
        kernel, attend, module, query, key, value, attention_mask, steering, kwargs
    )
    if plain is None:
        return steered.contiguous(), None  # as a kernel does: some models call `view`
    chosen = torch.tensor(steering.heads, device=steered.device)
    return plain[0].index_copy(2, chosen, steered.to(plain[0].dtype)), plain[1]


def _has_few_queries(query: Tensor, mask: Tensor | None) -> bool:
    """Whether logits are few enough to be written out; without a mask, they must need none."""
    return query.shape[2] == 1 or (query.shape[2] <= _FEW_QUERIES and mask is not None)


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
        added = added + _to_add(mask[..., :keys], torch.finfo(query.dtype).min)
    added[:, list(steering.heads)] += steering.bias[:, None, None, :]
    return added


def _to_add(mask: Tensor, hidden: float) -> Tensor:
    return torch.where(mask, 0.0, hidden) if mask.dtype == torch.bool else mask


def _kernel(kernel: str, module: nn.Module) -> Attend:
    """The kernel as a function; eager attention is each model's own."""
    if kernel != "eager":
        return ALL_ATTENTION_FUNCTIONS[kernel]  # type: ignore[no-any-return]
    for cls in type(module).__mro__:
        own = getattr(sys.modules[cls.__module__], "eager_attention_forward", None)
        if own is not None:
            return own  # type: ignore[no-any-return]
    raise UnsupportedModelError(
        f"{type(module).__name__} has no eager attention function of its own, so it cannot be "
        "steered."
    )


def _mask_that_knows_its_padding(
    make: Callable[..., Tensor | None], **kwargs: Any
) -> Tensor | None:
    """A mask of transformers; one of nothing but causality and padding says which tokens are there.

    It belongs to one call of `forward`, like the tensor it is.
    """
    mask = make(**kwargs)
    padding = kwargs.get("attention_mask")
    if (
        mask is not None
        and not torch.compiler.is_compiling()
        and kwargs.get("mask_function") is causal_mask_function
        and not kwargs.get("use_vmap")
        and padding is not None
        and kwargs["q_length"] == kwargs["kv_length"] == padding.shape[-1]
    ):
        setattr(mask, _PADDING, padding)
    return mask


def _steered_heads(
    kernel: str,
    attend: Attend,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    steering: Steering,
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Attention of the steered heads alone: (rows, queries, these heads, value size)."""
    every = query.shape[1]
    chosen = list(steering.heads)
    own = replace(steering, heads=tuple(range(len(chosen))))
    arguments = dict(kwargs)
    for name in ("position_bias", "s_aux"):  # of the heads, one by one
        given = kwargs.get(name)
        if given is not None and given.shape[-3 if name == "position_bias" else 0] > 1:
            arguments[name] = given[:, chosen] if name == "position_bias" else given[chosen]
    if mask is not None and mask.dim() == 4 and mask.shape[1] > 1:
        mask = mask[:, chosen]
    if len(chosen) < every:
        groups = every // key.shape[1]
        query = query[:, chosen]
        whole = len(chosen) == groups * len({head // groups for head in chosen})
        shared = sorted({h // groups for h in chosen}) if whole else [h // groups for h in chosen]
        key, value = key[:, shared], value[:, shared]
    if kernel == "sdpa" and _has_few_queries(query, mask):
        return _written_out(query, key, value, mask, own, arguments)
    padding = getattr(mask, _PADDING, None)
    if padding is not None:
        own = replace(own, bias=own.bias.masked_fill(~padding.bool(), _NEVER))
        mask = None
    return _widened(
        partial(attend, _Like(module, query.shape[1] // key.shape[1])),
        query,
        key,
        value,
        mask,
        own.bias,
        arguments,
    )


def _scaling(query: Tensor, arguments: Mapping[str, Any]) -> float:
    return float(arguments.get("scaling") or query.shape[-1] ** -0.5)


def _written_out(
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
            logits = logits + _to_add(added[..., : key.shape[2]], float("-inf"))
    if len(steering.heads) == heads:
        logits = logits + bias
    else:
        for head in steering.heads:
            logits[:, head : head + 1] += bias
    weights: Tensor = logits.softmax(-1).view(rows, key.shape[1], -1, key.shape[2])
    read = (weights @ wide_value).view(rows, heads, queries, -1)
    return read.transpose(1, 2).to(value.dtype).contiguous()


def _widened(
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
    channels = _bias_channels(bias / scaling, key)
    ones = query.new_ones((*query.shape[:-1], channels.shape[-1]))
    width = query.shape[-1] + channels.shape[-1]
    width += -width % _MULTIPLE
    query = _padded(torch.cat([query, ones], -1), width)
    key = _padded(torch.cat([key, channels], -1), width)
    value = _padded(value, width)
    output, _ = attend(query, key, value, mask, **{**arguments, "scaling": scaling})
    return output[..., :value_size]


class _Like(nn.Module):
    """Stands in for a layer, with some of its heads: the kernel asks it how they are grouped."""

    def __init__(self, module: nn.Module, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.is_causal = getattr(module, "is_causal", True)
        self.config = getattr(module, "config", None)
        self.layer_idx = module.layer_idx
        self.training = False


def _padded(tensor: Tensor, width: int) -> Tensor:
    return nn.functional.pad(tensor, (0, width - tensor.shape[-1]))


def _bias_channels(bias: Tensor, key: Tensor) -> Tensor:
    """The bias as further channels of the key: (rows, heads, keys, 1 or 2)."""
    rows, heads, keys, _ = key.shape
    high = bias.to(key.dtype)
    parts = [high]
    if key.dtype in (torch.bfloat16, torch.float16):
        # One channel would err by up to 1.3 % in a token's weight, two by 1.2e-5.
        parts.append((bias - high.float()).to(key.dtype))
    return torch.stack(parts, -1)[:, None].expand(rows, heads, keys, len(parts))
