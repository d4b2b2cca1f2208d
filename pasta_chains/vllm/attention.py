"""Attention of the steered layers in vLLM: keys with channels that hold the bias.

Appending to each key its bias, and to the queries of the steered heads a 1, adds the bias to their
logits whatever kernel computes them: `[q, 1] · [k, b / scale] = q · k + b / scale`. Values get
zeros. Only layers with steered heads are changed, and nothing of the others' memory or time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad
from vllm.distributed import get_tensor_model_parallel_rank
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.models.utils import extract_layer_index
from vllm.v1.attention.backend import AttentionType

from ..errors import UnsupportedModelError
from .bias import CHANNELS, Bias

# The implementations whose kernels take wider heads, and the flash attention that was read for it.
_KNOWN = ("CPUAttentionBackendImpl", "FlashAttentionImpl")
_FLASH_VERSIONS = (2, 3)
_FLASH_MULTIPLE = 8


class SteeredAttention(Attention):  # type: ignore[misc]  # mypy runs without vLLM
    """A layer with wider heads than its model knows of.

    It widens what comes in before the kernels are called, where vLLM compiles the model, so that
    this melts into what is computed there anyway.

    Attributes:
        own_size: Size of a head of the model.
        channels: The bias of every token of a step, shape (tokens, more channels).
        lift: What the queries of each head get in these channels, shape (heads, more channels).
    """

    own_size: int
    channels: Tensor
    lift: Tensor

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output_shape: torch.Size | None = None,
        output_dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Attention; shapes (tokens, heads * size), or (tokens, heads, size)."""
        tokens = query.shape[0]
        query = query.view(-1, self.num_heads, self.own_size)
        key = key.view(-1, self.num_kv_heads, self.own_size)
        value = value.view(-1, self.num_kv_heads, self.own_size)
        bias = self.channels[:tokens, None].expand(-1, self.num_kv_heads, -1)
        wide: Tensor = super().forward(
            torch.cat([query, self.lift.expand(tokens, -1, -1)], -1),
            torch.cat([key, bias], -1),
            pad(value, (0, self.head_size - self.own_size)),
            output_dtype=output_dtype,
        )
        result = wide.view(-1, self.num_heads, self.head_size)[..., : self.own_size]
        return result.reshape(output_shape or (tokens, self.num_heads * self.own_size))


def steer_layers(
    model: Any, heads: Mapping[int, tuple[int, ...]], bias: Bias
) -> dict[int, list[int]]:
    """Change the layers of a loaded model that have steered heads.

    Args:
        model: The part of it that this process has.
        heads: For each layer, steered heads, counted over all ranks of tensor parallelism.
        bias: Where the bias of each step stands.

    Returns:
        For each layer those of the heads that are in this process, and steered now.

    Raises:
        UnsupportedModelError: A layer cannot be steered exactly.
    """
    layers = list(attention_layers(model))
    chosen = [layer for layer in layers if heads.get(_number(layer))]
    for layer in chosen:
        _check(layer, bias.shifted)
        if any(other.kv_sharing_target_layer_name == layer.layer_name for other in layers):
            raise _refused(layer, "another layer shares its cache")
    if len({layer.sliding_window for layer in layers}) > 1:
        chosen = layers  # vLLM allots cache to such a model only where its layers are alike
    steered: dict[int, list[int]] = {}
    for layer in chosen:
        first = get_tensor_model_parallel_rank() * layer.num_heads
        here = range(first, first + layer.num_heads)
        found = [head for head in heads.get(_number(layer), ()) if head in here]
        _widen(layer, [head - first for head in found], bias)
        steered.setdefault(_number(layer), []).extend(found)
    return steered


def attention_layers(model: Any) -> Iterable[Attention]:
    """The layers of a model that attend to the tokens of a prompt."""
    return (
        module
        for module in model.modules()
        if isinstance(module, Attention) and module.attn_type == AttentionType.DECODER
    )


def _number(layer: Attention) -> int:
    return int(extract_layer_index(layer.layer_name))


def _refused(layer: Attention, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"Layer {_number(layer)} cannot be steered exactly: {reason}.")


def _check(layer: Attention, shifted: bool) -> None:
    impl: Any = layer.impl
    if type(impl).__name__ not in _KNOWN:
        raise _refused(
            layer, f"its attention runs on {type(impl).__name__}; only {_KNOWN} are known"
        )
    if impl.logits_soft_cap:
        raise _refused(layer, "its logits are capped, and the bias would be, too")
    if layer.kv_cache_dtype.startswith(("fp8", "nvfp4", "int")) or layer.query_quant is not None:
        raise _refused(layer, "its keys or queries are quantized; leave --kv-cache-dtype out")
    if layer.head_size != layer.head_size_v:
        raise _refused(layer, "its keys and values differ in size")
    if layer.kv_sharing_target_layer_name is not None:
        raise _refused(layer, "it uses the cache of another layer")
    if layer.has_sink and shifted:
        raise _refused(layer, "it has attention sinks, which this type of model is not known for")
    if getattr(impl, "vllm_flash_attn_version", 2) not in _FLASH_VERSIONS:
        raise _refused(layer, f"FlashAttention {impl.vllm_flash_attn_version} was not tried")


def _widen(layer: Attention, heads: Iterable[int], bias: Bias) -> None:
    size, own_size, impl = _wide_size(layer), layer.head_size, cast(Any, layer.impl)
    channels = bias.channels(impl.scale, size - own_size)
    lift = channels.new_zeros((layer.num_heads, size - own_size))
    lift[[*heads], :CHANNELS] = 1
    kind = type(layer)
    layer.__class__ = type(f"Steered{kind.__name__}", (SteeredAttention, kind), {})
    assert isinstance(layer, SteeredAttention)
    layer.own_size, layer.channels, layer.lift = own_size, channels, lift
    layer.head_size = layer.head_size_v = impl.head_size = size


def _wide_size(layer: Attention) -> int:
    """The smallest size of a head with room for the channels that the kernels take."""
    least = layer.head_size + CHANNELS
    backend = layer.attn_backend
    if type(layer.impl).__name__ == "FlashAttentionImpl":
        size = -(-least // _FLASH_MULTIPLE) * _FLASH_MULTIPLE
        sizes = [size] if size <= 256 else []
    else:
        sizes = [size for size in backend.get_supported_head_sizes() if size >= least]
    if not sizes:
        raise _refused(layer, f"no kernel of {backend.get_name()} takes {least} channels")
    return int(min(sizes))
