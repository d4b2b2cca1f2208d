"""Reading the emphasis of a text in two ways that are easy to compare."""

from __future__ import annotations

from pasta_chains.spans import Span, SpanStr


def bracketed(text: str) -> str:
    """Writes the outermost spans of a text as «…»."""
    assert isinstance(text, SpanStr)
    plain, written, position = text.text, "", 0
    for span in text.spans:
        if span.start >= position:
            written += f"{plain[position : span.start]}«{plain[span.start : span.end]}»"
            position = span.end
    return written + plain[position:]


def innermost(text: str) -> list[Span | None]:
    """What the innermost span of each character says, wherever that span stands."""
    marks: list[Span | None] = [None] * len(text)
    for span in text.spans if isinstance(text, SpanStr) else ():
        for position in range(span.start, span.end):
            marks[position] = Span(0, 1, span.alpha, span.name, span.deemphasized)
    return marks
