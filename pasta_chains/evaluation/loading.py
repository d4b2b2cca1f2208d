"""From what a user names to a task: the paper's tasks on published data, or a file of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, TaskError
from .bias_in_bios import biographies
from .counterfact import counterfacts
from .paper import counterfact_task, json_task, occupation_task, pronouns_task
from .qa import qa_task
from .rows import read_rows
from .splits import Split, split_of
from .task import Task

Rows = Sequence[Mapping[str, Any]]


def _json(rows: Rows, split: Split, count: int | None) -> Task:
    return json_task(split_of(biographies(rows), split, count))


def _pronouns(rows: Rows, split: Split, count: int | None) -> Task:
    return pronouns_task(split_of(biographies(rows), split, count))


def _bias_in_bios(rows: Rows, split: Split, count: int | None) -> Task:
    known = biographies(rows)
    occupations = sorted({one.occupation for one in known})
    return occupation_task(split_of(known, split, count), occupations)


def _counterfact(rows: Rows, split: Split, count: int | None) -> Task:
    return counterfact_task(split_of(counterfacts(rows), split, count))


PAPER_TASKS: Mapping[str, Callable[[Rows, Split, int | None], Task]] = {
    "json": _json,
    "pronouns": _pronouns,
    "bias-in-bios": _bias_in_bios,
    "counterfact": _counterfact,
}
"""The paper's tasks by name, each made of rows of a published data set."""


@dataclass(frozen=True)
class Source:
    """Where a task's samples come from.

    Attributes:
        name: Of the task.
        rows: Those of the data.
    """

    name: str
    rows: Rows

    def task(self, split: Split, count: int | None = None) -> Task:
        """The samples of a split.

        Raises:
            TaskError: There are not so many, or a row is wrong.
        """
        if self.name in PAPER_TASKS:
            return PAPER_TASKS[self.name](self.rows, split, count)
        whole = qa_task(self.rows, name=self.name)
        return replace(whole, samples=tuple(split_of(whole.samples, split, count)))


def open_source(named: str) -> Source:
    """Find what a user names: `NAME=DATA` for one of the paper's tasks, or a file of one's own.

    Args:
        named: DATA is a file or folder of JSON, or a data set's name on the Hugging Face hub.

    Raises:
        TaskError: There is no such task or data.
        MissingExtraError: DATA needs the package `datasets`.
    """
    name, given, data = named.partition("=")
    if not given:
        file = Path(named)
        if not file.is_file():
            raise TaskError(
                f"There is no task {named!r}: it is no file. The paper's tasks are "
                f"{', '.join(PAPER_TASKS)}; each is named with its data, as in json=DATA."
            )
        return Source(file.stem, read_rows(file))
    if name not in PAPER_TASKS:
        raise TaskError(f"There is no task {name!r}; those with data are {', '.join(PAPER_TASKS)}.")
    if not data:
        raise TaskError(f"{named!r} names no data after '='.")
    return Source(name, _rows_of(data))


def _rows_of(data: str) -> Rows:
    if Path(data).is_file():
        return read_rows(Path(data))
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "evaluation") from error
    try:
        loaded = datasets.load_dataset(data)
    except Exception as error:  # datasets raises many kinds, and says what was wrong
        raise TaskError(
            f"The data {data!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return [row for split in loaded.values() for row in split]
