"""The lists of heads that a search tries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .findings import HeadList
from .ranking import Head, intersection, task_specific, union
from .units import label


def candidates(rankings: Mapping[str, Sequence[Head]], ks: Sequence[int]) -> Iterator[HeadList]:
    """Lists of heads by every strategy that so many tasks allow.

    Args:
        rankings: For each task its heads, the best first.
        ks: How many of each task's best heads to make lists of.
    """
    several = len(rankings) > 1
    for k in ks:
        for task, ranking in rankings.items():
            yield HeadList("task-specific", task, k, label(task_specific(ranking, k)), {})
        if several:
            yield HeadList("union", None, k, label(union(rankings.values(), k)), {})
            common = intersection(rankings.values(), k)
            if common:
                yield HeadList("multi-task", None, k, label(common), {})
        for task in rankings if len(rankings) > 2 else ():
            others = [ranking for name, ranking in rankings.items() if name != task]
            common = intersection(others, k)
            if common:
                yield HeadList("task-agnostic", task, k, label(common), {})


def judges(task: str, heads: HeadList) -> bool:
    """Whether a list of heads is measured on a task: a task-agnostic one is not on its own."""
    if heads.strategy == "task-agnostic":
        return heads.of != task
    return heads.of in (None, task)
