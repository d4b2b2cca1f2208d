"""Replacing by regular expression, with emphasis kept."""

from __future__ import annotations

import re
from collections.abc import Callable

from pasta_chains.spans import SpanStr, warn_dropped


def sub(
    pattern: str | re.Pattern[str],
    replacement: str | Callable[[re.Match[str]], str],
    text: str,
    count: int = 0,
) -> SpanStr:
    r"""Does what `re.sub` does, and keeps emphasis.

    Spans outside the matches keep their text, and a span around a match takes in what replaces it.
    A group that the replacement puts back brings its emphasis along; so does a `SpanStr`.

    Args:
        pattern: A regular expression.
        replacement: A template such as `r"\2 \1"`, or a function of the match.
        text: Where to replace.
        count: How often at most; 0 for always.
    """
    text = SpanStr(text)
    matches = list(re.finditer(pattern, text.text)) if count >= 0 else []
    edits: list[tuple[int, int, str]] = []
    for match in matches[: count or None]:
        if callable(replacement):
            new = _computed(match, replacement(match), text)
        else:
            new = _expanded(match, replacement, text)
        edits.append((match.start(), match.end(), new))
    return text._edited(edits)


def _inner(match: re.Match[str], text: SpanStr) -> SpanStr:
    """The text with the spans that begin or end inside a match; those around it stay anyway."""
    inside = [
        span
        for span in text.spans
        if span.start < match.end()
        and span.end > match.start()
        and (span.start > match.start() or span.end < match.end())
    ]
    return SpanStr(text.text, inside)


def _computed(match: re.Match[str], new: str, text: SpanStr) -> str:
    """What a function returned; it was given plain text, and so cannot have kept emphasis."""
    lost = _inner(match, text)
    if isinstance(new, SpanStr) or not lost.spans:
        return new
    if new == match[0]:
        return lost[match.start() : match.end()]
    if new:
        warn_dropped("sub with a function")
    return new


# Octal escapes come first, as in `re`; every other escape is left to `Match.expand`.
_ESCAPE = re.compile(
    r"\\(?:[0-3][0-7]{2}|(?P<number>[1-9]\d?)|g<(?P<name>\w+)>|0[0-7]?|.|\Z)", re.DOTALL
)


def _expanded(match: re.Match[str], template: str, text: SpanStr) -> SpanStr:
    """What a replacement template stands for, its groups with the emphasis inside them."""
    template = SpanStr(template)
    source = _inner(match, text)
    edits: list[tuple[int, int, str]] = []
    for part in _ESCAPE.finditer(template.text):
        group = part["number"] or part["name"]
        if group is None:
            new = match.expand(part[0])
        else:
            start, end = match.span(int(group) if group.isdigit() else group)
            new = source[start:end] if start >= 0 else ""
        edits.append((part.start(), part.end(), new))
    return template._edited(edits)
