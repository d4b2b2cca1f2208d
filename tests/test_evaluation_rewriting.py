"""What prompts become in each condition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pasta_chains.chat import Message
from pasta_chains.errors import TaskError
from pasta_chains.evaluation.rewriting import (
    marked,
    with_emphasis,
    with_examples,
    without_emphasis,
    wrong_emphasis,
)
from pasta_chains.evaluation.task import Sample
from pasta_chains.prompts import Prompt
from pasta_chains.spans import Span, SpanStr, emphasize

TEXT = SpanStr("Who leads Tarn? ") + emphasize("Be brief.") + " Now: "
CHAT: list[Message] = [
    {"role": "system", "content": emphasize("Be brief.")},
    {"role": "user", "content": "Who leads Tarn?"},
]


def dim(start: int, end: int) -> Span:
    return Span(start, end, None, None, True)


def spans(text: str) -> tuple[Span, ...]:
    assert isinstance(text, SpanStr)
    return text.spans


def ask(identity: str, prompt: Prompt, wanted: str) -> Sample:
    return Sample(identity, (prompt, "another"), wanted)


def test_zero_shot_is_the_text_alone() -> None:
    plain = without_emphasis(TEXT)
    assert plain == TEXT
    assert spans(plain) == ()
    messages = without_emphasis(CHAT)
    assert messages == CHAT
    assert all(spans(message["content"]) == () for message in messages)
    assert spans(CHAT[0]["content"]), "what was given is left alone"


def test_steered_is_the_prompt_as_it_is() -> None:
    assert with_emphasis(TEXT) is TEXT


@pytest.mark.parametrize("mark", ["*", '"', "**"])
def test_marks_stand_around_what_is_emphasized(mark: str) -> None:
    made = marked(mark)(TEXT)
    assert made == f"Who leads Tarn? {mark}Be brief.{mark} Now: "
    assert spans(made) == ()
    assert [message["content"] for message in marked(mark)(CHAT)] == [
        f"{mark}Be brief.{mark}",
        "Who leads Tarn?",
    ]


@pytest.mark.parametrize(
    ("given_spans", "text", "wrong"),
    [
        ([(0, 3)], "*abc*def", ["def"]),
        ([(3, 6)], "abc*def*", ["abc"]),
        ([(2, 4)], "ab*cd*ef", ["ab", "ef"]),
        ([(0, 6), (2, 4)], "*abcdef*", None),  # nested: marked once
        ([(0, 3), (3, 5)], "*abcde*f", ["f"]),  # side by side
        ([(0, 2), (4, 6)], "*ab*cd*ef*", ["cd"]),
        ([(0, 6), dim(2, 4)], "*ab*cd*ef*", ["cd"]),  # inside, less
        ([dim(0, 4), (1, 2)], "a*b*cdef", ["a", "cdef"]),  # outside, less
        ([(0, 6, 0.5), (2, 4, 0.1)], "*abcdef*", None),
    ],
)
def test_nested_spans(given_spans: list[Span], text: str, wrong: list[str] | None) -> None:
    prompt = SpanStr("abcdef", given_spans)
    assert marked("*")(prompt) == text
    if wrong is None:
        with pytest.raises(TaskError, match="All of a prompt is emphasized"):
            wrong_emphasis(prompt)
    else:
        turned = wrong_emphasis(prompt)
        assert (turned, list(turned.emphasized())) == ("abcdef", wrong)


def test_white_space_alone_is_not_emphasized() -> None:
    prompt = SpanStr("a \n bc", [(0, 1), (4, 5)])
    assert wrong_emphasis(prompt).emphasized() == ("c",)
    with pytest.raises(TaskError, match="no wrong text to emphasize"):
        wrong_emphasis(SpanStr(" a\n", [(1, 2)]))


def test_the_wrong_text_of_a_chat_is_in_its_messages() -> None:
    system, user = wrong_emphasis(CHAT)
    assert spans(system["content"]) == ()
    assert user["content"].emphasized() == ("Who leads Tarn?",)
    with pytest.raises(TaskError, match="no wrong text to emphasize"):
        wrong_emphasis(CHAT[:1])


@st.composite
def emphasized(draw: st.DrawFn) -> SpanStr:
    text = draw(st.text(st.sampled_from("ab \n*é🙂"), min_size=1, max_size=12))
    places = st.integers(0, len(text))
    drawn = draw(st.lists(st.tuples(places, places, st.booleans()), max_size=4))
    return SpanStr(text, [Span(a, b, None, None, less) for a, b, less in drawn if a < b])


@given(emphasized())
def test_every_character_is_emphasized_before_or_after(prompt: SpanStr) -> None:
    """Apart from white space: the control's emphasis is the complement of the prompt's."""
    before = [False] * len(prompt)
    for start, end, span in prompt.runs():
        before[start:end] = [not span.deemphasized] * (end - start)
    plain = {
        place for place, is_in in enumerate(before) if not is_in and prompt.text[place].strip()
    }
    if not plain:
        with pytest.raises(TaskError):
            wrong_emphasis(prompt)
        return
    turned = wrong_emphasis(prompt)
    after = {place for span in turned.spans for place in range(span.start, span.end)}
    assert turned == prompt
    assert plain <= after
    assert not any(before[place] for place in after)


@given(emphasized())
def test_marks_come_in_pairs_and_cut_out_what_is_emphasized(prompt: SpanStr) -> None:
    """Where marks are no text of the prompt, what stands between them is its emphasis."""
    parts = str(marked("|")(prompt)).split("|")
    assert "".join(parts) == prompt
    assert len(parts) % 2 == 1
    kept = [span.deemphasized for *_, span in prompt.runs()]
    assert len(parts) // 2 <= kept.count(False)
    ranges = [(start, end) for start, end, span in prompt.runs() if not span.deemphasized]
    assert "".join(parts[1::2]) == "".join(prompt.text[start:end] for start, end in ranges)


def test_worked_examples_stand_before_a_text() -> None:
    samples = [ask("1", emphasize("One?"), "1"), ask("2", SpanStr("Two?"), "2")]
    made = with_examples(samples, "\n---\n")(TEXT)
    assert made == "One? 1\n---\nTwo? 2\n---\nWho leads Tarn? Be brief. Now: "
    assert spans(made) == ()
    assert with_examples([], "\n")(TEXT) == TEXT


def test_worked_examples_are_turns_of_a_chat() -> None:
    same = [CHAT[0], {"role": "user", "content": "One?"}]
    other = [
        {"role": "system", "content": emphasize("In words.")},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "Even?"},
        {"role": "user", "content": "Yes."},
    ]
    made = with_examples([ask("1", same, "1"), ask("2", other, "two")], "\n")(CHAT)
    assert made == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "In words.\n\nTwo?"},
        {"role": "assistant", "content": "Even?"},
        {"role": "user", "content": "Yes."},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "Who leads Tarn?"},
    ]
    assert not any(SpanStr(message["content"]).spans for message in made)


def test_the_examples_of_a_chat_without_a_system_message() -> None:
    made = with_examples([ask("1", CHAT, "Ada")], "\n")([{"role": "user", "content": "One?"}])
    assert made == [
        {"role": "user", "content": "Be brief.\n\nWho leads Tarn?"},
        {"role": "assistant", "content": "Ada"},
        {"role": "user", "content": "One?"},
    ]


def test_examples_that_cannot_be_shown_are_refused() -> None:
    text, chat = ask("1", TEXT, "Ada"), ask("2", CHAT, "Ada")
    for samples, prompt in (([text], CHAT), ([chat], TEXT), ([text, chat], TEXT)):
        with pytest.raises(TaskError, match="Some prompts are texts and others chat messages"):
            with_examples(samples, "\n")(prompt)
    with pytest.raises(TaskError, match="The sample '3' has no answer that a worked example"):
        with_examples([text, ask("3", TEXT, " ")], "\n")
    for shown, prompt in ((CHAT[:1], CHAT), (CHAT, CHAT[:1])):
        with pytest.raises(TaskError, match="has system messages alone"):
            with_examples([ask("4", shown, "Ada")], "\n")(prompt)
