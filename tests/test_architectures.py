"""The tiny models of every architecture: small, sharp, and as many as can be made."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version

import architectures
import pytest
import torch
from architectures import OLDEST, TYPES, UNBUILDABLE
from huggingface_hub.errors import (
    StrictDataclassClassValidationError,
    StrictDataclassFieldValidationError,
)
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

BUILDABLE = [kind for kind in TYPES if kind not in UNBUILDABLE]
IDS = torch.randint(3, 260, (1, 40), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model_type", BUILDABLE)
def test_is_small_runs_and_generates(model_type: str) -> None:
    model = architectures.decoder(model_type)
    assert type(model).__name__ == MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    assert sum(weights.numel() for weights in model.parameters()) < 1e6
    assert all(weights.dtype == torch.float32 for weights in model.parameters())
    changed = IDS.clone()
    changed[0, 30] = 300
    with torch.no_grad():
        logits, other = model(input_ids=IDS).logits, model(input_ids=changed).logits
    assert logits.shape[:2] == (1, 40)
    assert logits.shape[2] >= 360
    assert logits.isfinite().all()
    assert 0.3 < logits.std() < 10
    assert (logits - other)[0, 31:].abs().max() > 0.05  # later positions read it
    new = model.generate(
        IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=4, min_new_tokens=4
    )
    assert new.shape == (1, 44)


def test_needs_timm() -> None:
    if importlib.util.find_spec("timm"):
        pytest.skip("timm is installed")
    with pytest.raises(ImportError, match="requires the timm library"):
        architectures.decoder("gemma3n")


@pytest.mark.parametrize("model_type", ["musicgen", "musicgen_melody"])
def test_music_is_refused_by_transformers(model_type: str) -> None:
    assert UNBUILDABLE[model_type]
    wrong = AttributeError, "Config' object has no attribute 'dropout'"
    in_oldest = StrictDataclassFieldValidationError, "text_encoder"
    error, told = in_oldest if OLDEST else wrong
    with pytest.raises(error, match=told):
        architectures.decoder(model_type)


def test_drafting_model_needs_the_drafted_one() -> None:
    model = architectures.decoder("gemma4_unified_assistant")
    with pytest.raises(ValueError, match="inputs_embeds and shared_kv_states cannot be None"):
        model(input_ids=IDS)


def test_no_drafting_gemma4_can_be_made() -> None:
    """Its configuration wants the keys of all layers shared, which the model inside refuses."""
    alone = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
    kind = CONFIG_MAPPING["gemma4_assistant"]
    with pytest.raises(StrictDataclassClassValidationError, match="must be shared"):
        kind(text_config=architectures.config("gemma4_text", num_kv_shared_layers=1, **alone))
    shared = kind(text_config=architectures.config("gemma4_text", num_kv_shared_layers=2, **alone))
    if not version("transformers").startswith("5.23."):
        model = AutoModelForCausalLM.from_config(shared)
        with pytest.raises(ValueError, match="inputs_embeds and shared_kv_states cannot be None"):
            model(input_ids=IDS)
    else:
        with pytest.raises(ValueError, match="set of layer types producing a cache is different"):
            AutoModelForCausalLM.from_config(shared)


@pytest.mark.skipif(not OLDEST, reason="newer versions of transformers build it")
def test_a_rotary_embedding_is_empty() -> None:
    with pytest.raises(RuntimeError, match="expanded size"):
        architectures.decoder("cohere_compass_text")


def test_every_exception_is_proven_here() -> None:
    proven = {"gemma3n", "musicgen", "musicgen_melody"}
    proven |= {"gemma4_assistant", "gemma4_unified_assistant"}
    assert proven | ({"cohere_compass_text"} if OLDEST else set()) == UNBUILDABLE.keys()


@pytest.mark.parametrize("model_type", ["gemma2", "llama", "nemotron_h"])
def test_overrides(model_type: str) -> None:
    assert architectures.decoder(model_type, num_hidden_layers=5).config.num_hidden_layers == 5


def test_overrides_inside() -> None:
    model = architectures.decoder("gemma3", text_config={"num_hidden_layers": 3})
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    assert model.config.text_config.layer_types == kinds
    assert model.config.text_config.hidden_size == 32


def test_is_the_same_at_each_call() -> None:
    first, second = (architectures.decoder("qwen3").state_dict() for _ in range(2))
    assert all(torch.equal(weights, second[name]) for name, weights in first.items())
