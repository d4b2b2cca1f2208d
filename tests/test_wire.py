"""Emphasis over the wire: what is written is read, and what is malformed is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pasta_chains.errors import EmphasisError
from pasta_chains.spans import SpanStr
from pasta_chains.tokens import token_log_weights
from pasta_chains.wire import Emphasis, marked, token_marks

WORDS = 12
OFFSETS = [(0, 0), *((3 * place, 3 * place + 2) for place in range(WORDS))]
TEXT = " ".join(["ab"] * WORDS)
SPANS = st.lists(
    st.tuples(
        st.integers(0, WORDS - 1),
        st.integers(1, 4),
        st.sampled_from([None, 0.5, 0.01]),
        st.booleans(),
    ),
    max_size=5,
)


@given(SPANS)
def test_spans_of_tokens_weigh_what_spans_of_characters_weigh(
    drawn: list[tuple[int, int, float | None, bool]],
) -> None:
    spans = [
        (3 * first, min(3 * (first + count), len(TEXT)), alpha, "name", less)
        for first, count, alpha, less in drawn
    ]
    text = SpanStr(TEXT, spans)
    marks = token_marks(text, OFFSETS)
    places = [(place, place + 1) for place in range(len(OFFSETS))]
    over = Emphasis.parse(Emphasis(version=1, unit="tokens", spans=marks).dump())
    there = token_log_weights(marked("-" * len(OFFSETS), over.spans), places, 0.1)
    assert there == token_log_weights(text, OFFSETS, 0.1)


def test_what_is_written_is_read() -> None:
    emphasis = Emphasis(
        version=1, unit="tokens", spans=[[1, 4, 0.5]], alpha=0.01, profile="0123456789abcdef"
    )
    assert Emphasis.parse(emphasis.dump()) == emphasis
    assert json.loads(Emphasis(version=1).dump()) == {"version": 1}


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (3, "pasta_chains is 3; it must be a JSON text"),
        ("", "malformed: Invalid JSON"),
        ("[]", "malformed: Input should be an object"),
        ("{}", "malformed at version: Field required"),
        ('{"version": 2}', "malformed at version: Input should be 1"),
        ('{"version": 1, "unit": "words"}', "malformed at unit"),
        ('{"version": 1, "spans": [[1]]}', r"malformed at spans\.0"),
        ('{"version": 1, "spans": [[1, 2, 0.5, "a", false, 6]]}', r"malformed at spans\.0"),
        (json.dumps({"version": 1, "spans": [[0, 1]] * 1001}), "malformed at spans"),
        (json.dumps({"version": 1, "messages": {"0": [[0, 1]] * 1001}}), "malformed at messages"),
        ('{"version": 1, "alpha": 0}', "malformed at alpha: Input should be greater than 0"),
        ('{"version": 1, "alpha": 1.5}', "malformed at alpha"),
        ('{"version": 1, "alpha": "0.5"}', "malformed at alpha"),
        ('{"version": 1, "colour": "red"}', "malformed at colour: Extra inputs"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(sent: Any, message: str) -> None:
    with pytest.raises(EmphasisError, match=message) as error:
        Emphasis.parse(sent)
    assert '{"version": 1, "spans": [[6, 14]' in str(error.value)


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ([0, 9], "reaches beyond the text, which has 5 characters"),
        ([3, 3], "marks no text"),
        ([-1, 3], "0 <= start < end"),
        (["a", 3], "whole numbers"),
        ([0, 3, 0.0], "alpha is 0.0"),
        ([0, 3, None, 7], "name of a span must be a str"),
    ],
)
def test_a_span_that_does_not_fit_is_refused(mark: list[Any], message: str) -> None:
    with pytest.raises(EmphasisError, match=message):
        marked("abcde", [mark])
