"""Every way to run a model steered by hooks, and what is left behind: nothing."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import architectures
import plain_oracle
import pytest
import tiny
import torch
from test_masking import BATCH, HEADS, ONE, STRENGTHS, TEXT, expected_bias, make, plain_model
from transformers import DynamicCache, GPTJForCausalLM, MptForCausalLM, StaticCache

from pasta_chains.adapters import ADAPTERS
from pasta_chains.cache import cache_name, given_cache
from pasta_chains.engine import SteeredModel
from pasta_chains.errors import UnsupportedModelError
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

# One for each way of an adapter, two for the masks: eager ones and those of a fused kernel.
WAYS = ["gptj", "falcon", "mpt", "stablelm", "glm_moe_dsa"]
OTHER = SpanStr(TEXT, [Span(0, 30)])


@pytest.fixture(params=WAYS)
def steered(request: pytest.FixtureRequest) -> SteeredModel:
    return make(str(request.param))


def hooks(model: Any) -> list[tuple[int, int]]:
    return [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in model.modules()]


def test_beams_equal_those_of_the_definition(steered: SteeredModel) -> None:
    """Each beam's score is the sum of what the definition gives its tokens."""
    beams = steered.model.generate(
        **steered.inputs(STRENGTHS), num_beams=3, num_return_sequences=3, max_new_tokens=5,
        min_new_tokens=5, length_penalty=0.0, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    ids, bias = expected_bias(steered, STRENGTHS)
    kind = steered.model.config.model_type
    rows = beams.sequences.tolist()
    for row, found, wanted in zip(
        rows,
        beams.sequences_scores,
        plain_oracle.logits(plain_model(kind), HEADS, rows, [bias] * 3),
        strict=True,
    ):
        logs = wanted[len(ids) - 1 : -1].log_softmax(-1)
        assert len(row) == len(ids) + 5
        assert found == pytest.approx(logs.gather(-1, torch.tensor(row[len(ids) :])[:, None]).sum())


@pytest.mark.parametrize(
    "arguments",
    [
        {"prefill_chunk_size": 7, "use_cache": True},
        {"use_cache": False},
        {"cache_implementation": "static", "use_cache": True},
        {"prompt_lookup_num_tokens": 3, "use_cache": True},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_ways_to_decode_give_the_same_text(
    steered: SteeredModel, arguments: dict[str, Any]
) -> None:
    plain = steered.generate(ONE, max_new_tokens=8)
    assert steered.generate(ONE, max_new_tokens=8, **arguments) == plain
    assert plain != steered.generate(TEXT, max_new_tokens=8)


def test_prompt_read_in_two_parts_with_a_given_cache(steered: SteeredModel) -> None:
    inputs, name = steered.inputs(STRENGTHS), cache_name(steered.model)
    with torch.no_grad():
        whole = steered.model(**inputs).logits
        for cache in (DynamicCache(config=steered.model.config), None):
            ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
            first = steered.model(
                input_ids=ids[:, :20],
                attention_mask=mask[:, :20],
                **{name: cache},
                use_cache=True,
                **inputs,
            )
            second = steered.model(
                input_ids=ids[:, 20:],
                attention_mask=mask,
                **{name: given_cache(first)},
                **inputs,
            )
            inputs |= {"input_ids": ids, "attention_mask": mask}
            found = torch.cat([first.logits, second.logits], 1)
            torch.testing.assert_close(found, whole, atol=2e-5, rtol=2e-5)
            assert "steering" not in vars(given_cache(first))


def test_a_call_that_wants_no_cache_gets_none(steered: SteeredModel) -> None:
    inputs = steered.inputs(ONE)
    with torch.no_grad():
        without = steered.model(**inputs, use_cache=False)
        as_tuple = steered.model(**inputs, use_cache=False, return_dict=False)
        cached = steered.model(**inputs, use_cache=True)
    assert given_cache(without) is None
    assert len(as_tuple) == 1
    assert given_cache(cached).get_seq_length() == inputs["input_ids"].shape[1]
    torch.testing.assert_close(without.logits, cached.logits, atol=2e-5, rtol=2e-5)


def test_positional_arguments(steered: SteeredModel) -> None:
    inputs = steered.inputs(ONE)
    ids = inputs.pop("input_ids")
    with torch.no_grad():
        assert torch.equal(
            steered.model(ids, **inputs).logits, steered.model(input_ids=ids, **inputs).logits
        )


def test_rows_do_not_see_each_other(steered: SteeredModel) -> None:
    steps = {"max_new_tokens": 4, "min_new_tokens": 4, "output_logits": True}
    steps["return_dict_in_generate"] = True
    together = steered.model.generate(**steered.inputs(BATCH), **steps).logits
    for number, text in enumerate(BATCH):
        alone = steered.model.generate(**steered.inputs(text), **steps).logits
        for step, (row, batch) in enumerate(zip(alone, together, strict=True)):
            assert (row[0] - batch[number]).abs().max() < 3e-5, step


def test_threads_with_other_emphasis_write_what_they_write_alone(steered: SteeredModel) -> None:
    prompts = [ONE, STRENGTHS, OTHER, SpanStr(TEXT)] * 3
    alone = [steered.generate(prompt, max_new_tokens=6) for prompt in prompts]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda p: steered.generate(p, max_new_tokens=6), prompts)) == alone
    assert len(set(alone)) > 2


def test_copies_and_pickles_are_steered_alike(steered: SteeredModel) -> None:
    wanted = steered.generate(STRENGTHS, max_new_tokens=6)
    assert copy.deepcopy(steered).generate(STRENGTHS, max_new_tokens=6) == wanted
    assert pickle.loads(pickle.dumps(steered)).generate(STRENGTHS, max_new_tokens=6) == wanted


def test_a_model_steered_twice_is_steered_once(steered: SteeredModel) -> None:
    before, score = hooks(steered.model), steered.score(ONE, [" Bo"])
    again = SteeredModel(steered.model, tiny.tokenizer(), steered.profile)
    assert hooks(steered.model) == before
    assert again.score(ONE, [" Bo"]) == score


def test_an_error_inside_leaves_neither_model_nor_cache_steered(steered: SteeredModel) -> None:
    cache = DynamicCache(config=steered.model.config)
    model, wanted = steered.model, steered.generate(TEXT, max_new_tokens=4)
    broken = model.lm_head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(**steered.inputs(ONE), **{cache_name(steered.model): cache})
    broken.remove()
    assert "steering" not in vars(cache)
    assert steered.generate(TEXT, max_new_tokens=4) == wanted


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(steered: SteeredModel, dtype: torch.dtype) -> None:
    (exact,), (plain,) = steered.score(ONE, [" Bo"]), steered.score(TEXT, [" Bo"])
    steered.model.to(dtype)
    (found,) = steered.score(ONE, [" Bo"])
    assert abs(found - exact) < abs(exact - plain) / 3
    steered.generate(BATCH, max_new_tokens=4)


@pytest.mark.parametrize("kind", ["bloom", "mpt", "falcon"])
def test_flash_attention_is_refused_and_the_model_left_as_it_was(kind: str) -> None:
    model = plain_model(kind)
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UnsupportedModelError, match="Load it with attn_implementation='"):
        SteeredModel(model, tiny.tokenizer(), HeadProfile(HEADS))
    assert set(hooks(model)) == {(0, 0)}


@pytest.mark.parametrize("kind", ["deepseek_v32", "minimax_m3_vl_text"])
def test_indexers_on_eager_attention_are_refused(kind: str) -> None:
    model = plain_model(kind)
    model.set_attn_implementation("eager")
    with pytest.raises(UnsupportedModelError, match="attn_implementation='sdpa'"):
        SteeredModel(model, tiny.tokenizer(), HeadProfile(HEADS))
    assert model.config._attn_implementation == "eager"


class _Other(GPTJForCausalLM):
    """Names its layers otherwise, as code from elsewhere may."""


@pytest.mark.skipif(
    GPTJForCausalLM._supports_sdpa, reason="here GPT-J lets its attention function be chosen"
)
def test_a_model_without_the_known_layers_is_refused_and_left_as_it_was() -> None:
    model = _Other(architectures.config("gptj"))
    for block in model.transformer.h:
        block.attn.__class__ = type("SelfAttention", (type(block.attn),), {})
    with pytest.raises(UnsupportedModelError, match="has no GPTJAttention"):
        SteeredModel(model, tiny.tokenizer(), HeadProfile(HEADS))
    assert set(hooks(model)) == {(0, 0)}
    assert "_validate_model_kwargs" not in vars(model)


def test_a_failing_probe_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = plain_model("mpt")
    forward = MptForCausalLM.forward

    def without_cache(self: Any, *args: Any, **kwargs: Any) -> Any:
        if given_cache(kwargs) is not None:
            raise TypeError("no cache here")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(MptForCausalLM, "forward", without_cache)
    with pytest.raises(UnsupportedModelError, match="TypeError: no cache here"):
        SteeredModel(model, tiny.tokenizer(), HeadProfile(HEADS))
    assert set(hooks(model)) == {(0, 0)}


def test_static_cache_given() -> None:
    steered = make("gptj")
    inputs = steered.inputs(ONE)
    cache = StaticCache(config=steered.model.config, max_cache_len=96)
    with torch.no_grad():
        found = steered.model(**inputs, **{cache_name(steered.model): cache}).logits
        wanted = steered.model(**inputs).logits
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=2e-5)


def test_every_adapter_is_of_a_type_that_exists() -> None:
    from transformers import CONFIG_MAPPING

    newer = {"dots3_note_text", "mistral_large4_text"} if architectures.OLDEST else set()
    assert {kind for kind in ADAPTERS if kind not in CONFIG_MAPPING} == newer
