"""Which models and options of vLLM cannot be steered exactly, and are refused at start."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ProfileError, UnsupportedModelError
from .settings import Settings, heads_of, layers_of

# Types of models whose layers have attention sinks, in this version of vLLM.
_WITH_SINKS = ("gpt_oss", "laguna", "mimo_v2")


def checked_settings(vllm_config: Any) -> Settings:
    """What a server that steers is told, if it can do so.

    Raises:
        ProfileError: The profile is malformed or not for this model.
        UnsupportedModelError: The model, or an option of vLLM, cannot be steered exactly.
    """
    settings = Settings.of(vllm_config)
    assert settings is not None
    reason = _reason(vllm_config)
    if reason:
        raise UnsupportedModelError(
            f"vLLM cannot steer here: {reason}. Take pasta_chains out of --additional-config to "
            "serve without steering."
        )
    model = vllm_config.model_config
    settings.profile.check_fits(str(model.model), layers_of(model), heads_of(model))
    text = model.hf_text_config
    sinks = text.model_type.startswith(_WITH_SINKS) or getattr(text, "attention_sinks", False)
    return Settings(settings.profile, shifted=not sinks)


def check_steered(
    settings: Settings, told: Sequence[tuple[str, Mapping[int, Sequence[int]]] | None]
) -> None:
    """Refuse to serve unless the workers together steer all heads of a profile.

    Args:
        settings: Of the engine.
        told: For each worker the digest of its settings and the heads that it steers; None if it
            steers nothing.

    Raises:
        UnsupportedModelError: A worker does not steer.
        ProfileError: A worker has another profile, or the model has no such head.
    """
    steered: dict[int, set[int]] = {}
    for one in told:
        if one is None:
            raise UnsupportedModelError(
                "A worker does not steer: pasta_chains is not installed where it runs, or "
                "VLLM_PLUGINS there leaves it out."
            )
        digest, heads = one
        if digest != settings.digest:
            raise ProfileError(
                "A worker was started with another head profile. Start all with the same "
                "--additional-config."
            )
        for layer, numbers in heads.items():
            steered.setdefault(layer, set()).update(numbers)
    for layer, numbers in settings.profile.heads.items():
        missing = sorted(set(numbers) - steered.get(layer, set()))
        if missing:
            raise ProfileError(
                f"The head profile steers head {missing[0]} of layer {layer}, and there is no such "
                "head: the layer has no attention, or fewer heads."
            )


def _reason(config: Any) -> str | None:
    model, parallel, cache = config.model_config, config.parallel_config, config.cache_config
    text = model.hf_text_config
    if model.use_mla:
        return "the model's attention is of the kind MLA, whose keys have no room for a bias"
    if model.runner_type != "generate":
        return f"the server's runner is {model.runner_type!r}, which writes no answers"
    if getattr(text, "attn_logit_softcapping", None):
        return "the model caps its attention logits, and the bias would be capped, too"
    if cache.cache_dtype not in ("auto", "float16", "bfloat16", "float32"):
        return f"--kv-cache-dtype {cache.cache_dtype} would round the bias away"
    if parallel.decode_context_parallel_size > 1 or parallel.prefill_context_parallel_size > 1:
        return "context parallelism was not tried"
    if config.kv_transfer_config is not None:
        return "KV connectors were not tried, and some would mix keys of different emphasis"
    if os.environ.get("VLLM_USE_RUST_FRONTEND", "0") not in ("", "0", "false", "False"):
        return "the Rust front end does not load plugins, and would lose emphasis"
    if parallel.use_ubatching:
        return "dual-batch overlap was not tried"
    if getattr(config.speculative_config, "enable_adaptive_verification", False):
        return "adaptive verification moves draft tokens where only the GPU knows it"
    return None
