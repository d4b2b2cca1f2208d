"""Prompts that do not fit: what goes, in which order, and that emphasized text stays."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from marked import bracketed

from pasta_chains.context import Room
from pasta_chains.engine import SteeredModel
from pasta_chains.errors import PromptError, PromptTooLongError
from pasta_chains.overflow import Dropped, droppable, fewest, guessed, without
from pasta_chains.profile import HeadProfile
from pasta_chains.prompts import tokenize, tokenize_to_fit
from pasta_chains.spans import Span, SpanStr, concat, emphasize

PROFILE = HeadProfile({0: [2], 1: [0, 3]}, alpha=0.02)
TOKENIZERS = {"byte_level": tiny.tokenizer(), "metaspace": tiny.metaspace_tokenizer()}


def marked(text: str) -> SpanStr:
    """Reads «…» as emphasis and {…} as deemphasis."""
    pieces: list[str] = []
    for number, part in enumerate(text.replace("{", "«{").replace("}", "»").split("»")):
        plain, *inside = part.split("«")
        pieces.append(plain)
        for piece in inside:
            less = piece.startswith("{")
            pieces.append(emphasize(piece.removeprefix("{"), deemphasized=less, name=str(number)))
    return concat(pieces)


def steps(prompt: Any, shown: Any = bracketed) -> list[Any]:
    """The prompt after each piece that is left out."""
    pieces = droppable(prompt)
    return [shown(without(prompt, pieces[:count])[0]) for count in range(1, len(pieces) + 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Whole lines, oldest first, and the last one word by word.
        ("a b\nc d\ne f", ["c d\ne f", "e f", "f", ""]),
        # Blank lines go with the line before them.
        ("\na\n\n \nb\n\nc\n", ["a\n\n \nb\n\nc\n", "b\n\nc\n", "c\n", "\n"]),
        # A line that is emphasized in part loses its other words, and no line break.
        ("x «a b» y z\nc", ["«a b» y z\nc", "«a b» z\nc", "«a b»\nc", "«a b»\n"]),
        ("a\n«b»\n\nc", ["«b»\n\nc", "«b»\n\n"]),
        ("«a» and «b»", ["«a» «b»"]),
        # What is written together with emphasized text stays with it.
        ("(«a», «b») x", ["(«a», «b»)"]),
        ("pre«fix»ed «b»-«c» x", ["pre«fix»ed «b»-«c»"]),
        # Emphasized white space and line breaks stay, too.
        ("a« \n »b c", ["« \n »b c", "« \n »c", "« \n »"]),
        ("«a »b c", ["«a »c", "«a »"]),
        # Deemphasized lines go first.
        ("a\n{b c}\nd", ["a\nd", "d", ""]),
        ("a {b}\nc\n{d}", ["a {b}\nc\n", "c\n", ""]),
        # Long text without a space goes in parts.
        ("x" * 70, ["x" * 38, "x" * 6, ""]),
        ("«a»" + "x" * 40, ["«a»" + "x" * 31]),
        ("x" * 40 + "«a»" + "y" * 40 + "«b»", ["x" * 8 + "«a»" + "y" * 40 + "«b»"]),
        ("", []),
        (" \n\n ", []),
        ("«a\nb»", []),
    ],
)
def test_the_order_in_which_text_goes(text: str, expected: list[str]) -> None:
    def shown(prompt: SpanStr) -> str:
        for span in prompt.spans[::-1]:
            marks = "{}" if span.deemphasized else "«»"
            start, end = span.start, span.end
            prompt = prompt[:start] + marks[0] + prompt[start:end] + marks[1] + prompt[end:]
        return prompt.text

    assert steps(marked(text), shown) == expected


def test_of_a_chat_old_turns_go_first_then_the_system_message_then_the_last() -> None:
    chat = [
        {"role": "system", "content": "s\nt"},
        {"role": "user", "content": marked("a\n«b»")},
        {"role": "assistant", "content": marked("c d\n{e}")},
        {"role": "user", "content": "f\ng h"},
    ]

    def shown(messages: Any) -> str:
        return "|".join(bracketed(SpanStr(message["content"])) for message in messages)

    assert steps(chat, shown) == [
        "s\nt|a\n«b»|c d\n|f\ng h",
        "s\nt|«b»|c d\n|f\ng h",
        "s\nt|«b»||f\ng h",
        "t|«b»||f\ng h",
        "|«b»||f\ng h",
        "|«b»||g h",
        "|«b»||h",
        "|«b»||",
    ]
    shorter, dropped = without(chat, droppable(chat)[:3])
    assert dropped == (Dropped(0, 2, 1), Dropped(0, 5, 2))
    assert [message["role"] for message in shorter] == [message["role"] for message in chat]
    assert chat[1]["content"] == "a\nb"


def test_a_span_around_a_hole_stays_one_and_a_name_and_alpha_stay() -> None:
    outer = Span(0, 11, 0.5, "notes", deemphasized=True)
    text = SpanStr("ab cd ef gh", [outer, Span(6, 8, 0.1, "fact")])
    shorter, dropped = without(text, [Dropped(3, 6), Dropped(0, 3)])
    assert shorter.spans == (Span(0, 5, 0.5, "notes", True), Span(0, 2, 0.1, "fact"))
    assert dropped == (Dropped(0, 6),)
    # What is left of a deemphasized text is kept only where something is seen of it.
    shorter, _ = without(SpanStr("a b c", [(1, 4, 0.5, "x", True)]), [Dropped(2, 3)])
    assert (shorter, shorter.spans) == ("a  c", ())


@pytest.mark.parametrize("count", [1, 2, 8, 1000])
@settings(deadline=None)
@given(data=st.data())
def test_the_fewest_pieces_are_found_and_soonest_where_they_are_guessed(
    count: int, data: st.DataObject
) -> None:
    needed = data.draw(st.integers(1, count))
    guess = data.draw(st.integers(1, count + 2))
    tried = []

    def attempt(count: int) -> int | None:
        tried.append(count)
        return count if count >= needed else None

    assert fewest(count, attempt, count, guess) == needed
    assert len(set(tried)) == len(tried)
    assert len(tried) <= 2 * abs(guess - needed).bit_length() + 3
    assert guessed([Dropped(0, 3), Dropped(5, 9), Dropped(9, 10)], 4) == 2


words = st.sampled_from(["mayor", "Tarn", "of", "Ada.", "é🙂", "x" * 50, "a-b", "</s>", "<s>"])
spaces = st.sampled_from([" ", "\n", "\n\n", "  ", "\t", ""])
plain = st.lists(st.tuples(words | st.text(max_size=4), spaces), max_size=12).map(
    lambda pairs: "".join(map("".join, pairs))
)
emphasis = plain.filter(str.strip).map(lambda text: emphasize(text, 0.5, "e"))
less = plain.filter(str.strip).map(lambda text: emphasize(text, deemphasized=True))
prompts = st.lists(plain | emphasis | less | st.builds("{0} ".format, plain), max_size=7).map(
    concat
)


def kept_spans(text: str) -> list[tuple[str, Span]]:
    """The emphasized texts, and their spans but for their places."""
    spans = [s for s in SpanStr(text).spans if not s.deemphasized]
    return [(str(text)[s.start : s.end], s._replace(start=0, end=1)) for s in spans]


def stripped(kept: list[tuple[str, Span]]) -> list[tuple[str, Span]]:
    return [(text.strip(), span) for text, span in kept]


def is_subsequence(text: str, dropped: tuple[Dropped, ...], shorter: str) -> bool:
    places = {place for cut in dropped for place in range(cut.start, cut.end)}
    return shorter == "".join(c for place, c in enumerate(str(text)) if place not in places)


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(text=prompts, room=st.integers(1, 120))
def test_emphasized_text_stays_the_rest_is_shorter_and_it_fits(
    kind: str, text: SpanStr, room: int
) -> None:
    tokenizer = TOKENIZERS[kind]
    whole = tokenize(text, tokenizer, 0.1)
    try:
        found = tokenize_to_fit(text, Room(room, room), tokenizer, 0.1)
    except PromptTooLongError:
        shorter, _ = without(text, droppable(text))
        assert len(tokenize(shorter, tokenizer, 0.1).ids) > room or "<" in text
        return
    assert len(found.ids) <= room
    assert kept_spans(found.text) == kept_spans(text)
    assert is_subsequence(text, found.dropped, found.text.text)
    assert found.dropped_tokens == len(whole.ids) - len(found.ids)
    assert bool(found.dropped) is (len(whole.ids) > room)
    assert found.ids == tokenize(found.text, tokenizer, 0.1).ids
    assert found.ids[0] == tokenizer.bos_token_id
    if not found.dropped:
        assert found == whole


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(prompts, min_size=1, max_size=4), room=st.integers(10, 150))
def test_a_chat_keeps_its_template_and_its_emphasis(texts: list[SpanStr], room: int) -> None:
    tokenizer = TOKENIZERS["byte_level"]
    texts = [SpanStr(text).strip() for text in texts]  # as the template does
    roles = ("system", "user", "assistant", "user")
    chat = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    try:
        found = tokenize_to_fit(chat, Room(room, room), tokenizer, 0.1)
    except PromptTooLongError:
        return
    assert len(found.ids) <= room
    kept = [kept for text in texts for kept in kept_spans(text)]
    assert stripped(kept_spans(found.text)) == stripped(kept)  # the template trims
    cuts = [tuple(cut for cut in found.dropped if cut.message == n) for n in range(len(texts))]
    rest = [
        "".join(
            c for place, c in enumerate(text.text)
            if not any(cut.start <= place < cut.end for cut in cuts[number])
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip
    again = [{**message, "content": text} for message, text in zip(chat, rest, strict=True)]
    assert found.text == tokenizer.apply_chat_template(
        again, tokenize=False, add_generation_prompt=True
    )


LINES = "".join(f"The mayor of Tarn number {number} is Ada Lowe.\n" for number in range(12))
LONG = LINES + emphasize("The mayor of Tarn is Bo Marsh.\n") + LINES + "Who is the mayor? Answer:"
LONG_CHAT = [
    {"role": "system", "content": "Answer from the documents."},
    {"role": "user", "content": LONG},
]


@pytest.fixture(scope="module")
def steered() -> SteeredModel:
    return SteeredModel(tiny.llama(context=128), tiny.tokenizer(), PROFILE)


@pytest.mark.parametrize("prompt", [LONG, LONG_CHAT], ids=["text", "chat"])
def test_every_way_to_ask_a_model_drops_the_same(steered: SteeredModel, prompt: Any) -> None:
    with pytest.raises(PromptTooLongError, match="Shorten the prompt"):
        steered.run(prompt, max_new_tokens=20)
    options: dict[str, Any] = {"max_new_tokens": 20, "overflow": "keep-emphasis"}
    (found,) = steered.run(prompt, **options)
    shorter, dropped = without(prompt, found.dropped)
    assert dropped == found.dropped
    assert 0 < found.prompt_tokens <= 108
    assert found.prompt_tokens == steered.count_tokens(shorter)
    assert found.dropped_tokens == steered.count_tokens(prompt) - found.prompt_tokens
    assert steered.run(shorter, max_new_tokens=20)[0].text == found.text
    assert steered.generate(prompt, **options) == found.text
    stream = steered.stream(prompt, **options)
    assert (stream.dropped, stream.dropped_tokens) == (found.dropped, found.dropped_tokens)
    assert "".join(stream) == found.text
    # The question is the last text to go.
    text = shorter if isinstance(shorter, str) else shorter[-1]["content"]
    assert str(text).endswith(".\nWho is the mayor? Answer:")
    assert SpanStr(text).emphasized() == ("The mayor of Tarn is Bo Marsh.\n",)


def test_a_prompt_that_fits_is_as_it_was(
    steered: SteeredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = LONG[-80:]
    (found,) = steered.run(prompt, max_new_tokens=5, overflow="keep-emphasis")
    assert (found.dropped, found.dropped_tokens) == ((), 0)
    assert steered.run(prompt, max_new_tokens=5) == [found]
    monkeypatch.setattr(SteeredModel, "context_length", None)
    (found,) = steered.run(LONG, max_new_tokens=2, overflow="keep-emphasis")
    assert found.dropped == ()


def test_each_row_of_a_batch_has_its_own_policy_of_one(steered: SteeredModel) -> None:
    options: dict[str, Any] = {"max_new_tokens": 20, "overflow": "keep-emphasis"}
    batch = [LONG, LONG[-80:], LONG_CHAT]
    alone = [steered.run([prompt], **options)[0] for prompt in batch]
    assert steered.run(batch, **options) == alone
    assert [bool(found.dropped) for found in alone] == [True, False, True]


def test_without_a_length_an_answer_gets_a_quarter_of_the_context(steered: SteeredModel) -> None:
    (found,) = steered.run(LONG, overflow="keep-emphasis", eos_token_id=None)
    assert 32 <= found.new_tokens == 128 - found.prompt_tokens
    assert found.new_tokens < 32 + 25, "no more than a line too much is dropped"
    # Emphasized text may take the answer's room, as long as one token is left.
    much = emphasize(LONG.text[:220]) + "\n" + LINES
    (found,) = steered.run(much, overflow="keep-emphasis", eos_token_id=None)
    assert 1 <= found.new_tokens < 32
    assert found.dropped == (Dropped(221, len(much) - 1),)


def test_scores_leave_room_for_the_longest_continuation(steered: SteeredModel) -> None:
    answers = [" Bo", " Bo Marsh. The mayor of Tarn is Bo Marsh."]
    with pytest.raises(PromptTooLongError):
        steered.score(LONG, answers)
    found = steered.score(LONG, answers, overflow="keep-emphasis")
    longest = len(steered.tokenizer(answers[1], add_special_tokens=False)["input_ids"])
    fitted = tokenize_to_fit(LONG, Room(128 - longest, 128 - longest), steered.tokenizer, 0.02)
    assert found == steered.score(fitted.text, answers)
    assert steered.score(LONG, [], overflow="keep-emphasis") == []


def test_emphasized_text_that_does_not_fit_is_an_error_with_its_length(
    steered: SteeredModel,
) -> None:
    much = "a\n" + emphasize(LINES) + "b"
    needed = len(steered.tokenizer(LINES, add_special_tokens=False)["input_ids"])
    with pytest.raises(PromptTooLongError, match=f"emphasized text needs {needed} of them"):
        steered.generate(much, overflow="keep-emphasis", max_new_tokens=20)
    with pytest.raises(PromptTooLongError, match="there is room for 108"):
        steered.stream(much, overflow="keep-emphasis", max_new_tokens=20)
    with pytest.raises(PromptTooLongError, match="there is room for 0"):
        steered.generate("a", overflow="keep-emphasis", max_new_tokens=500)


@pytest.mark.parametrize("overflow", ["drop", None, True, ["error"]])
def test_an_unknown_policy_is_refused(steered: SteeredModel, overflow: Any) -> None:
    for ask in (steered.generate, steered.run, steered.stream):
        with pytest.raises(PromptError, match="it must be 'error', or 'keep-emphasis'"):
            ask("a", overflow=overflow)
    with pytest.raises(PromptError, match="it must be 'error', or 'keep-emphasis'"):
        steered.score("a", ["b"], overflow=overflow)


def test_markers_that_the_application_wrote_out_stay(steered: SteeredModel) -> None:
    text = f"<s>a\n{LINES}</s>b\n{LINES}</s>"
    (found,) = steered.run(text, overflow="keep-emphasis", max_new_tokens=100)
    shorter, _ = without(text, found.dropped)
    assert (shorter.count("<s>"), shorter.count("</s>")) == (1, 2)
    nowhere = SteeredModel(steered.model, steered.tokenizer, PROFILE, control_tokens="nowhere")
    (found,) = nowhere.run(text, overflow="keep-emphasis", max_new_tokens=120)
    assert without(text, found.dropped)[0] in text[-5:]


def test_closing_a_stream_ends_it(steered: SteeredModel) -> None:
    stream = steered.stream(LONG, overflow="keep-emphasis", max_new_tokens=20, eos_token_id=None)
    assert next(stream)
    stream.close()
    assert list(stream) == []
    thrown = steered.stream("Tarn", max_new_tokens=20)
    with pytest.raises(ZeroDivisionError):
        thrown.throw(ZeroDivisionError("here"))
