"""Substitution writes what `re.sub` writes, and keeps each mark on its character."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pasta_chains.errors import EmphasisDroppedWarning
from pasta_chains.spans import Span, SpanStr, emphasize
from pasta_chains.substitute import sub

TWO = "one " + emphasize("two") + " six"


@pytest.mark.parametrize(
    ("pattern", "replacement", "text", "expected"),
    [
        (r"(\w+) (\w+)", r"\2-\1!", TWO, "<mark>two</mark>-one! six"),
        (r"(?P<a>t)(w)?", r"[\g<a>\g<2>]", TWO, "one <mark>[tw]o</mark> six"),
        ("o", "0", emphasize("foo"), "<mark>f00</mark>"),
        ("two", "2", TWO, "one <mark>2</mark> six"),
        ("e t", "-", TWO, "on-<mark>wo</mark> six"),
        (" two ", "", TWO, "onesix"),
        ("x", r"\n", SpanStr("axb"), "a\nb"),
        ("(x)|(a)", r"\1\\", SpanStr("ab"), "\\b"),
        ("six", emphasize("6"), TWO, "one <mark>two</mark> <mark>6</mark>"),
        ("(two) six", emphasize(r"\1"), TWO, "one <mark>two</mark>"),
        ("x", r"\101\0\g<0>", SpanStr("x"), "A\0x"),
    ],
    ids=itertools.count(),
)
def test_spans_follow_the_text(pattern: str, replacement: str, text: str, expected: str) -> None:
    assert sub(pattern, replacement, text).to_html() == expected


def test_a_function_may_bring_emphasis_and_count_limits() -> None:
    text = sub("o", lambda match: emphasize(match[0].upper()), "foo boo", count=3)
    assert text.to_html() == "f<mark>O</mark><mark>O</mark> b<mark>O</mark>o"


@given(
    st.text("ab ", max_size=12),
    st.sampled_from(["a", "a*", "(a)(b)?", "b$", "", r"\b"]),
    st.sampled_from(["", "x", r"\\", r"<\g<0>>", r"\g<0>\g<0>"]),
    st.integers(0, 3),
)
def test_the_text_is_that_of_re(text: str, pattern: str, replacement: str, count: int) -> None:
    marked = SpanStr(text, [Span(0, len(text))] if text else [])
    assert sub(pattern, replacement, marked, count).text == re.sub(
        pattern, replacement, text, count=count
    )


def test_a_function_that_loses_emphasis_warns() -> None:
    assert sub("one two", lambda match: match[0], TWO).emphasized() == ("two",)
    assert sub("two", lambda match: "2", TWO).emphasized() == ("2",)
    with pytest.warns(EmphasisDroppedWarning, match="sub with a function"):
        assert sub("one two", lambda match: match[0].upper(), TWO) == "ONE TWO six"


def test_what_re_refuses_is_refused() -> None:
    assert sub("o", "0", TWO, count=-1) == TWO
    with pytest.raises(re.error, match="bad escape"):
        sub("o", "0\\", TWO)
