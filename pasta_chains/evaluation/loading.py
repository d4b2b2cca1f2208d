"""From what a user names to a task: the paper's tasks on published data, or a file of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, TaskError
from .bias_in_bios import biographies
from .counterfact import counterfacts
from .paper import counterfact_task, json_task, occupation_task, pronouns_task
from .qa import qa_task
from .records import Biography
from .rows import read_rows
from .splits import Split, split_of
from .task import Task

Rows = Sequence[Mapping[str, Any]]

_FILES = (".json", ".jsonl", ".pkl", ".pickle")
"""What ends like this is a file, whether it is there or not, and no data set on the hub."""


def _occupations(chosen: Sequence[Biography], known: Sequence[Biography]) -> Task:
    return occupation_task(chosen, sorted({one.occupation for one in known}))


PAPER_TASKS: Mapping[str, tuple[Callable[[Rows], Sequence[Any]], Callable[..., Task]]] = {
    "json": (biographies, lambda chosen, _: json_task(chosen)),
    "pronouns": (biographies, lambda chosen, _: pronouns_task(chosen)),
    "bias-in-bios": (biographies, _occupations),
    "counterfact": (counterfacts, lambda chosen, _: counterfact_task(chosen)),
}
"""The paper's tasks by name: what makes records of the rows of a published data set, and what makes
the task of some of these, knowing all.
"""


@dataclass(frozen=True)
class Source:
    """Where a task's samples come from.

    Attributes:
        name: Of the task.
        rows: Those of the data.
        of_paper: Whether it is the paper's task of this name.
    """

    name: str
    rows: Rows
    of_paper: bool

    def task(self, split: Split, count: int | None = None) -> Task:
        """The samples of a split.

        Raises:
            TaskError: There are not so many, or a row is wrong.
        """
        if self.of_paper:
            _, make = PAPER_TASKS[self.name]
            return make(split_of(self._records, split, count), self._records)
        return replace(self._whole, samples=tuple(split_of(self._whole.samples, split, count)))

    @cached_property
    def _records(self) -> Sequence[Any]:
        read, _ = PAPER_TASKS[self.name]
        return read(self.rows)

    @cached_property
    def _whole(self) -> Task:
        return qa_task(self.rows, name=self.name)


def open_source(named: str) -> Source:
    """Find what a user names: `NAME=DATA` for one of the paper's tasks, or a file of one's own.

    Args:
        named: DATA is a file or folder of JSON, or a data set's name on the Hugging Face hub.

    Raises:
        TaskError: There is no such task or data.
        MissingExtraError: DATA needs the package `datasets`.
    """
    file = Path(named)
    if file.is_file():
        return Source(file.stem, read_rows(file), of_paper=False)
    name, given, data = named.partition("=")
    if not given:
        raise TaskError(
            f"There is no task {named!r}: it is no file. The paper's tasks are "
            f"{', '.join(PAPER_TASKS)}; each is named with its data, as in json=DATA."
        )
    if name not in PAPER_TASKS:
        raise TaskError(f"There is no task {name!r}; those with data are {', '.join(PAPER_TASKS)}.")
    if not data:
        raise TaskError(f"{named!r} names no data after '='.")
    return Source(name, _rows_of(data), of_paper=True)


def _rows_of(data: str) -> Rows:
    file = Path(data)
    if file.is_file() or file.suffix in _FILES:
        return read_rows(file)
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
