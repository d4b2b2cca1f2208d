"""Steered attention, as functions that transformers can call in place of its own.

Each runs on the kernel that a model was loaded with, and chooses the form of the arithmetic:

- Many queries on a fused kernel (prefill on sdpa, flash or flex attention): the wider heads, since
  the kernel then needs no mask of its own. Padding rides there too, so a padded batch of steered
  heads runs on the causal kernel, where the plain ones need a mask.
- Few queries (decoding): the logits are so few that they are written out. No key is copied into
  a wider one, and the sum is taken in float32. A model in float32 has those of all its heads
  written out, which takes less time than choosing keys for the steered ones.
- A model whose own kernel is eager (soft-capped logits, attention sinks): the bias is added to its
  mask. Such a model writes its logits out anyway.

Only the steered heads pay. The others come from the model's own kernel, but where all logits are
written out.

Everything about one request arrives as arguments of `forward`; nothing is stored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, causal_mask_function
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .arithmetic import Steering, biased_mask, widened, written_out
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

# Up to here written-out logits beat the wider keys (`benchmarks/overhead.py`, decoding).
_FEW_QUERIES = 16
# A logit so low that its weight is 0 in every precision, and that float16 holds when scaled.
_NEVER = -1e3
_PADDING = "steering_padding"


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
    are_few = kernel == "sdpa" and _has_few_queries(query, attention_mask)
    if are_few and query.dtype == steering.bias.dtype:
        return written_out(query, key, value, attention_mask, steering, kwargs), None
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


def _kernel(kernel: str, module: nn.Module) -> Attend:
    """The kernel as a function; eager attention is each model's own."""
    if kernel != "eager":
        return ALL_ATTENTION_FUNCTIONS[kernel]  # type: ignore[no-any-return]  # of functions like it
    for cls in type(module).__mro__:
        own = getattr(sys.modules[cls.__module__], "eager_attention_forward", None)
        if own is not None:
            return own  # type: ignore[no-any-return]  # of functions like it
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
    if isinstance(mask, Tensor) and mask.dim() == 4 and mask.shape[1] > 1:
        mask = mask[:, chosen]
    if len(chosen) < every:
        groups = every // key.shape[1]
        query = query[:, chosen]
        whole = len(chosen) == groups * len({head // groups for head in chosen})
        shared = sorted({h // groups for h in chosen}) if whole else [h // groups for h in chosen]
        key, value = key[:, shared], value[:, shared]
    if kernel == "sdpa" and _has_few_queries(query, mask):
        return written_out(query, key, value, mask, own, arguments)
    padding = getattr(mask, _PADDING, None)
    if padding is not None:
        own = replace(own, bias=own.bias.masked_fill(~padding.bool(), _NEVER))
        mask = None
    return widened(
        partial(attend, _Like(module, query.shape[1] // key.shape[1])),
        query,
        key,
        value,
        mask,
        own.bias,
        arguments,
    )


class _Like(nn.Module):
    """Stands in for a layer, with some of its heads: the kernel asks it how they are grouped."""

    def __init__(self, module: nn.Module, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.is_causal = getattr(module, "is_causal", True)
        self.config = getattr(module, "config", None)
        self.layer_idx = module.layer_idx
        self.training = False
