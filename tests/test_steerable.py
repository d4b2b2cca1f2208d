"""What becomes of a model that is made steerable; test_every_architecture.py has the types."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import architectures
import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import ProfileError, PromptTooLongError, UnsupportedModelError
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


def state_of(model: PreTrainedModel) -> tuple[Any, ...]:
    hooks = [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in model.modules()]
    return sorted(vars(model)), hooks, model.config._attn_implementation


def test_a_profile_of_layers_without_attention_leaves_the_model_as_it_was() -> None:
    model = architectures.decoder("lfm2")  # its first layer is a convolution
    before = state_of(model)
    with pytest.raises(ProfileError, match="layer 0, which has no attention"):
        SteeredModel(model, tiny.tokenizer(), HeadProfile({0: [0]}))
    assert state_of(model) == before


def test_layers_may_have_other_numbers_of_heads() -> None:
    model = architectures.decoder("laguna", num_attention_heads_per_layer=[4, 2])
    with pytest.raises(ProfileError, match="head 3 of layer 1, which has 2 heads"):
        SteeredModel(model, tiny.tokenizer(), HeadProfile({1: [3]}))
    steered = SteeredModel(model, tiny.tokenizer(), HeadProfile({0: [3], 1: [1]}))
    assert steered.generate(SpanStr(TEXT, [Span(31, 61)]), max_new_tokens=2) is not None


@pytest.mark.parametrize("kind", ["llama", "gptj"])
def test_attention_that_is_changed_afterwards_is_noticed(kind: str) -> None:
    model = architectures.decoder(kind)
    steered = SteeredModel(model, tiny.tokenizer(), HeadProfile({0: [1]}))
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UnsupportedModelError, match=r"flash_attention_2.*nothing would be steered"):
        steered.generate(SpanStr(TEXT, [Span(31, 61)]))


# The compiler calls a part of torch in a way that torch has come to advise against.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_module_is_refused_and_a_model_that_compiles_itself_is_not() -> None:
    model = tiny.llama()
    with pytest.raises(UnsupportedModelError, match=r"call its compile\(\)"):
        SteeredModel(torch.compile(model), tiny.tokenizer(), HeadProfile({0: [1]}))  # type: ignore[arg-type]  # wrong on purpose
    assert SteeredModel(model, tiny.tokenizer(), HeadProfile({0: [1]})).generate(TEXT)


@pytest.mark.parametrize(
    "own",
    [
        {"num_return_sequences": 2, "do_sample": True},
        {"return_dict_in_generate": True},
        {"num_beams": 2, "num_return_sequences": 2},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"stop_strings": ["x"]},
    ],
)
def test_a_models_own_generation_config_does_not_matter_when_it_is_loaded(
    own: dict[str, Any],
) -> None:
    model = tiny.llama()
    model.generation_config.update(**own)
    steered = SteeredModel(model, tiny.tokenizer(), HeadProfile({0: [1]}))
    assert model.generation_config.to_dict().items() >= own.items()
    if "return_dict_in_generate" in own:
        assert type(steered.generate(TEXT, max_new_tokens=2)) is str


def test_small_scales_and_padding_end_in_numbers_in_half_precision() -> None:
    model = architectures.decoder("granite", attention_multiplier=0.0078125).half()
    steered = SteeredModel(model, tiny.tokenizer(), HeadProfile({0: [1], 1: [0]}, alpha=1e-4))
    marked = SpanStr(TEXT, [Span(31, 61)])
    with torch.no_grad():
        logits = steered.model(**steered.inputs([marked, SpanStr("Tarn", [Span(0, 4)])])).logits
        alone = steered.model(**steered.inputs(SpanStr("Tarn", [Span(0, 4)]))).logits
    assert logits.isfinite().all()
    assert (logits[1, -1] - alone[0, -1]).abs().max() < 0.02 * alone.abs().max()


@pytest.mark.parametrize(("kind", "name"), [("mpt", "max_seq_len"), ("gpt2", "n_positions")])
def test_the_context_is_known_by_whatever_name(kind: str, name: str) -> None:
    steered = SteeredModel(architectures.decoder(kind), tiny.tokenizer(), HeadProfile({0: [1]}))
    assert steered.context_length == getattr(steered.model.config, name)
    with pytest.raises(PromptTooLongError):
        steered.generate(TEXT * 40)
