"""Steered logits equal the definition of PASTA, in prefill and in every decode step."""

from __future__ import annotations

import oracle
import pytest
import tiny
import torch

from pasta_chains import demo
from pasta_chains.attention import steered_attention
from pasta_chains.engine import SteeredModel
from pasta_chains.errors import UnsupportedModelError
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
NEW_TOKENS = 6

CASES = {
    "one span": [Span(31, 61)],
    "two spans": [Span(4, 9), Span(31, 61)],
    "two strengths": [Span(4, 9, 0.5), Span(31, 61, 0.001)],
    "nested": [Span(0, 61, 0.1), Span(21, 29, 0.9)],
    "from character 0": [Span(0, 30)],
    "to the end": [Span(62, len(TEXT))],
    "everything": [Span(0, len(TEXT))],
    "deemphasized": [Span(0, 30, deemphasized=True)],
    "deemphasized inside": [Span(0, 61), Span(21, 29, 0.2, deemphasized=True)],
    "inside a token": [Span(5, 6)],
}


@pytest.fixture(scope="module", params=["tiny", "embedded"])
def steered(request: pytest.FixtureRequest) -> SteeredModel:
    if request.param == "embedded":
        return SteeredModel.from_pretrained(demo.MODEL)
    profile = HeadProfile({0: [2], 1: [0, 3], 2: [0, 1, 2, 3]}, alpha=0.02)
    # Logits of a few units, so that float32 itself errs by less than 1e-5.
    return SteeredModel(tiny.llama(initializer_range=0.15), tiny.tokenizer(), profile)


def expected_bias(steered: SteeredModel, text: SpanStr) -> tuple[list[int], list[float]]:
    encoded = steered.tokenizer(text.text, return_offsets_mapping=True)
    assert steered.profile
    marks = [
        (s.start, s.end, (s.alpha or steered.profile.alpha) * (-1 if s.deemphasized else 1))
        for s in text.spans
    ]
    return encoded["input_ids"], oracle.bias_of(text.text, marks, encoded["offset_mapping"])


def assert_equal_oracle(steered: SteeredModel, texts: list[SpanStr]) -> None:
    """Compare prefill and every decode step of one batch with the oracle, row by row.

    The tolerance is 1e-5 for the tiny model. The embedded model's logits reach 25, where float32
    itself errs more: there it is 2e-6 of the largest logit.
    """
    assert steered.profile
    inputs = steered.inputs(texts)
    width = inputs["input_ids"].shape[1]
    output = steered.model.generate(
        **inputs,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        output_logits=True,
        return_dict_in_generate=True,
    )
    found = torch.stack(output.logits, 1)
    rows, biases = zip(*(expected_bias(steered, text) for text in texts), strict=True)
    written = output.sequences[:, width:].tolist()
    full = [[*row, *new] for row, new in zip(rows, written, strict=True)]
    oracles = oracle.logits(steered.model, steered.profile.heads, full, biases)
    with torch.no_grad():
        prefill = steered.model(
            **inputs, position_ids=(inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        ).logits
    for number, (row, wanted) in enumerate(zip(rows, oracles, strict=True)):
        limit = max(1e-5, 2e-6 * wanted.abs().max().item()) if steered.name else 1e-5
        assert (found[number] - wanted[len(row) - 1 : -1]).abs().max() < limit
        assert (prefill[number, width - len(row) :] - wanted[: len(row)]).abs().max() < limit


@pytest.mark.parametrize("spans", CASES.values(), ids=CASES.keys())
def test_equals_the_oracle(steered: SteeredModel, spans: list[Span]) -> None:
    assert_equal_oracle(steered, [SpanStr(TEXT, spans)])


BATCH = [
    SpanStr("Tarn is small. Answer:", [Span(0, 4)]),
    SpanStr(TEXT, CASES["two strengths"]),
    SpanStr(TEXT[:50]),
    SpanStr(TEXT, CASES["nested"]),
]


def test_left_padded_batch_with_other_spans_in_each_row_equals_the_oracle(
    steered: SteeredModel,
) -> None:
    assert_equal_oracle(steered, BATCH)


def test_the_oracle_tells_steered_from_plain(steered: SteeredModel) -> None:
    """If steering did nothing, the comparisons above would fail."""
    assert steered.profile
    ids, bias = expected_bias(steered, SpanStr(TEXT, CASES["one span"]))
    with_bias, without = oracle.logits(
        steered.model, steered.profile.heads, [ids, ids], [bias, [0.0] * len(bias)]
    )
    assert (with_bias - without).abs().max() > 1e-2


def test_without_emphasis_every_bit_is_the_unsteered_models(steered: SteeredModel) -> None:
    reference = tiny.llama(initializer_range=0.15) if steered.name == "" else None
    for prompt in (TEXT, SpanStr(TEXT, [Span(0, 61, alpha=1.0)]), SpanStr(TEXT)):
        inputs = steered.inputs(prompt)
        assert set(inputs) == {"input_ids", "attention_mask"}
        with torch.no_grad():
            found = steered.model(**inputs).logits
            if reference is None:
                from transformers import AutoModelForCausalLM

                reference = AutoModelForCausalLM.from_pretrained(steered.name)
            expected = reference(**inputs).logits
        assert torch.equal(found, expected)


def test_an_empty_profile_changes_no_bit() -> None:
    model = SteeredModel(tiny.llama(), tiny.tokenizer(), HeadProfile({}))
    inputs = model.inputs(SpanStr(TEXT, [Span(0, 30)]))
    assert set(inputs) == {"input_ids", "attention_mask"}


def test_only_profiled_heads_change() -> None:
    torch.manual_seed(0)
    module = torch.nn.Module()
    module.layer_idx, module.num_key_value_groups = 0, 2  # type: ignore[assignment]
    query, key, value = (torch.randn(2, heads, 7, 12) for heads in (4, 2, 2))
    bias = torch.tensor([[0.0, -3, 0, -3, -3], [-1.0, 0, 0, 0, 0]])
    arguments = (module, query, key, value, None)
    plain, _ = steered_attention(*arguments, scaling=0.3)
    found, _ = steered_attention(
        *arguments, scaling=0.3, steering_bias=bias, steering_heads={0: (1, 2)}
    )
    assert torch.equal(found[:, :, [0, 3]], plain[:, :, [0, 3]])
    assert ((found - plain)[:, :, [1, 2]].abs() > 1e-3).any()


def test_half_precision_keeps_the_weight_of_a_token() -> None:
    """Two channels carry the bias: in bfloat16 one would err by more than 1 %."""
    module = torch.nn.Module()
    module.layer_idx = 0  # type: ignore[assignment]
    query = key = torch.zeros(1, 1, 2, 96, dtype=torch.bfloat16)
    value = torch.zeros(1, 1, 2, 96, dtype=torch.bfloat16)
    value[0, 0, 0, 0] = 1  # the output's first number is the share of the first token
    for alpha in (0.9, 0.3, 0.011):
        bias = torch.tensor([[0.0, alpha]]).log().clamp(min=-10)
        bias = torch.tensor([[bias[0, 1].item(), 0.0]])
        found, _ = steered_attention(
            module, query, key, value, None, is_causal=False,
            scaling=96**-0.5, steering_bias=bias, steering_heads={0: (0,)},
        )  # fmt: skip
        share = found[0, 1, 0, 0].item()
        assert share == pytest.approx(alpha / (1 + alpha), rel=2**-8)


@pytest.mark.parametrize("argument", ["sliding_window", "softcap", "s_aux", "position_bias"])
def test_other_kinds_of_attention_are_refused(argument: str) -> None:
    module = torch.nn.Module()
    module.layer_idx = 0  # type: ignore[assignment]
    query = torch.zeros(1, 1, 2, 8)
    with pytest.raises(UnsupportedModelError, match="cannot be steered yet"):
        steered_attention(
            module, query, query, query, None, steering_bias=torch.zeros(1, 2),
            steering_heads={0: (0,)}, **{argument: 4},
        )  # fmt: skip
