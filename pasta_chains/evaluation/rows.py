"""Rows of published data sets: reading them from a file, and their fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import TaskError

_SPACE = re.compile(r"\s*")


def read_rows(file: Path) -> list[Mapping[str, Any]]:
    """Reads the rows of a data set.

    Args:
        file: One JSON list of objects, or objects one after the other, with line breaks between
            them or, as the paper's code writes them, without.

    Raises:
        TaskError: The file is missing, is a pickle, or holds something else.
    """
    if file.suffix in (".pkl", ".pickle"):
        raise TaskError(
            f"{file} is a pickle, which can run any program when it is read. If you trust it, "
            "write its rows to a file as JSON, one a line, and read that."
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TaskError(f"There is no file {file} that can be read: {error.strerror}.") from error
    except ValueError as error:
        raise TaskError(f"{file} is not UTF-8: {error}.") from error
    found = list(_values(text, file))
    if len(found) == 1 and isinstance(found[0], list):
        found = found[0]
    for number, row in enumerate(found, 1):
        if not isinstance(row, dict):
            raise TaskError(f"Row {number} of {file} is {_short(row)}; it must be an object.")
    return found


def _values(text: str, file: Path) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    position = _after_space(text, 0)
    number = 1
    while position < len(text):
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"Row {number} of {file} is no JSON: {error}.") from error
        yield value
        position = _after_space(text, end)
        number += 1


def _after_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def text_of(row: Mapping[str, Any], number: int, field: str) -> str:
    """The text in a field of a row.

    Args:
        row: The row.
        number: Of the row, from 1, for the error.
        field: Its name; names joined by dots lead to inner fields.

    Raises:
        TaskError: There is no such field, or something else than a text in it.
    """
    found = value_of(row, number, field)
    if not isinstance(found, str) or not found.strip():
        raise TaskError(_wrong(number, field, found, "a text"))
    return found


def texts_of(row: Mapping[str, Any], number: int, field: str) -> list[str]:
    """The texts in a field of a row, of which there is at least one.

    Args:
        row: The row.
        number: Of the row, from 1, for the error.
        field: Its name.

    Raises:
        TaskError: There is no such field, or something else than a list of texts in it.
    """
    found = value_of(row, number, field)
    texts = list(found) if isinstance(found, (list, tuple)) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise TaskError(_wrong(number, field, found, "a list of texts"))
    return texts


def value_of(row: Mapping[str, Any], number: int, field: str) -> Any:
    """What is in a field of a row; see `text_of`."""
    found: Any = row
    for name in field.split("."):
        if not isinstance(found, Mapping) or name not in found:
            raise TaskError(f"Row {number} has no field {field!r}. Give it one, or leave it out.")
        found = found[name]
    return found


def _wrong(number: int, field: str, found: Any, wanted: str) -> str:
    return f"The field {field!r} of row {number} is {_short(found)}; it must be {wanted}."


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
