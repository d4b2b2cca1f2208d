"""Which token belongs to which span, and what bias it gets."""

from __future__ import annotations

import math

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from pasta_chains.errors import EmphasisError
from pasta_chains.spans import Span, SpanStr
from pasta_chains.tokens import check_alpha, token_bias, token_spans


@st.composite
def texts_and_offsets(draw: st.DrawFn) -> tuple[SpanStr, list[tuple[int, int]]]:
    """Marked text, and token offsets in order: any width, with gaps, overlaps and BOS-like ones."""
    text = draw(st.text(alphabet="ab \n\u00a0é🙂", min_size=1, max_size=14))
    place = st.integers(0, len(text))
    pairs = st.tuples(place, place).map(sorted).filter(lambda pair: pair[0] < pair[1])
    spans = draw(st.lists(st.tuples(pairs, st.booleans()), max_size=4))
    tokens = sorted(draw(st.lists(st.tuples(place, place).map(sorted), max_size=12)))
    offsets = [(start, end) for start, end in tokens]
    for position in draw(st.lists(st.integers(0, len(offsets)), max_size=3)):
        offsets.insert(position, (0, 0))
    marks = [Span(start, end, deemphasized=less) for (start, end), less in spans]
    return SpanStr(text, marks), offsets


@given(texts_and_offsets())
def test_a_token_belongs_to_the_innermost_span_with_which_it_shares_a_visible_character(
    case: tuple[SpanStr, list[tuple[int, int]]],
) -> None:
    text, offsets = case
    visible = [
        {i for i in range(start, end) if not text.text[i].isspace()} for start, end in offsets
    ]
    owners = [
        next(
            (span for span in reversed(text.spans) if shared & {*range(span.start, span.end)}), None
        )
        for shared in visible
    ]
    read = set().union(*visible)
    if any(not read & {*range(span.start, span.end)} for span in text.spans):
        with pytest.raises(EmphasisError, match="covers no token"):
            token_spans(text, offsets)
    elif any(
        span not in owners
        and shared & {*range(start, end)}
        and not (owner and span.start <= owner.start and owner.end <= span.end)
        for start, end, span in text.runs()
        for shared, owner in zip(visible, owners, strict=True)
    ):
        with pytest.raises(EmphasisError, match="shares its only token"):
            token_spans(text, offsets)
    else:
        assert token_spans(text, offsets) == owners


def test_two_spans_in_one_token_are_refused() -> None:
    text = SpanStr("mayor", [Span(0, 2), Span(2, 5, deemphasized=True)])
    with pytest.raises(EmphasisError, match=r"'ma'.*shares its only token"):
        token_spans(text, [(0, 5)])


CASES = {
    # text, spans, offsets, number of the span that each token belongs to
    "BOS at a span from character 0": ("ab", [(0, 2)], [(0, 0), (0, 1), (1, 2)], [None, 0, 0]),
    "EOS with the offset of BOS": ("ab", [(0, 2)], [(0, 2), (0, 0)], [0, None]),
    "leading space in the token": ("a bc", [(2, 4)], [(0, 1), (1, 4)], [None, 0]),
    "space of the next token": ("a bc", [(0, 2)], [(0, 1), (1, 4)], [0, None]),
    "part of a token": ("abcdef", [(2, 3)], [(0, 4), (4, 6)], [0, None]),
    "innermost": ("abc", [(0, 3), (1, 2)], [(0, 1), (1, 2), (2, 3)], [0, 1, 0]),
    "innermost in one token": ("abc", [(0, 3), (1, 2)], [(0, 3)], [1]),
    "one character, many tokens": ("a🙂b", [(1, 2)], [(0, 1), (1, 2), (1, 2), (2, 3)], "-00-"),
    "no token before": ("ab", [(1, 2)], [(0, 1), (1, 2)], [None, 0]),
}


@pytest.mark.parametrize(("text", "spans", "offsets", "owners"), CASES.values(), ids=CASES.keys())
def test_owners(text: str, spans: list[tuple[int, int]], offsets: list, owners: object) -> None:
    marked = SpanStr(text, spans)
    if isinstance(owners, str):
        owners = [None if mark == "-" else int(mark) for mark in owners]
    expected = [None if number is None else marked.spans[number] for number in owners]
    assert token_spans(marked, offsets) == expected


@pytest.mark.parametrize(
    ("text", "span", "offsets"),
    [
        ("a  b", (1, 3), [(0, 1), (1, 2), (2, 4)]),
        ("a\u00a0b", (1, 2), [(0, 1), (1, 2), (2, 3)]),
        ("abc", (2, 3), [(0, 1), (1, 2)]),
        ("abc", (0, 1), []),
        ("abc", (0, 3), [(0, 0)]),
    ],
    ids=["white space", "non-breaking space", "cut off", "no tokens", "only BOS"],
)
def test_a_span_without_a_token_is_an_error(
    text: str, span: tuple[int, int], offsets: list[tuple[int, int]]
) -> None:
    with pytest.raises(
        EmphasisError, match=rf"characters {span[0]} to {span[1]}\) covers no token"
    ):
        token_spans(SpanStr(text, [span]), offsets)


LETTERS = [(i, i + 1) for i in range(6)]
LOG = math.log


@pytest.mark.parametrize(
    ("spans", "bias"),
    [
        ([], [0] * 6),
        ([Span(0, 2)], [0, 0, *[LOG(0.1)] * 4]),
        # The complement of the union is scaled once, not once per span.
        ([Span(0, 1), Span(4, 5)], [0, *[LOG(0.1)] * 3, 0, LOG(0.1)]),
        ([Span(0, 2), Span(2, 4)], [0, 0, 0, 0, LOG(0.1), LOG(0.1)]),
        ([Span(0, 4), Span(1, 2)], [0, 0, 0, 0, LOG(0.1), LOG(0.1)]),
        ([Span(0, 4), Span(1, 2, 0.5)], [0, LOG(0.2), 0, 0, LOG(0.1), LOG(0.1)]),
        ([Span(0, 1, 0.01), Span(1, 2)], [0, LOG(0.1), *[LOG(0.01)] * 4]),
        ([Span(0, 1, deemphasized=True)], [LOG(0.1), *[0] * 5]),
        ([Span(0, 6)], [0] * 6),
        ([Span(0, 6, deemphasized=True)], [0] * 6),
        ([Span(0, 2, 0.2), Span(2, 4, 0.5, deemphasized=True)],
         [0, 0, LOG(0.1), LOG(0.1), LOG(0.2), LOG(0.2)]),
        ([Span(0, 2, 1.0)], [0] * 6),
    ],
)  # fmt: skip
def test_bias_is_the_log_of_the_weight_relative_to_the_strongest(
    spans: list[Span], bias: list[float]
) -> None:
    assert token_bias(SpanStr("abcdef", spans), LETTERS, 0.1) == pytest.approx(bias, abs=1e-12)


def test_alpha_1_gives_exact_zeros_and_no_token_gives_none() -> None:
    assert token_bias(SpanStr("abcdef", [(0, 2)]), LETTERS, 1) == [0.0] * 6
    assert token_bias(SpanStr(""), [], 0.1) == []


@pytest.mark.parametrize(
    "alpha", [0, -0.1, 1.001, math.nan, math.inf, -math.inf, True, "0.1", None]
)
def test_an_alpha_outside_0_to_1_is_refused(alpha: object) -> None:
    with pytest.raises(EmphasisError, match=r"alpha is .* above 0 and at most 1"):
        check_alpha(alpha)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(EmphasisError, match="alpha is"):
        token_bias(SpanStr("a"), [(0, 1)], alpha)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("alpha", [1, 1.0, 0.01, 5e-324])
def test_an_alpha_above_0_up_to_1_is_taken(alpha: float) -> None:
    check_alpha(alpha)
    bias = token_bias(SpanStr("ab", [(0, 1)]), [(0, 1), (1, 2)], alpha)
    assert all(map(math.isfinite, bias))


TEXT = "The mayor of Tarn 🙂 is  Ada\nLowe."


@pytest.mark.parametrize("make", [tiny.tokenizer, tiny.metaspace_tokenizer])
@pytest.mark.parametrize("marked", ["The", "mayor of", " Tarn", "🙂", "Ada\nLowe", "Lowe.", TEXT])
def test_with_a_real_tokenizer_the_emphasized_tokens_are_those_that_spell_the_text(
    make: object, marked: str
) -> None:
    tokenizer = make()  # type: ignore[operator]  # wrong on purpose
    start = TEXT.index(marked)
    encoded = tokenizer(TEXT, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    text = SpanStr(TEXT, [(start, start + len(marked))])
    chosen = [n for n, span in enumerate(token_spans(text, offsets)) if span]
    first, last = chosen[0], chosen[-1]
    assert first > 0, "BOS is never emphasized"
    # White space that is a token of its own is left out; the rest in between is there.
    between = set(range(first, last + 1)) - set(chosen)
    assert all(TEXT[slice(*offsets[n])].isspace() for n in between)
    assert marked.strip() in tokenizer.decode(encoded["input_ids"][first : last + 1])
    # One token fewer at either end no longer spells it.
    for fewer in (slice(first + 1, last + 1), slice(first, last)):
        assert marked.strip() not in tokenizer.decode(encoded["input_ids"][fewer])


@pytest.mark.parametrize("make", [tiny.tokenizer, tiny.metaspace_tokenizer])
def test_an_emoji_of_several_tokens_is_emphasized_as_a_whole(make: object) -> None:
    tokenizer = make()  # type: ignore[operator]  # wrong on purpose
    offsets = tokenizer(TEXT, return_offsets_mapping=True)["offset_mapping"]
    start = TEXT.index("🙂")
    bias = token_bias(SpanStr(TEXT, [(start, start + 1)]), offsets, 0.1)
    assert bias.count(0.0) == 4
    assert len(bias) > 4
