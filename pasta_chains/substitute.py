"""Replacing by regular expression, with emphasis kept."""

from __future__ import annotations

import re
from collections.abc import Callable

from pasta_chains.spans import SpanStr


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
    matches = list(re.finditer(pattern, text.text))
    edits = []
    for match in matches[: count or None]:
        new = replacement(match) if callable(replacement) else _expanded(match, replacement, text)
        edits.append((match.start(), match.end(), new))
    return text.edited(edits)


# Octal escapes come first, as in `re`; every other escape is left to `Match.expand`.
_ESCAPE = re.compile(
    r"\\(?:[0-3][0-7]{2}|(?P<number>[1-9]\d?)|g<(?P<name>\w+)>|0[0-7]?|.)", re.DOTALL
)


def _expanded(match: re.Match[str], template: str, text: SpanStr) -> SpanStr:
    """What a replacement template stands for, its groups with the emphasis inside them."""
    template = SpanStr(template)
    # Spans around the match are kept by `edited`; here only those count that begin or end inside.
    inner = [s for s in text.spans if s.start > match.start() or s.end < match.end()]
    source = SpanStr(text.text, inner)
    edits: list[tuple[int, int, str]] = []
    for part in _ESCAPE.finditer(template.text):
        group = part["number"] or part["name"]
        if group is None:
            new = match.expand(part[0])
        else:
            start, end = match.span(int(group) if group.isdigit() else group)
            new = source[start:end] if start >= 0 else ""
        edits.append((part.start(), part.end(), new))
    return template.edited(edits)
