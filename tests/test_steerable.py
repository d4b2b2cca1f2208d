"""Which architectures are steered, exactly, and which are refused with a reason."""

from __future__ import annotations

import oracle
import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import UnsupportedModelError
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"

STEERED = [
    "gemma", "gpt2", "gpt_neox", "granite", "llama", "olmo2", "opt", "phi", "phi3", "qwen2",
    "qwen3", "smollm3", "starcoder2",
]  # fmt: skip
REFUSED = {
    "bloom": "does not let its attention function be chosen",
    "falcon": "does not let its attention function be chosen",
    "gemma2": "uses sliding-window attention",
    "gemma3_text": "uses sliding-window attention",
    "gpt_oss": "uses sliding-window attention",
    "gptj": "does not let its attention function be chosen",
    "mistral": "uses sliding-window attention",
    "mpt": "does not let its attention function be chosen",
    "stablelm": "do not pass the steering on",
}


def decoder(model_type: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type, vocab_size=360, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("model_type", STEERED)
def test_steers_exactly(model_type: str) -> None:
    heads = {0: [1], 1: [0, 3]}
    steered = SteeredModel(decoder(model_type), tiny.tokenizer(), HeadProfile(heads, alpha=0.05))
    inputs = steered.inputs(SpanStr(TEXT, [Span(31, 61)]))
    encoded = steered.tokenizer(TEXT, return_offsets_mapping=True)
    bias = oracle.bias_of(TEXT, [(31, 61, 0.05)], encoded["offset_mapping"])
    with torch.no_grad():
        found = steered.model(**inputs).logits[0]
    ids = encoded["input_ids"]
    wanted, plain = (oracle.logits(steered.model, h, [ids], [bias])[0] for h in (heads, {}))
    # Relative too, for some of these random models have logits in the tens.
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert (wanted - plain).abs().max() > 0.1


@pytest.mark.parametrize(("model_type", "reason"), REFUSED.items())
def test_is_refused_and_left_as_it_was(model_type: str, reason: str) -> None:
    model = decoder(model_type)
    before = model.config._attn_implementation
    with pytest.raises(UnsupportedModelError, match=reason):
        SteeredModel(model, tiny.tokenizer(), HeadProfile({0: [1]}))
    assert model.config._attn_implementation == before
    assert "_validate_model_kwargs" not in vars(model)
