"""Which sentences deserve emphasis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pasta_chains.errors import EmphasisError
from pasta_chains.selection import (
    bm25_scores,
    embedding_scores,
    emphasize_sentences,
    named_scores,
    select_among,
    select_sentences,
    sentence_spans,
)
from pasta_chains.spans import Span, SpanStr

TEXT = "Dr. Lowe was born in Tarn.  The mill of Tarn opened in 1903! Who knows?\n\n- It is red."
SENTENCES = [
    "Dr. Lowe was born in Tarn.",
    "The mill of Tarn opened in 1903!",
    "Who knows?",
    "- It is red.",
]


def test_sentences_are_ranges_without_white_space() -> None:
    assert [TEXT[start:end] for start, end in sentence_spans(TEXT)] == SENTENCES
    assert sentence_spans("") == sentence_spans(" \n\n ") == []
    assert sentence_spans(SpanStr(TEXT, [Span(0, 30)])) == sentence_spans(TEXT)


@example("”.D\u2028.")
@example("”.D\u3000.")
@given(st.text(st.sampled_from("ab .!?\n\r\t“”\u2028\u00a0é🙂Dr3")))
@example("Dr. Lowe was born in Tarn.\n\nThe café of Tarn is red.\r\n\r\n" * 400)
@settings(max_examples=300, deadline=None)
def test_sentences_cover_all_that_can_be_seen_once_and_in_order(text: str) -> None:
    ranges = sentence_spans(text)
    assert ranges == sorted(ranges)
    seen = [i for start, end in ranges for i in range(start, end)]
    assert len(seen) == len(set(seen))
    assert [c for c in text if not c.isspace()] == [text[i] for i in seen if not text[i].isspace()]
    assert all(text[start:end] == text[start:end].strip() for start, end in ranges)


def test_sentences_of_a_long_text_are_where_they_are() -> None:
    for paragraphs in (300, 3000):
        text = "\n\n".join([TEXT] * paragraphs)
        found = [text[start:end] for start, end in sentence_spans(text)]
        assert found == SENTENCES * paragraphs


def test_the_sentence_that_answers_is_chosen_by_words() -> None:
    (found,) = select_sentences("When did the mill open?", TEXT)
    assert TEXT[slice(*found)] == SENTENCES[1]
    assert select_sentences("When did the mill open?", TEXT, count=9) == [found]
    assert select_sentences("What is it?", TEXT) == [], "no telling word is shared"
    assert select_sentences("mill", "The of and. To be.") == []
    assert select_sentences("mill", "") == []
    both = select_sentences("What of Tarn, the mill and Lowe?", TEXT, count=2)
    assert [TEXT[start:end] for start, end in both] == SENTENCES[:2], "in the order of the text"


def test_the_sentence_that_answers_is_chosen_by_meaning() -> None:
    words = ("Tarn", "mill", "red", "Lowe")

    def embed(texts: list[str]) -> list[list[float]]:
        return [[float(word in text) for word in words] for text in texts]

    scores = embedding_scores(embed)
    assert scores("red", SENTENCES) == [0.0, 0.0, 0.0, 1.0]
    assert scores("mill of Tarn", SENTENCES)[1] == pytest.approx(1)
    (found,) = select_sentences("Is it red?", TEXT, scores)
    assert TEXT[slice(*found)] == SENTENCES[3]


def test_the_sentence_that_a_model_names_is_chosen() -> None:
    asked: list[str] = []

    def generate(prompt: str) -> str:
        asked.append(prompt)
        return "I think that the mill opened in 1903."

    marked = emphasize_sentences("How old is it?", TEXT, named_scores(generate), alpha=0.1)
    assert marked.emphasized() == (SENTENCES[1],)
    assert [(span.alpha, span.name) for span in marked.spans] == [(0.1, "facts")]
    assert all(f"- {sentence}" in asked[0] for sentence in SENTENCES)
    assert "How old is it?" in asked[0]


def test_sentences_of_several_texts_are_compared() -> None:
    def scores(question: str, sentences: Sequence[str]) -> list[float]:
        return [float(sentence.count("mill")) for sentence in sentences]

    texts = ["A mill. A mill mill.", "", "Yes. A mill mill mill."]
    assert select_among("Which?", texts, scores) == [[(8, 20)], [], [(5, 22)]]
    assert select_among("Which?", texts, scores, count=1) == [[], [], [(5, 22)]]
    assert select_among("Which?", texts, scores, each=None) == [
        [(0, 7), (8, 20)],
        [],
        [(5, 22)],
    ]
    assert select_among("Which?", ["", ""], scores) == [[], []]
    with pytest.raises(EmphasisError, match="each is 0"):
        select_among("Which?", texts, scores, each=0)


def test_emphasis_that_is_there_stays() -> None:
    marked = emphasize_sentences("When did the mill open?", SpanStr(TEXT, [Span(0, 3)]))
    assert marked.emphasized() == ("Dr.", SENTENCES[1])
    assert marked == TEXT


def test_impossible_counts_and_scorers_are_refused() -> None:
    for count in (0, -1, 1.5, True):
        with pytest.raises(EmphasisError, match="whole number above 0"):
            select_sentences("mill", TEXT, count=count)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(EmphasisError, match="gave 1 scores for 4 sentences"):
        select_sentences("mill", TEXT, lambda question, sentences: [1.0])


@pytest.mark.parametrize("package", ["sentencex", "bm25s"])
def test_a_missing_package_is_named_with_its_extra(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from pasta_chains.selection import select_sentences\n"
        "try: select_sentences('a', 'a b. c')\n"
        "except ImportError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"needs the package {package}" in found.stdout
    assert "pasta-chains[selection]" in found.stdout
    assert bm25_scores("a mill", ["the mill", "a tree"])[0] > 0
