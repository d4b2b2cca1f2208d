"""Which sentences of retrieved texts deserve emphasis: those that answer the question best.

A scorer gives each sentence a number, the higher the better: by shared words (`bm25_scores`), by
meaning (`embedding_scores`), or as the model says (`named_scores`, after AutoPASTA).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from operator import mul
from typing import Any, TypeAlias

from .errors import EmphasisError, MissingExtraError
from .spans import Span, SpanStr
from .template import Environment

Scorer: TypeAlias = Callable[[str, Sequence[str]], Sequence[float]]
"""Called with a question and sentences; returns a number for each."""

Embed: TypeAlias = Callable[[list[str]], Sequence[Sequence[float]]]
"""Called with texts; returns a vector for each."""


def sentence_spans(text: str, language: str = "en") -> list[tuple[int, int]]:
    """The ranges of a text's sentences, without the white space around them.

    Args:
        text: Any text; line breaks end a sentence where paragraphs end.
        language: Code of its language, such as "en", which knows its abbreviations.

    Raises:
        MissingExtraError: The extra "selection" is not installed.
    """
    try:
        import sentencex
    except ImportError as error:
        raise MissingExtraError("sentencex", "selection") from error
    # sentencex can panic at white space that is more than one byte: it is given plain ones instead.
    plain = re.sub(r"[^\S\x00-\x7f]", _plain_space, SpanStr(text).text)
    ranges = []
    position = 0
    for sentence in map(str.strip, sentencex.segment(language, plain)):
        if sentence:
            # The lengths do not add up: of a long text it leaves out some empty lines.
            start = plain.index(sentence, position)
            position = start + len(sentence)
            ranges.append((start, position))
    return ranges


def _plain_space(found: re.Match[str]) -> str:
    return "\n" if found[0] in "\x85\u2028\u2029" else " "


def bm25_scores(question: str, sentences: Sequence[str]) -> list[float]:
    """Scores by the telling words that a sentence shares with the question.

    Raises:
        MissingExtraError: The extra "selection" is not installed.
    """
    try:
        import bm25s
    except ImportError as error:
        raise MissingExtraError("bm25s", "selection") from error

    def words(texts: Sequence[str]) -> Any:
        return bm25s.tokenize([*texts], stopwords="en", show_progress=False)

    known = words(sentences)
    if not known.vocab:  # nothing but words such as "the"
        return [0.0] * len(sentences)
    index = bm25s.BM25()
    index.index(known, show_progress=False)
    asked = words([question])
    found, scores = index.retrieve(asked, k=len(sentences), show_progress=False)
    by_number = dict(zip(map(int, found[0]), map(float, scores[0]), strict=True))
    return [by_number[number] for number in range(len(sentences))]


def embedding_scores(embed: Embed) -> Scorer:
    """Scores by the cosine between the question's vector and each sentence's.

    Args:
        embed: Gives texts their vectors.
    """

    def scores(question: str, sentences: Sequence[str]) -> list[float]:
        asked, *known = embed([question, *sentences])
        return [_cosine(asked, vector) for vector in known]

    return scores


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    lengths = math.hypot(*a) * math.hypot(*b)
    return sum(map(mul, a, b)) / lengths if lengths else 0.0


def named_scores(generate: Callable[[str], str]) -> Scorer:
    """Scores by the words that a sentence shares with the one that a model names.

    The model is asked first which sentence matters, and then answers with it emphasized
    (AutoPASTA, Zhang et al., arXiv 2409.10790).

    Args:
        generate: A model: called with a prompt, returns its answer.
    """

    def scores(question: str, sentences: Sequence[str]) -> list[float]:
        template = Environment().get_template("rag/key-sentence.jinja")
        named = generate(template.render(sentences=list(sentences), question=question))
        return bm25_scores(named, sentences)

    return scores


def select_sentences(
    question: str, text: str, scores: Scorer = bm25_scores, count: int = 1
) -> list[tuple[int, int]]:
    """The ranges of the sentences of a text that answer a question best, in the text's order.

    Args:
        question: The question.
        text: The text.
        scores: How sentences are judged; one judged 0 or less is never chosen.
        count: Most sentences to choose.

    Raises:
        EmphasisError: The count is no whole number above 0, or the scorer gave something else
            than a number for each sentence.
    """
    return select_among(question, [text], scores, count=count, each=None)[0]


def select_among(
    question: str,
    texts: Sequence[str],
    scores: Scorer = bm25_scores,
    *,
    count: int | None = None,
    each: int | None = 1,
) -> list[list[tuple[int, int]]]:
    """The ranges of the sentences that answer a question best, for each of several texts.

    All sentences are judged together, so that those of one text can be compared with another's.

    Args:
        question: The question.
        texts: The texts.
        scores: As for `select_sentences`.
        count: Most sentences of all texts together; None for no such limit.
        each: Most sentences of one text; None for no such limit.

    Raises:
        EmphasisError: As `select_sentences` does.
    """
    for name, number in (("count", count), ("each", each)):
        if number is not None and (type(number) is not int or number < 1):
            raise EmphasisError(f"{name} is {number!r}; it must be a whole number above 0.")
    places = [
        (number, place) for number, text in enumerate(texts) for place in sentence_spans(text)
    ]
    if not places:
        return [[] for _ in texts]
    plain = [SpanStr(text).text for text in texts]
    sentences = [plain[number][start:end] for number, (start, end) in places]
    given = [*scores(SpanStr(question).text, sentences)]
    if len(given) != len(sentences):
        raise EmphasisError(f"The scorer gave {len(given)} scores for {len(sentences)} sentences.")
    chosen: list[list[tuple[int, int]]] = [[] for _ in texts]
    for index in sorted(range(len(places)), key=lambda index: -given[index]):
        number, place = places[index]
        in_all, here = sum(map(len, chosen)), len(chosen[number])
        full = (count is not None and in_all >= count) or (each is not None and here >= each)
        if given[index] > 0 and not full:
            chosen[number].append(place)
    return [sorted(ranges) for ranges in chosen]


def emphasize_sentences(
    question: str,
    text: str,
    scores: Scorer = bm25_scores,
    *,
    count: int = 1,
    alpha: float | None = None,
    name: str | None = "facts",
) -> SpanStr:
    """A text in which the sentences that answer a question best are emphasized.

    Args:
        question: The question.
        text: The text; emphasis that it has stays.
        scores: As for `select_sentences`.
        count: As for `select_sentences`.
        alpha: How strongly; None leaves it to the model.
        name: Name of the spans, by which a call can tune them.

    Raises:
        EmphasisError: As `select_sentences` does.
    """
    chosen = select_sentences(question, text, scores, count)
    return SpanStr(text, [Span(start, end, alpha, name) for start, end in chosen])
