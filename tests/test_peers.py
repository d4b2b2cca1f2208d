"""Defects that were seen in other implementations of attention steering, each shown absent here."""

from __future__ import annotations

from typing import Any

import oracle
import pytest
import tiny
import torch
from torch import Tensor

from pasta_chains.cache import cache_name, given_cache
from pasta_chains.engine import SteeredModel
from pasta_chains.errors import EmphasisError
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
EVERY = {0: [0, 1, 2, 3], 1: [0, 1, 2, 3], 2: [0, 1, 2, 3]}


@pytest.fixture(scope="module")
def steered() -> SteeredModel:
    model = tiny.llama(initializer_range=0.15)
    return SteeredModel(model, tiny.tokenizer(), HeadProfile(EVERY, alpha=0.02))


def bias(steered: SteeredModel, text: SpanStr) -> list[float]:
    found: list[float] = steered.inputs(text)["steering_bias"][0].tolist()
    return found


def test_sdpa_attention_whose_mask_is_none_is_steered(steered: SteeredModel) -> None:
    """Pastalib's hooks clone the mask, which sdpa leaves out for unpadded prompts."""
    assert steered.model.config._attn_implementation == "pasta_sdpa"
    steered.generate(SpanStr(TEXT, [Span(31, 61)]), max_new_tokens=2)


def test_two_spans_scale_plain_text_once(steered: SteeredModel) -> None:
    """Pastalib scales it once for each span."""
    found = bias(steered, SpanStr(TEXT, [Span(4, 9), Span(31, 61)]))
    assert sorted({round(b, 4) for b in found}) == [round(torch.tensor(0.02).log().item(), 4), 0.0]


def test_generated_tokens_keep_step_with_the_emphasis(steered: SteeredModel) -> None:
    """In pastalib they are scaled otherwise than in the definition, once there are two spans."""
    text = SpanStr(TEXT, [Span(4, 9), Span(31, 61)])
    ids = steered.inputs(text)["input_ids"]
    output = steered.model.generate(
        **steered.inputs(text), max_new_tokens=5, min_new_tokens=5, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    full = output.sequences.tolist()
    (wanted,) = oracle.logits(steered.model, EVERY, full, [bias(steered, text)])
    found = torch.stack(output.logits, 1)[0]
    assert (found - wanted[ids.shape[1] - 1 : -1]).abs().max() < 1e-5


def test_a_span_takes_neither_the_token_before_it_nor_padding(steered: SteeredModel) -> None:
    """Pastalib's spans swallow the token before, and BOS and all padding at character 0."""
    inputs = steered.inputs([SpanStr("Tarn is small.", [Span(0, 4)]), SpanStr(TEXT, [Span(4, 9)])])
    rows = inputs["steering_bias"]
    there = inputs["attention_mask"].bool()
    first = rows[0][there[0]]
    offsets = steered.tokenizer("Tarn is small.", return_offsets_mapping=True)["offset_mapping"]
    for (start, end), one in zip(offsets, first, strict=True):
        assert (one == 0) == (start < 4 and end > start), "BOS and later words are plain"
    alone = steered.inputs(SpanStr("Tarn is small.", [Span(0, 4)]))["steering_bias"][0]
    assert torch.equal(first, alone)


def test_alpha_is_not_remembered_from_the_first_call(steered: SteeredModel) -> None:
    """Pastalib caches it after its first use."""
    text = SpanStr(TEXT, [Span(31, 61)])
    first = steered.score(text, [" Bo"], alpha=0.5)
    assert steered.score(text, [" Bo"], alpha=0.01) != first
    assert steered.score(text, [" Bo"], alpha=0.5) == first


def test_emphasis_never_means_less_attention(steered: SteeredModel) -> None:
    """Pastalib's "include" with alpha < 1 multiplies the emphasized text itself."""
    shares = steered.attention_to_spans(SpanStr(TEXT, [Span(31, 61)]), max_new_tokens=2)
    assert shares.last_steered is not None
    assert (shares.last_steered[0] > shares.last_unsteered[0]).all()


def test_no_matrix_of_queries_and_keys_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pastalib clones a full mask of rows x heads x queries x keys in every steered layer."""
    model = SteeredModel(tiny.llama(context=2048), tiny.tokenizer(), HeadProfile(EVERY, alpha=0.02))
    inputs = model.inputs(SpanStr(TEXT * 60, [Span(31, 61)]))
    length = inputs["input_ids"].shape[1]
    assert length > 1000
    largest = 0

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    with torch.no_grad(), Spy():
        model.model(**inputs, use_cache=False, logits_to_keep=1)
    assert 0 < largest < length * length


@pytest.mark.parametrize("alpha", [1.0, None], ids=["alpha 1", "no emphasis"])
def test_nothing_changes_in_a_padded_batch_that_is_not_steered(
    steered: SteeredModel, alpha: float | None
) -> None:
    """AISteer360 adds sdpa's boolean mask as if it were numbers, so padding is read."""
    spans = [Span(0, 4)] if alpha else []
    texts = [SpanStr("Tarn is small.", spans), SpanStr(TEXT, spans)]
    inputs = steered.inputs(texts, alpha=alpha)
    plain = tiny.llama(initializer_range=0.15)
    with torch.no_grad():
        found, wanted = (m(**inputs).logits for m in (steered.model, plain))
    assert torch.equal(found, wanted)


def test_decode_steps_are_steered(steered: SteeredModel) -> None:
    """In AISteer360 on transformers 5 only the prefill is."""
    text = SpanStr(TEXT, [Span(31, 61)])
    inputs = steered.inputs(text)
    plain = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    name = cache_name(steered.model)
    with torch.no_grad():
        cache = given_cache(steered.model(**plain, use_cache=True))  # an unsteered prefill
        step = {
            "input_ids": torch.tensor([[5]]),
            "attention_mask": torch.ones(1, inputs["input_ids"].shape[1] + 1, dtype=torch.long),
        }
        steering = {key: value for key, value in inputs.items() if key.startswith("steering")}
        again = given_cache(steered.model(**plain, use_cache=True))
        found = steered.model(**step, **{name: cache}, **steering).logits
        unsteered = steered.model(**step, **{name: again}).logits
    assert (found - unsteered).abs().max() > 1e-2


def test_emphasis_without_a_token_is_an_error(steered: SteeredModel) -> None:
    """AISteer360 and SpotLight warn of a missing text, and do not steer."""
    with pytest.raises(EmphasisError, match="covers no token"):
        steered.generate(SpanStr("a  b", [(1, 3)]))


def test_nothing_stays_after_an_exception(steered: SteeredModel) -> None:
    """SEKA's hooks stay on the model."""

    def fail(input_ids: Tensor, scores: Tensor) -> Tensor:
        raise ZeroDivisionError

    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in steered.model.modules()]
    before = steered.generate(TEXT, max_new_tokens=4)
    with pytest.raises(ZeroDivisionError):
        steered.generate(SpanStr(TEXT, [Span(31, 61)]), logits_processor=[fail])
    assert steered.generate(TEXT, max_new_tokens=4) == before
    assert hooks == [
        len(m._forward_hooks) + len(m._forward_pre_hooks) for m in steered.model.modules()
    ]


def test_rows_may_have_different_numbers_of_spans_and_strengths(steered: SteeredModel) -> None:
    """Pastalib wants as many in every row, and no peer has a strength for each span."""
    texts = [
        SpanStr(TEXT, [Span(4, 9, 0.5), Span(31, 61, 0.001), Span(66, 70)]),
        SpanStr(TEXT[:50]),
        SpanStr(TEXT, [Span(0, 30)]),
    ]
    together = steered.generate(texts, max_new_tokens=6)
    assert together == [steered.generate(text, max_new_tokens=6) for text in texts]
