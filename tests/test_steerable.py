"""What becomes of a model that is made steerable; test_every_architecture.py has the types."""

from __future__ import annotations

import copy
import pickle

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import ProfileError
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"


def decoder(model_type: str, **more: object) -> PreTrainedModel:
    torch.manual_seed(0)
    fields = {
        "vocab_size": 360, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.3,
    }  # fmt: skip
    config = AutoConfig.for_model(model_type, **(fields | more))
    return AutoModelForCausalLM.from_config(config).eval()


def test_values_may_be_narrower_than_keys() -> None:
    """DeepSeek's heads have 16 channels in keys and 8 in values."""
    model = decoder(
        "deepseek_v3", qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, q_lora_rank=None,
        kv_lora_rank=16, n_routed_experts=4, n_group=1, topk_group=1, num_experts_per_tok=2,
        moe_intermediate_size=16, num_key_value_heads=4,
    )  # fmt: skip
    steered = SteeredModel(model, tiny.tokenizer(), HeadProfile({0: [1], 1: [0, 3]}))
    prompt = SpanStr(TEXT, [Span(31, 61)])
    with torch.no_grad():
        logits = steered.model(**steered.inputs(prompt)).logits
        plain = steered.model(**steered.inputs(TEXT)).logits
    assert (logits - plain).abs().max() > 1e-3


def test_a_profile_that_does_not_fit_leaves_the_model_as_it_was() -> None:
    model = tiny.llama()
    with pytest.raises(ProfileError):
        SteeredModel(model, tiny.tokenizer(), HeadProfile({9: [0]}))
    assert model.config._attn_implementation == "sdpa"
    assert "_validate_model_kwargs" not in vars(model)


def test_models_that_share_a_config_and_models_steered_twice_all_generate() -> None:
    first = tiny.llama()
    second = type(first)(first.config).eval()
    prompt = SpanStr(TEXT, [Span(31, 61)])
    for model in (first, second, first):
        steered = SteeredModel(model, tiny.tokenizer(), HeadProfile({0: [1]}))
        steered.generate(prompt, max_new_tokens=2)


def test_a_steered_model_can_be_pickled_and_copied() -> None:
    steered = SteeredModel(tiny.llama(), tiny.tokenizer(), HeadProfile({0: [1], 1: [0, 3]}))
    prompt = SpanStr(TEXT, [Span(31, 61)])
    expected = steered.generate(prompt, max_new_tokens=4)
    assert pickle.loads(pickle.dumps(steered)).generate(prompt, max_new_tokens=4) == expected
    assert copy.deepcopy(steered).generate(prompt, max_new_tokens=4) == expected
