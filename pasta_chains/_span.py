"""One emphasized range, and the arithmetic of several: shifting, moving, nesting."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range `[start, end)` of characters that the model should read differently.

    Attributes:
        start: Index of the first character.
        end: Index after the last character.
        alpha: How strongly, `0 < alpha <= 1`, smaller is stronger; None leaves it to the model.
        name: A label to find the span by.
        deemphasized: Whether the range is to be read with less weight instead of more.
    """

    start: int
    end: int
    alpha: float | None = None
    name: str | None = None
    deemphasized: bool = False

    def __post_init__(self) -> None:
        for bound in (self.start, self.end):
            if not isinstance(bound, int) or isinstance(bound, bool):
                raise EmphasisError(f"A span starts and ends at whole numbers, not at {bound!r}.")
        if self.start == self.end:
            raise EmphasisError(f"The emphasis at character {self.start} marks no text.")
        if not 0 <= self.start < self.end:
            raise EmphasisError(
                f"A span needs 0 <= start < end, but got start={self.start} and end={self.end}."
            )
        if self.alpha is not None and not _is_alpha(self.alpha):
            raise EmphasisError(
                f"alpha is {self.alpha!r}, but it must be a number with 0 < alpha <= 1 "
                "(smaller is stronger), or None for the default of the head profile."
            )
        if self.name is not None and not isinstance(self.name, str):
            raise EmphasisError(f"The name of a span must be a str, not {self.name!r}.")


# A frozen dataclass is set up through its slots. Joining text moves every span of a prompt, and
# `dataclasses.replace` would take as long for it as Jinja takes for all the rest.
_SET_START = Span.__dict__["start"].__set__
_SET_END = Span.__dict__["end"].__set__
_SET_ALPHA = Span.__dict__["alpha"].__set__
_SET_NAME = Span.__dict__["name"].__set__
_SET_DEEMPHASIZED = Span.__dict__["deemphasized"].__set__


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
    if type(span) is not Span:
        return replace(span, start=span.start + offset, end=span.end + offset)
    made = object.__new__(Span)
    _SET_START(made, span.start + offset)
    _SET_END(made, span.end + offset)
    _SET_ALPHA(made, span.alpha)
    _SET_NAME(made, span.name)
    _SET_DEEMPHASIZED(made, span.deemphasized)
    return made


def moved(spans: Iterable[Span], place: Callable[[Span], tuple[int, int]]) -> list[Span]:
    """Moves each span to where `place` says; one whose text is gone is left out."""
    placed: list[Span] = []
    for span in spans:
        start, end = place(span)
        if start < end:
            placed.append(replace(span, start=start, end=end))
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
            kept[place] = replace(kept[place], end=span.start)
        open_places.append(len(kept))
        kept.append(span)
    return tuple(kept)
