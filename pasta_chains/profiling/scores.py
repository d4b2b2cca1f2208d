"""What was measured so far, kept in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import TaskError
from ..evaluation.journal import Journal
from ..evaluation.splits import Split
from .units import Tasks, Unit, batches


class Scores:
    """Scores of lists of heads, batch by batch.

    Args:
        tasks: What is measured.
        batch_size: Prompts in a batch.
        path: Where finished work is kept; a search that was cut off goes on from it.
        about: What the scores depend on.

    Raises:
        TaskError: The file holds other work, or something else.
    """

    def __init__(self, tasks: Tasks, batch_size: int, path: Path, about: Mapping[str, Any]) -> None:
        self._journal = Journal(path, about)
        self._sizes: dict[tuple[str, str], list[int]] = {
            (name, split): [len(batch) for batch in batches(task, batch_size)]
            for name, splits in tasks.items()
            for split, task in splits.items()
        }
        for key, scores in self._journal.known.items():
            if not self._fits(key, scores):
                raise TaskError(
                    f"What {path} holds for {key!r} is not what was written there. Remove that "
                    "line to measure it again, or the file to measure all of it again."
                )

    def missing(self, split: Split, task: str, alpha: float, lists: Sequence[str]) -> list[Unit]:
        """What is still to measure of some lists of heads, batch by batch."""
        units = []
        for batch in range(len(self._sizes[task, split])):
            left = [
                one
                for one in lists
                if _key(split, task, alpha, batch, one) not in self._journal.known
            ]
            if left:
                units.append(Unit(split, task, alpha, batch, tuple(dict.fromkeys(left))))
        return units

    def keep(self, unit: Unit, heads: str, scores: Sequence[float]) -> None:
        """Keep what was measured for one list of heads of a unit."""
        key = _key(unit.split, unit.task, unit.alpha, unit.batch, heads)
        self._journal.write(key, list(scores))

    def means(
        self, split: Split, task: str, alpha: float, lists: Iterable[str]
    ) -> dict[str, float]:
        """For each list of heads its mean score, over the batches where all lists were measured.

        Where time ran out in the first batch, the lists measured in it; others are left out.
        """
        wanted = list(dict.fromkeys(lists))
        rows = [
            {one: self._journal.known.get(_key(split, task, alpha, batch, one)) for one in wanted}
            for batch in range(len(self._sizes[task, split]))
        ]
        whole = [row for row in rows if None not in row.values()]
        chosen = whole or [
            max(rows, key=lambda row: sum(value is not None for value in row.values()))
        ]
        found = {}
        for one in wanted:
            values = [score for row in chosen for score in row[one] or ()]
            if values:
                found[one] = sum(values) / len(values)
        return found

    def _fits(self, key: str, scores: Any) -> bool:
        """Whether scores are those of the samples of the batch that their key names."""
        split, _, rest = key.partition("|")
        task, _, batch, _ = rest.rsplit("|", 3) if rest.count("|") > 2 else [""] * 4
        sizes = self._sizes.get((task, split), [])
        if not batch.isdecimal() or int(batch) >= len(sizes) or not isinstance(scores, list):
            return False
        are_scores = (type(score) in (int, float) and 0 <= score <= 1 for score in scores)
        return len(scores) == sizes[int(batch)] and all(are_scores)


def _key(split: str, task: str, alpha: float, batch: int, heads: str) -> str:
    return f"{split}|{task}|{alpha}|{batch}|{heads}"
