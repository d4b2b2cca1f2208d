"""What samples are for, and which of a data set are for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, TypeVar

from ..errors import TaskError

Split: TypeAlias = Literal["train", "validation", "test"]
"""For finding heads and for worked examples, for choosing among lists of heads, for results."""

PAPER: Mapping[Split, tuple[int, int]] = {
    "train": (0, 1000),
    "validation": (1000, 2000),
    "test": (5000, 10_000),
}
"""Which samples of a data set the paper takes, first and after the last (published code)."""

_Item = TypeVar("_Item")


def split_of(items: Sequence[_Item], split: Split, count: int | None = None) -> Sequence[_Item]:
    """The items that are for something: the paper's, or a third each where there are fewer.

    Args:
        items: All of a data set, in its order.
        split: What they are for.
        count: How many of them; by default all.

    Raises:
        TaskError: There are not so many.
    """
    third = len(items) // 3
    if len(items) >= PAPER["test"][1]:
        start, end = PAPER[split]
    else:
        place = ("train", "validation", "test").index(split)
        start, end = place * third, (place + 1) * third
    if end - start < max(count or 1, 1):
        raise TaskError(
            f"The data has {len(items)} samples, of which {end - start} are for {split}, and "
            f"{count or 1} were asked for. Give it more, or ask for fewer."
        )
    return items[start:end][:count]
