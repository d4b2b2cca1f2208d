"""Emphasized text for the eye: in a terminal, and as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

    from pasta_chains.spans import SpanStr


def as_rich(text: SpanStr) -> Text:
    from rich.text import Text

    # Piece by piece: rich leaves out control characters, which would shift what follows.
    shown = Text()
    position = 0
    for start, end, span in text.runs():
        shown.append(text.text[position:start])
        shown.append(text.text[start:end], "dim" if span.deemphasized else "bold black on yellow")
        position = end
    return shown.append(text.text[position:])


def as_html(text: SpanStr) -> str:
    pieces: list[str] = []
    position = 0
    for start, end, span in text.runs():
        tag = "small" if span.deemphasized else "mark"
        given = (("alpha", span.alpha), ("name", span.name))
        attributes = "".join(
            f' data-{key}="{escape(str(value))}"' for key, value in given if value is not None
        )
        marked = escape(text.text[start:end])
        pieces += (escape(text.text[position:start]), f"<{tag}{attributes}>{marked}</{tag}>")
        position = end
    return "".join([*pieces, escape(text.text[position:])])
