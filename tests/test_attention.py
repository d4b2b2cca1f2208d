"""Steered logits equal the definition of PASTA, in prefill and in every decode step."""

from __future__ import annotations

from typing import Any

import oracle
import pytest
import tiny
import torch
from torch import Tensor

from pasta_chains import demo
from pasta_chains.arithmetic import Steering
from pasta_chains.attention import register, steered_attention
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


class Layer(torch.nn.Module):
    """As much of an attention layer as a kernel asks for."""

    def __init__(self, groups: int = 2) -> None:
        super().__init__()
        self.layer_idx, self.num_key_value_groups, self.is_causal = 0, groups, True
        self.training = False


def defined(
    query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, bias: Tensor, heads: tuple[int, ...]
) -> Tensor:
    """PASTA's definition, in float64. `hidden` is true where a query may not read a key."""
    groups = query.shape[1] // key.shape[1]
    key, value = (x.double().repeat_interleave(groups, 1) for x in (key, value))
    logits = query.double() @ key.transpose(-1, -2) * 0.3
    logits[:, list(heads)] += bias[:, None, None].double()
    weights = logits.masked_fill(hidden, -torch.inf).softmax(-1)
    return (weights.nan_to_num() @ value).transpose(1, 2)


HEADS = {
    "one head": (1,),
    "one of each group": (0, 3),
    "a whole group": (2, 3),
    "every head": (0, 1, 2, 3),
}


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("queries", [1, 5, 40])
@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("size", [12, 13])
def test_every_form_equals_the_definition(
    heads: tuple[int, ...], queries: int, padded: bool, size: int
) -> None:
    torch.manual_seed(0)
    keys = 40
    query = torch.randn(2, 4, queries, size)
    key, value = torch.randn(2, 2, keys, size), torch.randn(2, 2, keys, size)
    bias = torch.where(torch.rand(2, 30) < 0.5, 0.0, -3 * torch.rand(2, 30))
    hidden = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries + 1)[None, None]
    hidden = hidden.repeat(2, 1, 1, 1)
    if padded:
        hidden[0, :, :, :6] = True
    mask = ~hidden if padded or 1 < queries < keys else None
    register("sdpa")
    arguments = (Layer(), query, key, value, mask)
    plain, _ = steered_attention("sdpa", *arguments, scaling=0.3)
    found, _ = steered_attention(
        "sdpa", *arguments, scaling=0.3, steering_bias=bias, steering_heads={0: heads}
    )
    others = [head for head in range(4) if head not in heads]
    if queries > 16:  # fewer are written out, those of all heads
        assert torch.equal(found[:, :, others], plain[:, :, others])
    torch.testing.assert_close(found[:, :, others], plain[:, :, others], atol=1e-6, rtol=0)
    wanted = defined(
        query, key, value, hidden, torch.nn.functional.pad(bias, (0, keys - 30)), heads
    )
    some = ~hidden.all(-1)[:, 0]  # queries of padding read nothing, and nobody reads them
    assert (found - wanted)[some].abs().max() < 1e-6
    assert ((found - plain)[some][:, list(heads)].abs() > 1e-3).any()


def test_a_padded_batch_needs_no_mask_in_the_steered_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def spy(*args: Tensor, **kwargs: Any) -> Tensor:
        masks.append(kwargs["attn_mask"])
        return plain(*args, **kwargs)

    profile = HeadProfile({0: [1], 1: [0, 1, 2, 3]}, alpha=0.02)
    steered = SteeredModel(tiny.llama(), tiny.tokenizer(), profile)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    inputs = steered.inputs([SpanStr(TEXT, [Span(0, 30)]), SpanStr(TEXT[:60], [Span(4, 9)])])
    with torch.no_grad():
        steered.model(**inputs)
    plain_0, steered_0, steered_1, plain_2 = masks
    assert steered_0 is None
    assert steered_1 is None
    assert plain_0.dtype == plain_2.dtype == torch.bool


@pytest.mark.parametrize("keys", [6, 10])
def test_a_layer_that_keeps_the_last_tokens_gets_their_bias(keys: int) -> None:
    bias = torch.arange(-8.0, 0)[None]
    key = torch.zeros(1, 1, keys, 4)
    found = Steering.of_keys(bias, (0,), key, seen=10).bias
    assert found.tolist() == [[*range(-8, 0), 0, 0][10 - keys :]]


def test_the_first_chunk_of_a_prompt_gets_the_first_part_of_the_bias() -> None:
    found = Steering.of_keys(torch.arange(-8.0, 0)[None], (0,), torch.zeros(1, 1, 3, 4), None).bias
    assert found.tolist() == [[-8, -7, -6]]


@pytest.mark.parametrize("queries", [2, 40], ids=["written out", "wider key"])
@pytest.mark.parametrize("alpha", [0.9, 0.3, 0.011])
def test_half_precision_keeps_the_weight_of_a_token(alpha: float, queries: int) -> None:
    """Two channels carry the bias: in bfloat16 one would err by more than 1 %."""
    keys = max(queries, 2)
    query = torch.zeros(1, 1, queries, 96, dtype=torch.bfloat16)
    key = torch.zeros(1, 1, keys, 96, dtype=torch.bfloat16)
    value = torch.zeros(1, 1, keys, 96, dtype=torch.bfloat16)
    value[0, 0, 0, 0] = 1  # the output's first number is the share of the first token
    bias = torch.full((1, keys), -torch.inf).clamp(min=-100)
    bias[0, :2] = torch.tensor([alpha, 1.0]).log()
    mask = torch.ones(1, 1, queries, keys, dtype=torch.bool)
    found, _ = steered_attention(
        "sdpa", Layer(1), query, key, value, mask, scaling=96**-0.5, steering_bias=bias,
        steering_heads={0: (0,)},
    )  # fmt: skip
    assert found[0, -1, 0, 0].item() == pytest.approx(alpha / (1 + alpha), rel=2**-8)


def test_a_capped_kernel_is_refused() -> None:
    query = torch.zeros(1, 1, 2, 8)
    with pytest.raises(UnsupportedModelError, match="attn_implementation='eager'"):
        steered_attention(
            "sdpa", Layer(1), query, query, query, None, steering_bias=torch.zeros(1, 2),
            steering_heads={0: (0,)}, softcap=4.0,
        )  # fmt: skip


def test_a_layer_without_an_eager_function_of_its_own_is_refused() -> None:
    query = torch.zeros(1, 1, 2, 8)
    with pytest.raises(UnsupportedModelError, match="no eager attention function of its own"):
        steered_attention("eager", Layer(1), query, query, query, None)
