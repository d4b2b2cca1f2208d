"""Escaped text with emphasis, for templates with autoescape.

`markupsafe.Markup` is text that is HTML already: what is added to it is escaped first. `SpanMarkup`
is that with spans, whose positions are those in the escaped text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, SupportsIndex

import markupsafe
from markupsafe import Markup, soft_str

from pasta_chains.spans import Span, SpanStr, concat, drop_emphasis


class SpanMarkup(SpanStr, Markup):  # type: ignore[misc]  # both say what str methods return
    """A `SpanStr` that is escaped: what joins it is escaped, and it is not escaped again."""

    __slots__ = ()

    # Where no span is left, `Markup` itself does what Jinja expects of it.

    def _like(self, text: str, spans: Iterable[Span] = ()) -> Any:
        return markup(SpanStr(text, spans))

    def _joined(self, pieces: Iterable[str]) -> Any:
        return markup(concat(map(escape, pieces)))

    def __add__(self, other: Any, /) -> Any:
        return super().__add__(escape(other) if hasattr(other, "__html__") else other)

    def __radd__(self, other: Any, /) -> Any:
        return super().__radd__(escape(other) if hasattr(other, "__html__") else other)

    def __iter__(self) -> Iterator[SpanStr]:
        return iter(SpanStr(self.text, self.spans))  # characters of a `Markup` are plain text

    def __repr__(self) -> str:
        return repr(Markup(self.text))

    def replace(self, old: str, new: str, /, count: SupportsIndex = -1) -> Any:
        return super().replace(old, escape(new), count)

    def __str__(self) -> SpanStr:
        return SpanStr(self.text, self.spans)  # the str of escaped text is no longer escaped text

    def __html__(self) -> SpanMarkup:
        return self

    def __html_format__(self, spec: str, /) -> Any:
        return Markup(drop_emphasis(self, "Markup.format")).__html_format__(spec)

    def __mod__(self, values: Any, /) -> Any:
        return Markup(drop_emphasis(self, "the % operator")) % values

    def __rmod__(self, template: str, /) -> Any:
        return template % Markup(drop_emphasis(self, "the % operator"))

    def format(self, *args: Any, **kwargs: Any) -> Any:
        return Markup(drop_emphasis(self, "Markup.format")).format(*args, **kwargs)

    def format_map(self, mapping: Any, /) -> Any:
        return Markup(drop_emphasis(self, "Markup.format")).format_map(mapping)

    def unescape(self) -> str:
        return Markup(drop_emphasis(self, "Markup.unescape")).unescape()

    def striptags(self) -> str:
        return Markup(drop_emphasis(self, "Markup.striptags")).striptags()


def markup(value: Any) -> Markup:
    """Marks a value as escaped, like the class `Markup`, and keeps its spans."""
    if not isinstance(value, str) and hasattr(value, "__html__"):
        value = value.__html__()
    if isinstance(value, SpanStr) and value.spans:
        return value if isinstance(value, SpanMarkup) else SpanMarkup(value.text, value.spans)
    return Markup(str.__str__(value) if isinstance(value, str) else value)


def escape(value: Any) -> Markup:
    """Escapes a value for HTML, like `markupsafe.escape`, and keeps its spans."""
    if hasattr(value, "__html__"):
        return markup(value if isinstance(value, SpanMarkup) else value.__html__())
    if not isinstance(value, SpanStr):
        value = value if type(value) is str else str(value)
    if not isinstance(value, SpanStr) or not value.spans:
        return markupsafe.escape(value)
    escaped = value._mapped(lambda text: str.__str__(markupsafe.escape(text)))
    return SpanMarkup(escaped.text, escaped.spans)


def join_markup(values: Iterable[Any]) -> str:
    """Joins as the operator `~` does under autoescape: one escaped value has all escaped."""
    strings = map(soft_str, values)
    before: list[str] = []
    for value in strings:
        before.append(value)
        if hasattr(value, "__html__"):
            return markup(concat(map(escape, chain(before, strings))))
    return concat(before)
