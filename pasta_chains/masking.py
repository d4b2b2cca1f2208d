"""Steering for models whose attention function cannot be ours.

Their attention adds the bias itself, to its logits or with its mask: softmax(s + mask + b) v,
design's form 1. A hook on each attention layer gives it a mask, (rows, heads, queries, keys), that
holds the bias, or what else its adapter names.

Such a model does not pass our arguments on to its layers, but every layer gets the request's own
cache of keys and values. So a hook on the model takes the arguments from `forward` and puts them on
the cache, and another takes them off when `forward` ends. Nothing about a request is stored on the
model. Without these arguments no hook changes anything.

Attention that writes its logits out adds the bias in float32 or, if it computes logits in half
precision, in that. The fused kernel of other devices than the CPU wants a mask of the model's own
type: in bfloat16 all weights outside the emphasis then err by up to 1 %, all by the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import Cache, DynamicCache, EncoderDecoderCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from . import attention
from .adapters import Adapter
from .arithmetic import Steering, biased_mask
from .cache import cache_name, given_cache
from .errors import UnsupportedModelError

_ON_CACHE = "steering"
_ARGUMENTS = (attention.BIAS, attention.HEADS, attention.SEEN, attention.WATCH)

Changed = tuple[tuple[Any, ...], dict[str, Any]] | None


def install(model: Any, adapter: Adapter) -> list[RemovableHandle]:
    """Hook a model's attention layers, once; the hooks are copied and pickled with it.

    Args:
        model: A `PreTrainedModel` of the adapter's type.
        adapter: Its adapter.

    Returns:
        What removes the hooks; nothing when the model has had them before.

    Raises:
        UnsupportedModelError: It has no such layers, as remote code may not.
    """
    if _take_off in model._forward_hooks.values():
        return []
    layers = [
        module
        for name, module in model.named_modules()
        if type(module).__name__ == adapter.attention
        and not any(word in name for word in ("cross", "encoder_attn"))
    ]
    supported = "position_bias" in inspect.signature(sdpa_attention_forward).parameters
    if not layers or (adapter.way == "position bias" and not supported):
        raise UnsupportedModelError(
            f"{type(model).__name__} has no {adapter.attention} that can be steered with this "
            "version of transformers."
        )
    places = [_place(module, adapter, model.config.get_text_config()) for module in layers]
    indexed = any(getattr(module, "indexer", None) is not None for module in layers)
    carry = partial(_carry, _names(model), _Unwanted if indexed else _NoStore)
    handles = [
        model.register_forward_pre_hook(carry, with_kwargs=True),
        model.register_forward_hook(_take_off, with_kwargs=True, always_call=True),
    ]
    for module, place in zip(layers, places, strict=True):
        handles += _hook(module, adapter, place)
    return handles


@dataclass(frozen=True)
class _Place:
    """Where a hook sits.

    Attributes:
        layer: Number of the layer.
        heads: How many query heads it has.
        names: Parameters of the module's `forward`.
        factor: What the bias is multiplied by.
    """

    layer: int
    heads: int
    names: tuple[str, ...]
    factor: float = 1.0

    def steering(self, given: Mapping[str, Any]) -> Steering | None:
        """The bias of this layer's keys, when a request steers it."""
        cache, carried = _carried(given)
        if cache is None or not carried or not carried[attention.HEADS][self.layer]:
            return None
        hidden, mask = given["hidden_states"], given.get("attention_mask")
        # The keys are not there yet; their mask is, or the cache knows how many there will be.
        if mask is not None and mask.ndim > 2:
            keys = mask.shape[-1]
        else:
            keys = cache.get_mask_sizes(hidden.shape[1], self.layer)[0]
        found = Steering.of_keys(
            carried[attention.BIAS],
            carried[attention.HEADS][self.layer],
            hidden.new_empty((1, 1, keys, 0)),
            carried.get(attention.SEEN),
        )
        return replace(found, bias=found.bias * self.factor)


Change = Callable[[_Place, nn.Module, Mapping[str, Any], Steering], dict[str, Any]]


def _place(module: nn.Module, adapter: Adapter, config: Any) -> _Place:
    factor = float(getattr(module, adapter.divisor)) if adapter.divisor else 1.0
    number = int(getattr(module, adapter.layer))
    return _Place(number, config.num_attention_heads, _names(module), factor)


def _hook(module: nn.Module, adapter: Adapter, place: _Place) -> list[RemovableHandle]:
    change: dict[str, Change] = {
        "mask": _biased_mask,
        "weights": _watched_values,
        "position bias": _position_bias,
    }
    if adapter.way == "pass on":
        before: Callable[..., Changed] = partial(_hand_on, place.names)
    else:
        before = partial(_before, place, change[adapter.way])
    handles = [module.register_forward_pre_hook(before, with_kwargs=True)]
    if adapter.way == "weights":
        handles.append(module.register_forward_hook(_reweigh, with_kwargs=True))
    indexer = getattr(module, "indexer", None)
    if adapter.way == "mask" and indexer is not None:
        before = partial(_before, replace(place, names=_names(indexer)), _plain_mask)
        handles.append(indexer.register_forward_pre_hook(before, with_kwargs=True))
    return handles


def _names(module: nn.Module) -> tuple[str, ...]:
    return tuple(inspect.signature(module.forward).parameters)


class _Unwanted(DynamicCache):
    """Carries the steering of a call that wants no cache."""


class _NoStore(_Unwanted):
    """One that keeps nothing, for layers that only update their cache."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return key_states, value_states


def _carry(
    names: tuple[str, ...],
    unwanted: type[_Unwanted],
    model: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Changed:
    """Before the model: put our arguments on the request's cache."""
    given = dict(zip(names, args, strict=False)) | kwargs
    steering = {name: given.pop(name) for name in _ARGUMENTS if name in given}
    if not steering:
        return None
    if steering.get(attention.BIAS) is None or steering.get(attention.HEADS) is None:
        return (), given
    cache = given_cache(given)
    if cache is None:
        stores = given.get("use_cache")
        if stores is None:
            stores = getattr(model.config.get_text_config(), "use_cache", True)
        cache = (DynamicCache if stores else unwanted)(config=model.config)
        given[cache_name(model)] = cache
    setattr(cache, _ON_CACHE, steering)
    return (), given


def _carried(given: Mapping[str, Any]) -> tuple[Cache | None, dict[str, Any] | None]:
    """The cache that a module is given, and our arguments if it carries them."""
    cache = next((x for x in given.values() if isinstance(x, Cache)), None)
    return cache, vars(cache).get(_ON_CACHE) if cache is not None else None


def _take_off(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """After the model, even if it raised: take our arguments off the cache."""
    cache = given_cache(kwargs)
    if not isinstance(cache, Cache) or vars(cache).pop(_ON_CACHE, None) is None:
        return None
    if not isinstance(cache, _Unwanted) or output is None:
        return None
    if isinstance(output, tuple):
        return tuple(part for part in output if part is not cache)
    return type(output)(**{name: part for name, part in output.items() if part is not cache})


def _before(
    place: _Place,
    change: Change,
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Changed:
    """Before a layer that is steered: change some of its arguments."""
    given = dict(zip(place.names, args, strict=False)) | kwargs
    steering = place.steering(given)
    return None if steering is None else ((), given | change(place, module, given, steering))


def _biased_mask(
    place: _Place, module: nn.Module, given: Mapping[str, Any], steering: Steering
) -> dict[str, Any]:
    hidden, mask = given["hidden_states"], given.get("attention_mask")
    rows, queries, _ = hidden.shape
    keys = steering.bias.shape[1]
    if mask is None:  # left out where a causal kernel needs none
        every = torch.ones((1, 1, queries, keys), dtype=torch.bool, device=hidden.device)
        mask = every.tril(keys - queries)
    query = hidden.new_empty((rows, place.heads, queries, 0))
    biased = biased_mask(mask, steering, query, hidden.new_empty((1, 1, keys, 0)))
    return {"attention_mask": _for_kernel(biased, module, hidden)}


def _for_kernel(added: Tensor, module: nn.Module, hidden: Tensor) -> Tensor:
    """In float32 where the logits can be; fused kernels of other devices want their own type."""
    kernel = getattr(getattr(module, "config", None), "_attn_implementation", "eager")
    return added if kernel == "eager" or added.device.type == "cpu" else added.to(hidden.dtype)


def _plain_mask(
    place: _Place, module: nn.Module, given: Mapping[str, Any], steering: Steering
) -> dict[str, Any]:
    """An indexer reads the mask of the layer's first head: take the bias off again."""
    mask, dtype = given["attention_mask"], given["hidden_states"].dtype
    lowest = torch.finfo(dtype).min
    return {"attention_mask": torch.where(mask <= lowest / 2, lowest, 0.0).to(dtype)}


def _position_bias(
    place: _Place, module: nn.Module, given: Mapping[str, Any], steering: Steering
) -> dict[str, Any]:
    rows, keys = steering.bias.shape
    bias = steering.bias.new_zeros((rows, place.heads, 1, keys))
    bias[:, list(steering.heads)] = steering.bias[:, None, None, :]
    return {"position_bias": _for_kernel(bias, module, given["hidden_states"])}


def _hand_on(
    names: tuple[str, ...], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Changed:
    """Before a layer that calls our attention function: our arguments, whatever it steers."""
    given = dict(zip(names, args, strict=False)) | kwargs
    carried = _carried(given)[1]
    return ((), given | carried) if carried else None


class _Watched:
    """A layer's cache, which keeps the values that it returned."""

    def __init__(self, cache: Cache, steering: Steering) -> None:
        self.cache = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        self.steering = steering
        self.values: Tensor | None = None

    def update(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, self.values = self.cache.update(*args, **kwargs)
        return keys, self.values

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


def _watched_values(
    place: _Place, module: nn.Module, given: Mapping[str, Any], steering: Steering
) -> dict[str, Any]:
    told = {"output_attentions": True} if "output_attentions" in place.names else {}
    caches = {name: cache for name, cache in given.items() if isinstance(cache, Cache)}
    return told | {name: _Watched(cache, steering) for name, cache in caches.items()}


def _reweigh(
    module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Any, ...]
) -> tuple[Any, ...] | None:
    """After a layer that returns its weights p: read its values anew by softmax(log p + b)."""
    watched = next((x for x in kwargs.values() if isinstance(x, _Watched)), None)
    if watched is None or watched.values is None:
        return None
    steering, values = watched.steering, watched.values
    weights = output[1].clone()
    chosen = list(steering.heads)
    logits = weights[:, chosen].float().log() + steering.bias[:, None, None, :]
    weights[:, chosen] = logits.softmax(-1).to(weights.dtype)
    read = (weights.to(values.dtype) @ values).transpose(1, 2).flatten(2)
    return module.out_proj(read), weights, *output[2:]
