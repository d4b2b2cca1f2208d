"""`attention_to_spans`: the shares of attention are those of the eager weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import architectures
import oracle
import plain_oracle
import pytest
import tiny
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pasta_chains.arithmetic import Steering
from pasta_chains.attention import WATCH
from pasta_chains.engine import SteeredModel
from pasta_chains.errors import (
    EmphasisError,
    PromptError,
    PromptTooLongError,
    UnsupportedModelError,
)
from pasta_chains.inspection import attention_weights
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr, emphasize

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
ONE = SpanStr(TEXT, [Span(31, 61)])
TWO = SpanStr(TEXT, [Span(21, 29, name="first"), Span(52, 60, 0.5, "second")])
ALPHA = 0.02
HEADS = {0: (1,), 1: (0, 3)}
NEW = 20  # more than are computed at a time
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},  # windows, shorter than the prompt
    "gemma2": {},  # windows and soft-capped logits
    "gpt_oss": {},  # windows and sinks
    "mpt": {},  # adapted: steered after the softmax, ALiBi
    "gptj": {"attn_implementation": "eager"},  # adapted: steered by its mask
    "falcon": {"attn_implementation": "eager"},
    "hy_v4": {"index_n_heads": 16},  # adapted: sinks, and an indexer that leaves no ties
    "nemotron": {},  # adapted: calls our function by way of a hook
    "gemma3n_text": {},  # layers that share keys
    "gpt2": {},
}


def model_of(kind: str) -> tuple[SteeredModel, Any]:
    """A steered model, and the same with eager attention and without steering."""
    plain = architectures.decoder(kind, **KINDS.get(kind, {}))
    layers = SteeredModel(copy.deepcopy(plain), tiny.tokenizer())._steerable.layers
    heads = {layer: HEADS[number % 2] for number, layer in enumerate(layers)}
    steered = SteeredModel(copy.deepcopy(plain), tiny.tokenizer(), HeadProfile(heads, ALPHA))
    if kind not in ("mpt", "gptj", "falcon", "hy_v4"):  # which have no other
        plain.set_attn_implementation("eager")
    return steered, plain


def tokens_of(text: SpanStr) -> tuple[list[int], list[float], list[list[int]]]:
    """Token ids of a prompt, their biases, and the positions of each span's."""
    encoded = tiny.tokenizer()(text.text, return_offsets_mapping=True)
    marks = [(span.start, span.end, span.alpha or ALPHA) for span in text.spans]
    alone = [oracle.bias_of(text.text, [mark], encoded["offset_mapping"]) for mark in marks]
    positions = [[i for i, bias in enumerate(one) if not bias] for one in alone]
    return (
        encoded["input_ids"],
        oracle.bias_of(text.text, marks, encoded["offset_mapping"]),
        positions,
    )


def expected(
    plain: Any, heads: Mapping[int, Sequence[int]], text: SpanStr, answer: list[int]
) -> tuple[Tensor, Tensor]:
    """For the last token, and over the answer: (spans, layers, heads) each."""
    ids, bias, positions = tokens_of(text)
    layers = plain_oracle.weights(plain, heads, [*ids, *answer[:-1]], bias)
    weights = torch.stack([layer[:, len(ids) - 1 :] for layer in layers])
    shares = torch.stack([weights[..., span].sum(-1) for span in positions])
    return shares[..., 0], shares.mean(-1)


def written(steered: SteeredModel, text: SpanStr, count: int) -> list[int]:
    inputs = steered.inputs(text)
    ids = steered.model.generate(**inputs, max_new_tokens=count, do_sample=False)
    return ids[0, inputs["input_ids"].shape[1] :].tolist()


def close(found: Tensor | None, wanted: Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def steered() -> SteeredModel:
    return SteeredModel(tiny.llama(), tiny.tokenizer(), HeadProfile({0: [1], 1: [0, 3]}, ALPHA))


@pytest.mark.parametrize("text", [ONE, TWO], ids=["one span", "two spans"])
@pytest.mark.parametrize("kind", KINDS)
def test_shares_are_those_of_the_eager_weights(kind: str, text: SpanStr) -> None:
    steered, plain = model_of(kind)
    shares = steered.attention_to_spans(text, max_new_tokens=NEW)
    answer = written(steered, text, NEW)
    heads = dict(enumerate(steered.profile.heads.values())) if steered.profile else {}
    assert shares.layers == tuple(steered._steerable.layers)
    last, mean = expected(plain, {}, text, answer)
    close(shares.last_unsteered, last.sum(0))
    close(shares.answer_unsteered, mean.sum(0))
    last, mean = expected(plain, heads, text, answer)
    close(shares.last_steered, last.sum(0))
    close(shares.answer_steered, mean.sum(0))
    for number, part in enumerate(shares.by_span):
        close(part.last_steered, last[number])
        close(part.answer_steered, mean[number])
    assert len(shares.by_span) == (2 if text is TWO else 0)


def test_steering_multiplies_the_rest_by_alpha_in_the_first_layer(steered: SteeredModel) -> None:
    """Share r becomes r / (r + alpha (1 - r)); later layers read what earlier ones changed."""
    shares = steered.attention_to_spans(ONE, max_new_tokens=3)
    assert shares.last_steered is not None
    assert shares.answer_steered is not None
    r, steered_r = shares.last_unsteered[0], shares.last_steered[0]
    formula = r / (ALPHA + (1 - ALPHA) * r)
    assert formula[1] > r[1] + 0.05
    close(steered_r[1], formula[1])
    others = [0, 2, 3]
    assert torch.equal(steered_r[others], r[others])
    assert torch.equal(shares.answer_steered[0, others], shares.answer_unsteered[0, others])
    assert not torch.allclose(shares.last_steered[1:], shares.last_unsteered[1:])


def test_the_answer_is_the_greedy_steered_one(steered: SteeredModel) -> None:
    shares = steered.attention_to_spans(ONE, max_new_tokens=6)
    assert shares.answer == steered.generate(ONE, max_new_tokens=6, do_sample=False)
    assert steered.attention_to_spans(ONE, max_new_tokens=6, alpha=1.0).answer == steered.generate(
        TEXT, max_new_tokens=6
    )
    one = steered.attention_to_spans(ONE, max_new_tokens=1)
    assert torch.equal(one.last_unsteered, one.answer_unsteered)
    close(one.last_unsteered, shares.last_unsteered)


def test_without_a_profile_only_unsteered_shares_are_measured(steered: SteeredModel) -> None:
    bare = SteeredModel(tiny.llama(), tiny.tokenizer())
    shares = bare.attention_to_spans(TWO, max_new_tokens=4)
    assert (shares.last_steered, shares.answer_steered) == (None, None)
    close(shares.last_unsteered, steered.attention_to_spans(TWO).last_unsteered)
    assert shares.answer == bare.generate(TEXT, max_new_tokens=4)
    assert shares.of("first").answer_steered is None
    assert shares.to_dict()["last_steered"] is None
    with pytest.raises(PromptError, match="no head profile"):
        shares.top(measure="answer_steered")


@pytest.mark.parametrize("profile", [HeadProfile({}), HeadProfile({0: [1]}, alpha=1.0)])
def test_where_nothing_is_steered_both_shares_are_the_same(profile: HeadProfile) -> None:
    shares = SteeredModel(tiny.llama(), tiny.tokenizer(), profile).attention_to_spans(ONE)
    assert shares.last_steered is not None
    assert torch.equal(shares.last_steered, shares.last_unsteered)


def test_deemphasized_text_is_no_part_of_the_share(steered: SteeredModel) -> None:
    both = SpanStr(TEXT, [Span(0, 30, deemphasized=True), Span(31, 61)])
    shares = steered.attention_to_spans(both, max_new_tokens=1)
    assert shares.spans == both.spans[1:]
    assert shares.by_span == ()
    close(shares.last_unsteered, steered.attention_to_spans(ONE, max_new_tokens=1).last_unsteered)


def test_chat_messages_are_measured_in_the_text_that_the_model_reads(steered: SteeredModel) -> None:
    shares = steered.attention_to_spans([{"role": "user", "content": ONE}], max_new_tokens=2)
    (span,) = shares.to_dict()["spans"]
    assert span["text"] == TEXT[31:61]
    assert shares.text.text.startswith("<s><user>")


@pytest.mark.parametrize(
    ("prompt", "arguments", "error", "says"),
    [
        (TEXT, {}, PromptError, "emphasizes no text"),
        (SpanStr(TEXT, [Span(0, 9, deemphasized=True)]), {}, PromptError, "emphasizes no text"),
        ([ONE, ONE], {}, PromptError, "is a text or a list of chat messages"),
        (ONE, {"max_new_tokens": 0}, PromptError, "max_new_tokens"),
        (ONE, {"max_new_tokens": 1000}, PromptTooLongError, "context"),
        (ONE, {"alpha": 0.0}, EmphasisError, "alpha"),
        (SpanStr(TEXT, [Span(3, 4)]), {}, EmphasisError, "covers no token"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("profiled", [True, False])
def test_errors(
    steered: SteeredModel, profiled: bool, prompt: Any, arguments: Any, error: Any, says: str
) -> None:
    model = steered if profiled else SteeredModel(tiny.llama(), tiny.tokenizer())
    with pytest.raises(error, match=says):
        model.attention_to_spans(prompt, **arguments)


@pytest.mark.parametrize(
    ("kind", "way_out"), [("falcon", "implementation='eager'"), ("glm_moe_dsa", "not inspected")]
)
def test_a_model_that_shows_no_weights_is_refused(kind: str, way_out: str) -> None:
    steered = SteeredModel(architectures.decoder(kind), tiny.tokenizer())
    with pytest.raises(UnsupportedModelError, match=way_out):
        steered.attention_to_spans(ONE)


def test_no_matrix_of_all_queries_and_keys_is_made(steered: SteeredModel) -> None:
    prompt = SpanStr(TEXT * 4, ONE.spans)
    tokens = steered.count_tokens(prompt)
    largest: list[tuple[int, ...]] = []

    class Spy(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            made = func(*args, **(kwargs or {}))
            largest.extend(x.shape for x in tree_leaves(made) if isinstance(x, Tensor))
            return made

    with Spy():
        steered.attention_to_spans(prompt, max_new_tokens=40)
    whole = [shape for shape in largest if sum(size >= tokens for size in shape) > 1]
    assert tokens > 80
    assert not whole
    weights = [shape for shape in largest if len(shape) == 4 and shape[-1] == tokens + 39]
    assert max(map(math.prod, weights)) == 4 * 16 * (tokens + 39), "16 queries of 4 heads at a time"


def test_threads_share_a_model(steered: SteeredModel) -> None:
    prompts = [SpanStr(TEXT, [Span(4 * i, 4 * i + 12)]) for i in range(12)]

    def measure(prompt: SpanStr) -> list[Any]:
        return steered.attention_to_spans(prompt, max_new_tokens=4).to_dict()["answer_steered"]

    serial = [measure(prompt) for prompt in prompts]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(measure, prompts)) == serial


@pytest.mark.parametrize("kind", ["llama", "gptj"])
def test_nothing_is_left_behind(kind: str) -> None:
    steered, _ = model_of(kind)
    # The first request for weights has transformers put its own hooks on the model, for good.
    steered.attention_to_spans(ONE, max_new_tokens=2)

    def state() -> Any:
        modules = list(steered.model.modules())
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules]
        return [sorted(vars(m)) for m in modules], hooks, steered.model.config.to_dict()

    before = state()
    steered.attention_to_spans(TWO, max_new_tokens=2)
    assert state() == before


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "gpt_oss"])
def test_padding_on_the_left_has_no_weight(kind: str) -> None:
    steered, _ = model_of(kind)

    def weights(texts: list[SpanStr]) -> Tensor:
        seen: list[Tensor] = []

        def watch(layer: int, query: Tensor, *rest: Any) -> None:
            last = slice(query.shape[2] - 3, query.shape[2])
            seen.append(attention_weights(query, *rest, last))

        with torch.no_grad():
            steered.model(**steered.inputs(texts), use_cache=False, **{WATCH: watch})
        return torch.stack(seen)

    short = SpanStr("Tarn is small. Answer:", [Span(0, 4)])
    both, alone = weights([short, ONE]), weights([short])
    padding = both.shape[-1] - alone.shape[-1]
    assert padding > 0
    assert not both[:, 0, ..., :padding].any()
    close(both[:, 0, ..., padding:], alone[:, 0])
    close(both[:, 1], weights([ONE])[:, 0])


@pytest.mark.parametrize("window", [None, 4])
def test_every_kind_of_mask_gives_the_same_weights(window: int | None) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 4, 10, 8), torch.randn(2, 2, 10, 8)
    there = torch.ones(2, 10)
    there[0, :3] = 0
    behind = torch.arange(10)[:, None] - torch.arange(10)
    seen = (behind >= 0) & (behind < (window or 10))
    dense = seen & there.bool()[:, None, None, :]
    added = torch.where(dense, 0.0, torch.finfo(torch.float32).min)
    block = create_block_mask(
        lambda row, head, q, k: dense[row, 0, q, k], 2, None, 10, 10, device="cpu"
    )
    steering = Steering(torch.randn(2, 10), (1, 2))
    arguments = {"sliding_window": window, "scaling": 0.3}
    wanted = slice(6, 9)
    first = attention_weights(query, key, dense, steering, arguments, wanted)
    assert first.shape == (2, 4, 3, 10)
    for mask in (added, block, there):
        close(attention_weights(query, key, mask, steering, arguments, wanted), first)
    without = attention_weights(query, key, None, steering, arguments, wanted)
    close(without[1], first[1])
    scores = query @ key.repeat_interleave(2, 1).transpose(-1, -2) * 0.3
    scores[:, [1, 2]] += steering.bias[:, None, None]
    close(first, scores.masked_fill(~dense, float("-inf")).softmax(-1)[:, :, wanted])


def test_half_precision_is_read_in_float32() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(1, 4, 9, 8).bfloat16(), torch.randn(1, 2, 9, 8).bfloat16()
    steering = Steering(torch.randn(1, 9), (0,))
    found, wanted = (
        attention_weights(q, k, None, steering, {}, slice(0, 9))
        for q, k in ((query, key), (query.float(), key.float()))
    )
    assert found.dtype == torch.float32
    close(found, wanted)


def test_equal_spans_in_each_other_share_no_token() -> None:
    steered = SteeredModel(tiny.llama(), tiny.tokenizer(), HeadProfile({0: [1]}))
    text = emphasize(emphasize("mayor is")) + " Tarn x"
    assert len(text.spans) == 2
    found = steered.attention_to_spans(text, max_new_tokens=3)
    assert float(found.last_unsteered.max()) <= 1
