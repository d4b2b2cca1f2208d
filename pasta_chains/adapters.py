"""Which types of models cannot have our attention function, and how each is steered instead.

Three kinds of types need an adapter: those that do not ask transformers for their attention
function, those whose layers do not hand our arguments to it, and those that choose keys only under
the name of transformers' own functions. `masking` does what an adapter says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .errors import UnsupportedModelError


@dataclass(frozen=True)
class Adapter:
    """How the attention of one type of model is steered.

    Attributes:
        attention: Class name of its self-attention layers.
        way: "mask" adds the bias to the layer's mask. "weights" does so after the softmax, where
            the mask can hold none: softmax(log p + b). "position bias" gives it as an argument of
            transformers' sdpa, where the layer chooses keys by its mask. "pass on" hands our
            arguments to a layer that would call our attention function, had it been given them.
        kernels: Attention implementations for which this holds.
        layer: Name of the attribute that is the number of a layer.
        divisor: Name of the attribute by which a layer divides its logits after adding the mask.
    """

    attention: str
    way: Literal["mask", "weights", "position bias", "pass on"] = "mask"
    kernels: tuple[str, ...] = ("eager",)
    layer: str = "layer_idx"
    divisor: str | None = None


def _sparse(attention_class: str) -> Adapter:
    """Chooses keys by an indexer, but only under its kernel's own name."""
    return Adapter(attention_class, "position bias", ("sdpa",))


ADAPTERS = {
    "big_bird": Adapter("BigBirdSelfAttention"),
    "bloom": Adapter("BloomAttention"),
    "codegen": Adapter("CodeGenAttention", divisor="scale_attn"),
    "falcon": Adapter("FalconAttention", kernels=("eager", "sdpa")),
    "gpt_neo": Adapter("GPTNeoSelfAttention", layer="layer_id"),
    "gpt_neox_japanese": Adapter("GPTNeoXJapaneseAttention"),
    "gptj": Adapter("GPTJAttention"),
    "megatron-bert": Adapter("MegatronBertSelfAttention"),
    "mpt": Adapter("MptAttention", "weights"),
    "mvp": Adapter("MvpAttention", "weights"),
    "rembert": Adapter("RemBertSelfAttention"),
    "roformer": Adapter("RoFormerSelfAttention"),
    "trocr": Adapter("TrOCRAttention", "weights"),
    "xglm": Adapter("XGLMAttention", "weights"),
    "nemotron": Adapter("NemotronAttention", "pass on", ()),
    "stablelm": Adapter("StableLmAttention", "pass on", ()),
    "axk2": _sparse("AXK2Attention"),
    "deepseek_v32": _sparse("DeepseekV32Attention"),
    "dots3_note_text": _sparse("Dots3NoteTextAttention"),
    "glm5_next_text": _sparse("Glm5NextTextAttention"),
    "glm_moe_dsa": _sparse("GlmMoeDsaAttention"),
    "hy_v4": Adapter("HYV4Attention"),
    "minimax_m3_vl_text": _sparse("MiniMaxM3VLAttention"),
    "mistral_large4_text": _sparse("MistralLarge4TextAttention"),
}
"""The types of models that need one, by `model_type`."""

# Where transformers lets their attention function be chosen (since 5.24), these need none.
_ONCE_CLOSED = {"codegen", "gptj"}

_DRAFTS = "it drafts for another model, whose embeddings and keys it reads"
_CLOSED = {
    "blt": "its layers read patches of bytes, not tokens",
    "cpmant": "it reads tokens of its own before the prompt",
    "gemma4_assistant": _DRAFTS,
    "gemma4_unified_assistant": _DRAFTS,
    "got_ocr2": "it reads images",
    "openai-gpt": "it has no cache to carry the steering to its layers",
    "prophetnet": "it reads a prompt in several streams",
    "reformer": "it sorts its keys into buckets",
    "rwkv": "it has no attention",
    "xlm": "it has no cache to carry the steering to its layers",
    "xlnet": "it reads a prompt in two streams",
}


def adapter_of(model: Any) -> Adapter | None:
    """Returns the adapter of a model's type, or None when it needs none.

    Raises:
        UnsupportedModelError: It needs one that is not there, or not for the attention
            implementation that it was loaded with.
    """
    name, kind = type(model).__name__, model.config.model_type
    if kind in _CLOSED:
        raise UnsupportedModelError(f"{name} cannot be steered: {_CLOSED[kind]}.")
    if kind in _ONCE_CLOSED and model._can_set_attn_implementation():
        return None
    adapter = ADAPTERS.get(kind) or ADAPTERS.get(model.config.get_text_config().model_type)
    if adapter is None:
        if not model._can_set_attn_implementation():
            raise UnsupportedModelError(
                f"{name} does not let its attention function be chosen, and there is no adapter "
                f"for models of type {kind!r}, so it cannot be steered."
            )
        return None
    kernel = model.config.get_text_config()._attn_implementation
    if adapter.kernels and kernel not in adapter.kernels:
        raise UnsupportedModelError(
            f"{name} cannot be steered with {kernel} attention. Load it with "
            f"attn_implementation={adapter.kernels[-1]!r}."
        )
    return adapter
