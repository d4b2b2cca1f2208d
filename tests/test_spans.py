"""Text with spans: every operation keeps each mark on its character, or says that it drops them."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marked import innermost

from pasta_chains.errors import EmphasisDroppedWarning, EmphasisError
from pasta_chains.spans import (
    STRENGTHS,
    Span,
    SpanStr,
    carries_emphasis,
    concat,
    emphasize,
    span_count,
)

SENTENCE = SpanStr("one two three", [Span(4, 7, alpha=0.1, name="facts")])


def marks(text: str) -> list[tuple[str, Span | None]]:
    """Each character with what its innermost span says."""
    return list(zip(str.__str__(text), innermost(text), strict=True))


@st.composite
def span_strings(
    draw: st.DrawFn, alphabet: str = "ab \t\n,.-+0ßΣİǆ", unique: bool = False
) -> SpanStr:
    characters = st.lists(st.sampled_from(alphabet), max_size=12, unique=unique)
    text = "".join(draw(characters))
    spans = []
    if text:
        for number in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, len(text) - 1))
            end = draw(st.integers(start + 1, len(text)))
            spans.append(Span(start, end, alpha=(number + 1) / 10))
    return SpanStr(text, spans)


unique_span_strings = span_strings(alphabet="abcdef \t\n\r,.-+0ßΣİǆ", unique=True)


# Span


def test_a_span_says_what_is_wrong_with_it() -> None:
    with pytest.raises(EmphasisError, match="marks no text"):
        Span(3, 3)
    with pytest.raises(EmphasisError, match="start=4 and end=2"):
        Span(4, 2)
    with pytest.raises(EmphasisError, match="start=-1"):
        Span(-1, 2)
    with pytest.raises(EmphasisError, match="whole numbers, not at True"):
        Span(True, 2)
    with pytest.raises(EmphasisError, match="name of a span"):
        Span(0, 1, name=3)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("alpha", [0, -0.5, 1.5, float("nan"), float("inf"), "0.1", True])
def test_alpha_is_a_number_above_0_and_up_to_1(alpha: float) -> None:
    with pytest.raises(EmphasisError, match=f"alpha is {alpha!r}.* 0 < alpha <= 1"):
        Span(0, 1, alpha=alpha)


# SpanStr as a container


def test_spans_can_be_tuples() -> None:
    assert SpanStr("abc", [(0, 2, 0.5, "x"), (2, 3)]).spans == (Span(0, 2, 0.5, "x"), Span(2, 3))


def test_a_span_must_lie_inside_the_text() -> None:
    with pytest.raises(EmphasisError, match=r"\[1, 4\) reaches beyond the text.* 3 characters"):
        SpanStr("abc", [(1, 4)])


@pytest.mark.parametrize("spans", [[5], [(0,)], [(0, 1, 0.5, "n", False, 6)], ["ab"], {"a": 1}])
def test_what_is_no_span_is_refused(spans: list[object]) -> None:
    with pytest.raises(EmphasisError, match=r"A span is a Span or a tuple \(start, end"):
        SpanStr("abc", spans)  # type: ignore[arg-type]  # wrong on purpose


def test_spans_must_be_given_in_a_list() -> None:
    with pytest.raises(EmphasisError, match="are a list, empty for no emphasis, not None"):
        SpanStr("abc", None)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("make", [SpanStr, emphasize])
@pytest.mark.parametrize("value", [b"abc", 5, None])
def test_only_text_can_carry_emphasis(make: Callable[[object], str], value: object) -> None:
    with pytest.raises(EmphasisError, match=f"Only a str .* not {type(value).__name__}"):
        make(value)


def test_spans_are_ordered_outer_before_inner() -> None:
    text = SpanStr("abcdef", [(2, 3), (0, 6), (4, 6), (0, 3)])
    assert text.spans == (Span(0, 6), Span(0, 3), Span(2, 3), Span(4, 6))


def test_the_later_of_two_crossing_spans_wins() -> None:
    text = SpanStr("abcdef", [(0, 4, 0.1), (2, 6, 0.2)])
    assert text.spans == (Span(0, 2, 0.1), Span(2, 6, 0.2))
    assert [span.alpha for _, span in marks(text[::-1]) if span] == [0.2] * 4 + [0.1] * 2


def test_runs_give_the_innermost_span_of_each_range() -> None:
    text = emphasize("a" + emphasize("b" + emphasize("c", 0.3) + "d", 0.2) + "e", 0.1)
    assert [(start, end, span.alpha) for start, end, span in text.runs()] == [
        (0, 1, 0.1),
        (1, 2, 0.2),
        (2, 3, 0.3),
        (3, 4, 0.2),
        (4, 5, 0.1),
    ]


@given(span_strings())
def test_runs_agree_with_the_spans(text: SpanStr) -> None:
    innermost: list[float | None] = [None] * len(text)
    for start, end, span in text.runs():
        assert innermost[start:end] == [None] * (end - start)
        innermost[start:end] = [span.alpha] * (end - start)
    assert innermost == [span and span.alpha for _, span in marks(text)]
    assert text.runs() == sorted(text.runs(), key=lambda run: run[0])


def test_emphasized_leaves_out_what_is_deemphasized() -> None:
    text = emphasize("loud") + " and " + emphasize("quiet", deemphasized=True)
    assert text.emphasized() == ("loud",)


def test_it_is_its_text() -> None:
    assert SENTENCE == "one two three"
    assert hash(SENTENCE) == hash("one two three")
    assert type(SENTENCE.text) is str
    assert str(SENTENCE) is SENTENCE
    assert repr(SENTENCE) == repr("one two three")


def test_copies_keep_spans() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(SENTENCE, protocol)).spans == SENTENCE.spans
    assert copy.copy(SENTENCE).spans == copy.deepcopy(SENTENCE).spans == SENTENCE.spans
    assert SpanStr(SENTENCE).spans == SENTENCE.spans


def test_json_there_and_back() -> None:
    back = SpanStr.from_dict(json.loads(json.dumps(SENTENCE.to_dict())))
    assert (back, back.spans) == (SENTENCE, SENTENCE.spans)


@pytest.mark.parametrize(
    "data", [{}, {"text": "a"}, {"text": 1, "spans": []}, {"text": "a", "spans": [{"begin": 0}]}]
)
def test_json_of_another_shape_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(EmphasisError, match="not what SpanStr"):
        SpanStr.from_dict(data)


def test_rich_shows_emphasis() -> None:
    rich_text = (SENTENCE + emphasize("!", deemphasized=True)).__rich__()
    assert rich_text.plain == "one two three!"
    assert [(span.start, span.end) for span in rich_text.spans] == [(4, 7), (13, 14)]


# Operations that cut: each remaining character is the one it was.

CUTS: dict[str, Callable[[str], object]] = {
    "slice": lambda text: text[2:7],
    "negative": lambda text: text[-3:],
    "step": lambda text: text[1::3],
    "reverse": lambda text: text[::-1],
    "backward": lambda text: text[-2:1:-2],
    "index": lambda text: text[len(text) // 2] if text else "",
    "iter": list,
    "strip": lambda text: text.strip(),
    "lstrip": lambda text: text.lstrip("ab "),
    "rstrip": lambda text: text.rstrip("\n-."),
    "split": lambda text: text.split(),
    "split once": lambda text: text.split(None, 1),
    "split comma": lambda text: text.split(","),
    "rsplit once": lambda text: text.rsplit(None, 1),
    "rsplit comma": lambda text: text.rsplit(",", 1),
    "splitlines": lambda text: text.splitlines(),
    "keepends": lambda text: text.splitlines(keepends=True),
    "partition": lambda text: text.partition("."),
    "rpartition": lambda text: text.rpartition("."),
    "removeprefix": lambda text: text.removeprefix("a"),
    "removesuffix": lambda text: text.removesuffix("a"),
    "remove": lambda text: text.replace("b", ""),
}


@settings(max_examples=300)
@given(operation=st.sampled_from(sorted(CUTS)), text=unique_span_strings)
def test_cutting_leaves_each_mark_on_its_character(operation: str, text: SpanStr) -> None:
    cut, expected = CUTS[operation](text), CUTS[operation](text.text)
    assert cut == expected
    assert type(cut) is type(expected) or isinstance(cut, SpanStr)
    marked = dict(marks(text))
    for piece in [cut] if isinstance(cut, str) else cut:
        assert all(mark == marked[character] for character, mark in marks(piece))


# Operations that change characters one by one, with the text that each one becomes.

CHANGES: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "upper": (lambda text: text.upper(), str.upper),
    "lower": (lambda text: text.lower(), str.lower),
    "casefold": (lambda text: text.casefold(), str.casefold),
    "swapcase": (lambda text: text.swapcase(), str.swapcase),
    "translate": (
        lambda text: text.translate({97: None, 98: "xyz"}),
        lambda character: {"a": "", "b": "xyz"}.get(character, character),
    ),
    "replace": (
        lambda text: text.replace("a", "<A>"),
        lambda character: character.replace("a", "<A>"),
    ),
}


@settings(max_examples=200)
@given(operation=st.sampled_from(sorted(CHANGES)), text=span_strings())
def test_a_changed_character_keeps_its_mark(operation: str, text: SpanStr) -> None:
    change, change_one = CHANGES[operation]
    changed = change(text)
    assert changed == change(text.text)
    expected = [mark for character, mark in marks(text) for _ in change_one(character)]
    assert [mark for _, mark in marks(changed)] == expected


@given(span_strings(), st.sampled_from(["title", "capitalize", "expandtabs"]))
def test_changes_that_look_to_the_left(text: SpanStr, operation: str) -> None:
    changed = getattr(text, operation)()
    assert changed == getattr(text.text, operation)()
    alphas = [span and span.alpha for _, span in marks(changed)]
    compressed = [alpha for at, alpha in enumerate(alphas) if at == 0 or alphas[at - 1] != alpha]
    original = [span and span.alpha for _, span in marks(text)]
    assert compressed == [a for at, a in enumerate(original) if at == 0 or original[at - 1] != a]


def test_changes_of_length_by_example() -> None:
    text = SpanStr("straße in İzmir", [(0, 6), (10, 15)])
    assert text.upper().emphasized() == ("STRASSE", "İZMIR")
    assert text.lower().emphasized() == ("straße", "i̇zmir")
    assert text.title().emphasized() == ("Straße", "İzmir")
    assert SpanStr("a\tbc", [(2, 4)]).expandtabs(4).emphasized() == ("bc",)
    assert SpanStr("ΟΔΟΣ", [(3, 4)]).lower().emphasized() == ("ς",)


# Operations that add


@given(st.lists(span_strings() | st.text(max_size=3), max_size=4), span_strings())
def test_joining(pieces: list[str], separator: SpanStr) -> None:
    joined = separator.join(pieces)
    assert joined == separator.text.join(pieces)
    expected = []
    for number, piece in enumerate(pieces):
        expected += [*(marks(separator) if number else []), *marks(piece)]
    assert marks(joined) == expected


def test_addition_from_both_sides() -> None:
    text = "a" + emphasize("b") + "c"
    assert (text, text.spans) == ("abc", (Span(1, 2),))
    with pytest.raises(TypeError):
        emphasize("b") + 1  # type: ignore[operator]  # wrong on purpose


@given(span_strings(), st.integers(0, 20), st.sampled_from(["ljust", "rjust", "center", "zfill"]))
def test_padding_is_not_marked(text: SpanStr, width: int, operation: str) -> None:
    padded = getattr(text, operation)(width)
    assert padded == getattr(text.text, operation)(width)
    if operation != "zfill":
        added = len(padded) - len(text)
        kept = [mark for _, mark in marks(text)]
        all_marks = [mark for _, mark in marks(padded)]
        assert any(
            all_marks == [None] * left + kept + [None] * (added - left) for left in range(added + 1)
        )


@given(span_strings(), st.integers(-1, 3))
def test_repeating(text: SpanStr, count: int) -> None:
    assert marks(text * count) == marks(count * text) == marks(text) * count


@given(
    span_strings("abc"),
    st.text("abc", max_size=2),
    span_strings("xyz") | st.text("xyz", max_size=3),
    st.integers(-1, 3),
)
def test_replacing(text: SpanStr, old: str, new: str, count: int) -> None:
    replaced = text.replace(old, new, count)
    assert replaced == text.text.replace(old, new, count)
    # Letters of the text stay apart from those put in, so the untouched ones can be compared.
    tagged = [mark for character, mark in marks(replaced) if character in "abc"]
    position, untouched = 0, []
    for part in text.text.split(old, count) if old else list(text.text):
        untouched += marks(text)[position : position + len(part)]
        position += len(part) + len(old)
    assert tagged == [mark for _, mark in untouched]


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(2, 4)], ["XYZ"]),
        ([(0, 6)], ["abXYZef"]),
        ([(0, 3)], ["ab"]),
        ([(3, 6)], ["ef"]),
        ([(3, 4)], []),
        ([(0, 4)], ["abXYZ"]),
    ],
)
def test_a_replacement_takes_the_spans_that_cover_what_it_replaces(
    spans: list[tuple[int, int]], expected: list[str]
) -> None:
    assert list(SpanStr("abcdef", spans).replace("cd", "XYZ").emphasized()) == expected


def test_a_replacement_brings_its_own_spans_inside_those_it_takes() -> None:
    text = SpanStr("say X", [(4, 5, 0.5)]).replace("X", emphasize("this", 0.1))
    assert text.spans == (Span(4, 8, 0.5), Span(4, 8, 0.1))


def test_zeros_after_the_sign_belong_to_the_number() -> None:
    assert SpanStr("-7", [(0, 2)]).zfill(5).emphasized() == ("-0007",)
    assert SpanStr("7", [(0, 1)]).zfill(3).emphasized() == ("7",)


# Operations that cannot keep spans say so


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (lambda text: text % (), "one two three"),
        (lambda text: "%s" % text, "one two three"),  # noqa: UP031  (what is tested)
        (lambda text: f"<{text}>", "<one two three>"),
        (lambda text: f"{text:>15}", "  one two three"),
        (lambda text: text.format(), "one two three"),
        (lambda text: text.format_map({}), "one two three"),
        (lambda text: text.encode(), b"one two three"),
    ],
)
def test_dropping_warns(operation: Callable[[SpanStr], object], expected: object) -> None:
    with pytest.warns(EmphasisDroppedWarning, match="cannot keep emphasis"):
        result = operation(SENTENCE)
    assert result == expected
    assert not isinstance(result, SpanStr)
    assert operation(SpanStr(SENTENCE.text)) == expected


def test_every_str_method_that_returns_text_is_accounted_for() -> None:
    reading = {
        *("count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal"),
        *("isdigit", "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle"),
        *("isupper", "maketrans", "rfind", "rindex", "startswith"),
    }
    methods = {name for name in vars(str) if not name.startswith("__")}
    assert methods - reading <= vars(SpanStr).keys()


def test_emphasis_is_found_in_lists_and_mappings() -> None:
    nested = {"documents": [("plain", [SENTENCE])]}
    assert carries_emphasis(nested)
    assert not carries_emphasis({"documents": [("plain", [SpanStr(SENTENCE.text)], 3)]})
    assert (span_count(SENTENCE), span_count("plain")) == (1, 0)


def test_concat_of_nothing() -> None:
    assert concat([]) == ""


# Retuning and showing


def test_with_alpha_retunes_the_spans_of_a_name() -> None:
    text = SpanStr("abcd", [Span(0, 1, 0.5, "a"), Span(1, 2, 0.5, "b"), Span(3, 4)])
    assert text.with_alpha(0.1, name="b").spans == (
        Span(0, 1, 0.5, "a"), Span(1, 2, 0.1, "b"), Span(3, 4),
    )  # fmt: skip
    assert [span.alpha for span in text.with_alpha("strong").spans] == [STRENGTHS["strong"]] * 3
    assert text.with_alpha(None, name="a").spans[0].alpha is None
    assert text.spans[0].alpha == 0.5


def test_with_alpha_never_does_nothing() -> None:
    text = SpanStr("abcd", [Span(0, 1, 0.5, "a"), Span(1, 2)])
    with pytest.raises(EmphasisError, match=r"No span has the name 'c'.*Named spans: a"):
        text.with_alpha(0.1, name="c")
    with pytest.raises(EmphasisError, match=r"has no spans.*Named spans: none"):
        SpanStr("abcd").with_alpha(0.1)
    with pytest.raises(EmphasisError, match="alpha is 2"):
        text.with_alpha(2)
    with pytest.raises(EmphasisError, match=r"no strength 'huge'\. Use 'light' or 'strong'"):
        text.with_alpha("huge")


def test_html_marks_the_innermost_spans_and_escapes_text() -> None:
    text = SpanStr("<a> b & c", [Span(0, 9, 0.1, 'say "x"'), Span(4, 5, deemphasized=True)])
    outer = '<mark data-alpha="0.1" data-name="say &quot;x&quot;">'
    assert text.to_html() == f"{outer}&lt;a&gt; </mark><small>b</small>{outer} &amp; c</mark>"
    assert SpanStr("a < b").to_html() == "a &lt; b"
    assert text.to_html() in text._repr_html_()


def test_a_terminal_shows_each_mark_on_its_text() -> None:
    text = SpanStr("a\r\nb\x07 END", [Span(6, 9)])
    shown = text.__rich__()
    assert [shown.plain[span.start : span.end] for span in shown.spans] == ["END"]
