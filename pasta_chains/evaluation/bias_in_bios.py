"""Biographies of Bias in Bios (De-Arteaga et al., arXiv 1901.09451), as the paper uses them.

The paper is Zhang et al., arXiv 2311.02262, section 4 and appendix A. The data cannot be handed on:
its authors' program collects them, and the paper's published code reformats them. Rows of both are
read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from ..errors import TaskError
from ..selection import sentence_spans
from .records import Biography
from .rows import read_rows, text_of, value_of

LEAST_WORDS = 10
LEAST_WORDS_OF_A_SENTENCE = 3

NOT_NAMES = frozenset({"Non-Residential"})
"""What the data's authors took for a first name."""

TITLES = "professor prof. prof dr. dr doctor mr. mr ms. ms mrs. mrs rev. rev pastor".split()
"""They stand before names, and would be odd before a first name alone."""


def read_biographies(
    file: Path, *, sentences: Literal["all", "second"] = "all", limit: int | None = 50_000
) -> list[Biography]:
    """Reads biographies from a file of JSON; see `biographies`.

    Raises:
        TaskError: The file cannot be read, or as `biographies` does.
        MissingExtraError: The extra "selection" is not installed.
    """
    return biographies(read_rows(file), sentences=sentences, limit=limit)


def biographies(
    rows: Iterable[Mapping[str, Any]],
    *,
    sentences: Literal["all", "second"] = "all",
    limit: int | None = 50_000,
) -> list[Biography]:
    """Makes biographies of rows, each in one of two formats.

    - As the data's authors publish them, with "raw", "name" (first, middle, last) and "title".
      They are made shorter and left out by the paper's rules. Its code finds sentences with a
      spaCy model; here they are found as everywhere in this package, so some differ.
    - As the paper's code reformats them, with "context", "entity", "attribute" (what is
      emphasized) and "target_mediated" (the occupation). They are taken as they are.

    Args:
        rows: The rows.
        sentences: Which sentences of an original row are used, those of less than 3 words not
            counted: "all", as the paper's instructions say, or the "second", as its code does by
            default. All that follows the name is then emphasized, not only in the first sentence.
        limit: How many rows are looked at; None for all.

    Raises:
        TaskError: A row is in neither format, or a field is missing or wrong.
        MissingExtraError: The extra "selection" is not installed.
    """
    if sentences not in ("all", "second"):
        raise TaskError(f'sentences is {sentences!r}; it must be "all" or "second".')
    made = (_made(row, number, sentences) for number, row in enumerate(islice(rows, limit), 1))
    return [biography for biography in made if biography is not None]


def _made(row: Mapping[str, Any], number: int, sentences: str) -> Biography | None:
    if isinstance(row, Mapping) and "raw" in row:
        return _from_original(row, number, sentences)
    if isinstance(row, Mapping) and "context" in row:
        return _from_reformatted(row, number)
    raise TaskError(
        f"Row {number} is no biography: it needs the fields 'raw', 'name' and 'title', or "
        "'context', 'entity', 'attribute' and 'target_mediated'."
    )


def _from_original(row: Mapping[str, Any], number: int, sentences: str) -> Biography | None:
    """A biography, or None where the paper's rules leave it out."""
    names = _names(row, number)
    raw = value_of(row, number, "raw")
    if not isinstance(raw, str):
        raise TaskError(f"The field 'raw' of row {number} must be a text.")
    occupation = text_of(row, number, "title").replace("_", " ")
    first, last = names[0], names[-1]
    if not first or not last or first in NOT_NAMES:
        return None
    text = _with_first_name(_abridged(raw, sentences), names).strip("*• ")
    if first not in text:
        text = f"About {first}: {text}"
    if text.count(first) != 1 or len(text.split()) < LEAST_WORDS:
        return None
    end = sentence_spans(text)[0][1] if sentences == "all" else len(text)
    return Biography(first, text, occupation, _evidence(text, first, end))


def _names(row: Mapping[str, Any], number: int) -> list[str]:
    found = value_of(row, number, "name")
    parts = list(found) if isinstance(found, (list, tuple)) else []
    if not parts or not all(part is None or isinstance(part, str) for part in parts):
        raise TaskError(
            f"The field 'name' of row {number} must be a list: first, middle and last name."
        )
    return [part or "" for part in parts]


def _abridged(raw: str, sentences: str) -> str:
    found = [raw[start:end] for start, end in sentence_spans(raw)]
    long = [one for one in found if len(one.split()) >= LEAST_WORDS_OF_A_SENTENCE]
    if sentences == "all":
        return " ".join(long)
    return long[min(1, len(long) - 1)] if long else ""


def _with_first_name(text: str, names: list[str]) -> str:
    """A text that calls a person by the first name alone.

    As in the published code, a name is replaced inside longer words too.
    """
    full, shorter, last = " ".join(filter(None, names)), f"{names[0]} {names[-1]}", names[-1]
    called = (full, shorter, last)
    titles = [cased for title in TITLES for cased in (title, title.capitalize(), title.upper())]
    for name in [*(f"{title} {name}" for name in called for title in titles), *called]:
        text = text.replace(name, names[0])
    return text


def _from_reformatted(row: Mapping[str, Any], number: int) -> Biography:
    text, person = text_of(row, number, "context"), text_of(row, number, "entity")
    occupation = text_of(row, number, "target_mediated")
    said = value_of(row, number, "attribute")
    if text.count(person) != 1:
        raise TaskError(
            f"In row {number} the 'context' has the 'entity' {person!r} {text.count(person)} "
            "times; it must have it once."
        )
    if not isinstance(said, str) or said not in text:
        raise TaskError(f"In row {number} the 'attribute' is no part of the 'context'.")
    if not said.strip():  # nothing follows the name
        return Biography(person, text, occupation, _evidence(text, person, len(text)))
    start = text.find(said, text.index(person) + len(person))
    start = text.index(said) if start < 0 else start
    return Biography(person, text, occupation, (start, start + len(said)))


def _evidence(text: str, person: str, end: int) -> tuple[int, int]:
    """The range of what a text says after the name, up to a place.

    Where the name does not come before that place, or ends there, all up to it is meant. The
    published code has an empty attribute in the latter case, which cannot be emphasized.
    """
    start = text.index(person) + len(person)
    said = text[start:end].lstrip(".: ")
    start, stop = end - len(said), end - len(said) + len(said.rstrip(".: "))
    return (start, stop) if start < stop else (0, end)
