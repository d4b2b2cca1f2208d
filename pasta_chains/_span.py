"""One emphasized range, and the arithmetic of several: shifting, moving, nesting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from pasta_chains.errors import EmphasisError

STRENGTHS = {"light": 0.1, "strong": 0.001}
"""Alphas by name, weaker and stronger than the 0.01 of most head profiles."""


def alpha_of(strength: float | str | None) -> float | None:
    """Returns the alpha that a name stands for; an alpha, or None, as it is.

    Raises:
        EmphasisError: There is no strength of that name.
    """
    if not isinstance(strength, str):
        return strength
    if strength not in STRENGTHS:
        raise EmphasisError(
            f"There is no strength {strength!r}. Use {' or '.join(map(repr, STRENGTHS))}, "
            "or a number with 0 < alpha <= 1 (smaller is stronger)."
        )
    return STRENGTHS[strength]


class _Fields(NamedTuple):
    start: int
    end: int
    alpha: float | None = None
    name: str | None = None
    deemphasized: bool = False


class Span(_Fields):
    """A half-open range `[start, end)` of characters that the model should read differently.

    It is a tuple, which Python makes fastest: joining text moves every span of a prompt.

    Attributes:
        start: Index of the first character.
        end: Index after the last character.
        alpha: How strongly, `0 < alpha <= 1`, smaller is stronger; None leaves it to the model.
        name: A label to find the span by.
        deemphasized: Whether the range is to be read with less weight instead of more.

    Raises:
        EmphasisError: The range is empty or impossible, or another value is out of range.
    """

    __slots__ = ()

    def __new__(
        cls,
        start: int,
        end: int,
        alpha: float | None = None,
        name: str | None = None,
        deemphasized: bool = False,
    ) -> Self:
        if type(start) is not int or type(end) is not int or not 0 <= start < end:
            _check_bounds(start, end)
        if alpha is not None and not _is_alpha(alpha):
            raise EmphasisError(
                f"alpha is {alpha!r}, but it must be a number with 0 < alpha <= 1 "
                "(smaller is stronger), or None for the default of the head profile."
            )
        if name is not None and not isinstance(name, str):
            raise EmphasisError(f"The name of a span must be a str, not {name!r}.")
        return tuple.__new__(cls, (start, end, alpha, name, deemphasized))


def _check_bounds(start: object, end: object) -> None:
    for bound in (start, end):
        if not isinstance(bound, int) or isinstance(bound, bool):
            raise EmphasisError(f"A span starts and ends at whole numbers, not at {bound!r}.")
    if start == end:
        raise EmphasisError(f"The emphasis at character {start} marks no text.")
    if not 0 <= start < end:  # type: ignore[operator]  # both are int by now
        raise EmphasisError(f"A span needs 0 <= start < end, but got start={start} and end={end}.")


def innermost_runs(spans: Iterable[Span]) -> list[tuple[int, int, Span]]:
    """Cuts nested spans, given outer before inner, into ranges without overlap."""
    runs: list[tuple[int, int, Span]] = []
    for span in spans:
        cut: list[tuple[int, int, Span]] = []
        # Only runs at the end of the list can reach into this span: spans come in order.
        while runs and runs[-1][1] > span.start:
            start, end, outer = runs.pop()
            if span.end < end:
                cut.append((max(start, span.end), end, outer))
            if start < span.start:
                runs.append((start, span.start, outer))
                break
        runs += [(span.start, span.end, span), *reversed(cut)]
    return runs


def _is_alpha(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and 0 < value <= 1


def shifted(span: Span, offset: int) -> Span:
    """Moves a span; its bounds were checked, so nothing is checked again."""
    start, end, alpha, name, deemphasized = span
    return tuple.__new__(Span, (start + offset, end + offset, alpha, name, deemphasized))


def moved(spans: Iterable[Span], place: Callable[[Span], tuple[int, int]]) -> list[Span]:
    """Moves each span to where `place` says; one whose text is gone is left out."""
    placed: list[Span] = []
    for span in spans:
        start, end = place(span)
        if start < end:
            placed.append(span._replace(start=start, end=end))
    return placed


def uncrossed(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Ends a span where a later one crosses it, so that any two nest or lie apart.

    Nesting survives cutting, reversing and clipping; crossing would not, and the innermost span
    of a character could change.
    """
    kept: list[Span] = []
    open_places: list[int] = []
    for span in spans:
        while open_places and kept[open_places[-1]].end <= span.start:
            open_places.pop()
        while open_places and kept[open_places[-1]].end < span.end:
            place = open_places.pop()
            kept[place] = kept[place]._replace(end=span.start)
        open_places.append(len(kept))
        kept.append(span)
    return tuple(kept)
