"""From how each head does alone to lists of heads (Zhang et al., arXiv 2311.02262, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

Head: TypeAlias = tuple[int, int]
"""A layer and a head in it, both from 0."""


def ranked(alone: Mapping[Head, float]) -> list[Head]:
    """Heads, the best first; equally good ones in the order of layers.

    Args:
        alone: For each head the score when it alone is steered.
    """
    return sorted(alone, key=lambda head: (-alone[head], head))


def task_specific(ranking: Sequence[Head], k: int) -> list[Head]:
    """The best `k` heads of one task."""
    return sorted(ranking[:k])


def intersection(rankings: Iterable[Sequence[Head]], k: int) -> list[Head]:
    """Heads that are among the best `k` of every task: "multi-task", or "task-agnostic" when the
    task that they are for is not among them.
    """
    tops = [set(ranking[:k]) for ranking in rankings]
    return sorted(set.intersection(*tops)) if tops else []


def union(rankings: Iterable[Sequence[Head]], k: int) -> list[Head]:
    """Heads that are among the best `k` of any task."""
    return sorted({head for ranking in rankings for head in ranking[:k]})


def by_layer(heads: Iterable[Head]) -> dict[int, list[int]]:
    """Heads by their layers, as profiles have them."""
    found: dict[int, list[int]] = {}
    for layer, head in sorted(heads):
        found.setdefault(layer, []).append(head)
    return found


def sizes(count: int) -> list[int]:
    """Values of `k` worth trying for so many heads: up to 70 % of them.

    The paper's are 29 to 49 % of LLaMA-7B's heads, and 56 to 78 % of GPT-J's.
    """
    return sorted({max(1, round(count * part / 100)) for part in (2, 5, *range(10, 80, 10))})
