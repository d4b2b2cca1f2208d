"""Finished work in a file, so that a run that was cut off goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import TaskError

_SHOWN = 100
"""Characters of a value in a message."""


class Journal:
    """Pieces of finished work by their keys, a JSON line for each.

    A last line that was cut off in writing is dropped, and its piece is done again.

    Args:
        path: The file, which is made if it is not there.
        about: What the work depends on: of another model or other prompts, nothing can be used.

    Attributes:
        known: What is finished.

    Raises:
        TaskError: The file is about something else, or is no journal.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path = path
        about = json.loads(json.dumps(about))  # as it is read back, lists for tuples
        self.known: dict[str, Any] = {}
        header = json.dumps({"about": about}, ensure_ascii=False).encode() + b"\n"
        try:
            self._open(header, about)
        except OSError as error:
            raise TaskError(
                f"Finished work cannot be kept in {path}: {error.strerror}. Name another folder."
            ) from error

    def _open(self, header: bytes, about: Mapping[str, Any]) -> None:
        written = self._path.read_bytes() if self._path.is_file() else b""
        if b"\n" in written:
            self._read(written, about)
        elif header.startswith(written):  # nothing yet, or cut off in the first line
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(header)
        else:
            raise self._broken(1)

    def write(self, key: str, value: Any) -> None:
        """Keep a finished piece."""
        line = json.dumps({"key": key, "value": value}, ensure_ascii=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.known[key] = value

    def _read(self, whole: bytes, about: Mapping[str, Any]) -> None:
        kept = whole[: whole.rfind(b"\n") + 1]
        first, *lines = kept.split(b"\n")[:-1]
        self._check_about(self._parse(first, 1, "about")["about"], about)
        for number, line in enumerate(lines, 2):
            piece = self._parse(line, number, "key")
            self.known[piece["key"]] = piece["value"]
        if len(kept) < len(whole):
            os.truncate(self._path, len(kept))

    def _parse(self, line: bytes, number: int, field: str) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except ValueError as error:
            raise self._broken(number) from error
        kind = dict if field == "about" else str
        if not isinstance(found, dict) or not isinstance(found.get(field), kind):
            raise self._broken(number)
        if field == "key" and "value" not in found:
            raise self._broken(number)
        return found

    def _broken(self, number: int) -> TaskError:
        if number == 1:
            return TaskError(
                f"The first line of {self._path} does not say what its work is about, so it cannot "
                "be used. Choose another folder for this run, or remove the file."
            )
        return TaskError(
            f"Line {number} of {self._path} is not what was written there. Remove that line to do "
            "its work again and keep the rest; or the file, to do all of it again."
        )

    def _check_about(self, found: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        for field, then, now in _differences(found, about):
            raise TaskError(
                f"{self._path} holds the work of another run: its {field} is {_short(then)}, and "
                f"now it is {_short(now)}. Choose another folder for this run, or remove the file."
            )


def _differences(
    found: Mapping[str, Any], about: Mapping[str, Any], before: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Fields that differ, and both values; of long ones the inner fields, "tasks.json"."""
    for field in sorted(found.keys() | about.keys()):
        then, now = found.get(field), about.get(field)
        is_long = len(json.dumps([then, now])) > _SHOWN
        if is_long and isinstance(then, dict) and isinstance(now, dict):
            yield from _differences(then, now, f"{before}{field}.")
        elif then != now:
            yield before + field, then, now


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < _SHOWN else f"{text[:_SHOWN]}…"
