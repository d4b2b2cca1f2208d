"""A report as HTML that needs nothing from elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from functools import cache
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from .. import __version__
from ..shares import MEASURES
from ..spans import Span, SpanStr
from .report import PromptReport, ReadToken

_GROUPS = 4
"""Colors for spans of different names; further names share them."""


class Piece(NamedTuple):
    """A part of the prompt as it is shown.

    Attributes:
        text: What stands there.
        number: Of the token, or None between tokens.
        token: The token, if it is one.
        color: Number of the span's color, if it has one.
        span: The span that it belongs to, if it does.
    """

    text: str
    number: int | None = None
    token: ReadToken | None = None
    color: int | None = None
    span: Span | None = None


class HeatMap(NamedTuple):
    """Shares of attention, to be drawn.

    Attributes:
        title: What they are.
        rows: For each layer its number, and for each head its share, or None.
        steered: Layers and heads that are steered.
    """

    title: str
    rows: list[tuple[int, list[float | None]]]
    steered: set[tuple[int, int]]


def page_of(report: PromptReport) -> str:
    """The report as a page of its own."""
    return _templates().get_template("page.html").render(fragment=Markup(fragment_of(report)))


def fragment_of(report: PromptReport, parts: Collection[str] = ("prompt", "answers")) -> str:
    """The report as part of a page, as in a notebook.

    Args:
        report: What to show.
        parts: Whether the prompt and the answers are shown, too.
    """
    return _templates().get_template("fragment.html").render(
        report=report,
        parts=parts,
        version=__version__,
        colors=_colors(report.text),
        pieces=list(pieces(report)),
        maps=heat_maps(report),
        profile=report.profile.heads if report.profile else {},
    )  # fmt: skip


def prompt_of(text: SpanStr) -> str:
    """A prompt with its emphasis in colors, by the names of its spans, as part of a page."""
    colors, shown, position = _colors(text), [], 0
    for start, end, span in text.runs():
        shown.append(Piece(text.text[position:start]))
        shown.append(Piece(text.text[start:end], color=colors[span.name], span=span))
        position = end
    shown.append(Piece(text.text[position:]))
    return _templates().get_template("prompt.html").render(pieces=shown, colors=colors)


def pieces(report: PromptReport) -> Iterator[Piece]:
    """The prompt, cut at the boundaries of its tokens; nothing is left out or shown twice."""
    text, position, colors = report.text.text, 0, _colors(report.text)
    for number, token in enumerate(report.tokens):
        if token.start > position:
            yield Piece(text[position : token.start])
            position = token.start
        color = None if token.span is None else colors[token.span.name]
        if token.end > token.start:
            # Tokens that are parts of one character all stand for it; the first one shows it.
            yield Piece(text[position : token.end], number, token, color)
        else:
            yield Piece(token.text, number, token)
        position = max(position, token.end)
    if position < len(text):
        yield Piece(text[position:])


def heat_maps(report: PromptReport) -> list[HeatMap]:
    """The shares of attention, mean over the answer, without and with steering."""
    shares = report.shares
    if shares is None:
        return []
    heads = report.profile.heads if report.profile else {}
    steered = {(layer, head) for layer, numbers in heads.items() for head in numbers}
    maps = []
    for measure, title in zip(MEASURES[2:], ("without emphasis", "with emphasis"), strict=True):
        taken = getattr(shares, measure)
        if taken is not None:
            rows = [
                [None if math.isnan(share) else share for share in row] for row in taken.tolist()
            ]
            maps.append(HeatMap(title, list(zip(shares.layers, rows, strict=True)), steered))
    return maps


def _colors(text: SpanStr) -> dict[str | None, int]:
    """For each name of a span, in order, the number of its color."""
    names = dict.fromkeys(span.name for span in text.spans)
    return {name: number % _GROUPS for number, name in enumerate(names)}


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pasta_chains", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {"percent": _percent, "times": _times, "quoted": _quoted}
    return made


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _times(weight: float) -> str:
    return "1" if weight > 1 - 1e-9 else f"{weight:.3g}"
