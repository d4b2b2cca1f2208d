"""Text that knows which of its characters are emphasized.

`Span` is one emphasized range; `SpanStr` is a `str` with spans beside its characters. The spans
are never characters in the text, so no text can forge them, and printing, comparing or hashing a
`SpanStr` is printing, comparing or hashing its text.

Three facts make the string methods short and exact:

* cutting text clips its spans (`__getitem__`), and joining text shifts them (`concat`);
* a change that treats characters from left to right moves a boundary to the length of the changed
  prefix (`_mapped`);
* every other change replaces some ranges and leaves the rest alone (`_edited`).
"""

from __future__ import annotations

import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from itertools import accumulate
from operator import index
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeAlias, cast

from pasta_chains import _show
from pasta_chains._span import (
    STRENGTHS,
    Span,
    alpha_of,
    innermost_runs,
    moved,
    shifted,
    uncrossed,
)
from pasta_chains.errors import EmphasisDroppedWarning, EmphasisError

if TYPE_CHECKING:
    from rich.text import Text

__all__ = [
    "STRENGTHS",
    "Span",
    "SpanStr",
    "carries_emphasis",
    "concat",
    "drop_emphasis",
    "emphasize",
    "span_count",
    "warn_dropped",
]

SpanLike: TypeAlias = Span | tuple[Any, ...]


class SpanStr(str):
    """A `str` that carries its emphasized spans through string operations.

    Operations that keep track of characters keep the spans exactly; the others return a plain
    `str` with an `EmphasisDroppedWarning`. Only what happens inside C code on a *plain* string
    cannot be seen: write `SpanStr("").join(pieces)` rather than `"".join(pieces)`.
    """

    __slots__ = ("_spans",)
    _spans: tuple[Span, ...]

    def __new__(cls, text: str = "", spans: Iterable[SpanLike] = ()) -> Self:
        """Mark characters of a text.

        Args:
            text: The characters. The spans of a `SpanStr` are kept, inside the new ones.
            spans: `Span`s, or tuples `(start, end[, alpha[, name]])`. Where spans nest, the
                innermost one wins. Where two cross, the later one wins and the earlier one ends
                there.

        Raises:
            EmphasisError: The text is not a `str`, or a span is malformed or reaches beyond it.
        """
        if not isinstance(text, str):
            raise EmphasisError(
                f"Only a str can carry emphasis, not {type(text).__name__}: {text!r}. "
                "Convert it to a str first."
            )
        if not isinstance(spans, Iterable):
            raise EmphasisError(
                f"The spans of a text are a list, empty for no emphasis, not {spans!r}."
            )
        self = super().__new__(cls, text)
        given = [_as_span(span) for span in spans]
        for span in given:
            if span.end > len(self):
                raise EmphasisError(
                    f"The span [{span.start}, {span.end}) reaches beyond the text, "
                    f"which has {len(self)} characters."
                )
        if isinstance(text, SpanStr):
            given += text.spans
        self._spans = uncrossed(sorted(given, key=lambda span: (span.start, -span.end)))
        return self

    # Reading

    @property
    def text(self) -> str:
        """The characters alone, as a plain `str`."""
        return str.__getitem__(self, slice(None))

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans by start, outer before inner: the last one covering a character wins."""
        return self._spans

    def emphasized(self) -> tuple[str, ...]:
        """Returns the text of each emphasized span, in order."""
        text = self.text
        return tuple(text[span.start : span.end] for span in self.spans if not span.deemphasized)

    def runs(self) -> list[tuple[int, int, Span]]:
        """Returns the marked ranges without overlap, each with the innermost span that covers it.

        Returns:
            Triples `(start, end, span)` in order; unmarked text lies between them.
        """
        return innermost_runs(self._spans)

    def with_alpha(self, alpha: float | str | None, name: str | None = None) -> SpanStr:
        """Returns the text with another alpha for the spans of a name, or for all of them.

        Args:
            alpha: The new alpha, or the name of a strength; None leaves it to the model.
            name: Which spans; by default all.

        Raises:
            EmphasisError: No span has that name, or alpha is out of range.
        """
        chosen = [span for span in self._spans if name is None or span.name == name]
        if not chosen:
            names = sorted({span.name for span in self._spans if span.name is not None})
            which = "The text has no spans" if name is None else f"No span has the name {name!r}"
            raise EmphasisError(
                f"{which}, so nothing would change. Named spans: {', '.join(names) or 'none'}."
            )
        alpha = alpha_of(alpha)
        retuned = [
            Span(s.start, s.end, alpha, s.name, s.deemphasized) if s in chosen else s
            for s in self._spans
        ]
        return self._like(self.text, retuned)

    def to_dict(self) -> dict[str, Any]:
        """Returns the text and its spans as JSON can hold them."""
        return {"text": self.text, "spans": [span._asdict() for span in self.spans]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SpanStr:
        """Builds the text back from what `to_dict` returned.

        Raises:
            EmphasisError: The data has another shape.
        """
        try:
            if not isinstance(data["text"], str):
                raise TypeError("the text is not a str")
            return cls(data["text"], [Span(**span) for span in data["spans"]])
        except (KeyError, TypeError) as error:
            raise EmphasisError(f"This is not what SpanStr.to_dict() writes: {data!r}") from error

    def __rich__(self) -> Text:
        return _show.as_rich(self)

    def to_html(self) -> str:
        """Returns the text as HTML, with `<mark>` around what is emphasized.

        What is deemphasized stands in `<small>`. Alpha and name are attributes `data-alpha` and
        `data-name`. White space is kept by the element around it, such as `<pre>`.
        """
        return _show.as_html(self)

    def _repr_html_(self) -> str:
        return f'<pre style="white-space: pre-wrap">{self.to_html()}</pre>'

    def __str__(self) -> SpanStr:
        return self

    def __reduce__(self) -> tuple[type[SpanStr], tuple[str, tuple[Span, ...]]]:
        return type(self), (self.text, self.spans)

    # Cutting

    def __getitem__(self, key: SupportsIndex | slice) -> SpanStr:
        text = str.__getitem__(self, key)
        if not self._spans:
            return self._like(text)
        if not isinstance(key, slice):
            key = range(len(self))[key]
            key = slice(key, key + 1)
        kept = range(len(self))[key]
        forward = kept if kept.step > 0 else kept[::-1]

        def place(span: Span) -> tuple[int, int]:
            # Rounding up counts the kept characters before each boundary.
            start, end = (
                min(max(-((forward.start - bound) // forward.step), 0), len(kept))
                for bound in (span.start, span.end)
            )
            return (start, end) if forward is kept else (len(kept) - end, len(kept) - start)

        return self._like(text, moved(self._spans, place))

    def __iter__(self) -> Iterator[SpanStr]:
        return (self[position] for position in range(len(self)))

    def lstrip(self, chars: str | None = None, /) -> SpanStr:
        return self[len(self) - len(self.text.lstrip(chars)) :]

    def rstrip(self, chars: str | None = None, /) -> SpanStr:
        return self[: len(self.text.rstrip(chars))]

    def strip(self, chars: str | None = None, /) -> SpanStr:
        return self.lstrip(chars).rstrip(chars)

    def removeprefix(self, prefix: str, /) -> SpanStr:
        return self[len(self) - len(self.text.removeprefix(prefix)) :]

    def removesuffix(self, suffix: str, /) -> SpanStr:
        return self[: len(self.text.removesuffix(suffix))]

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._cut(self.text.split(sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._cut(self.text.rsplit(sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        lines = self._cut(self.text.splitlines(keepends=True), "")
        if keepends:
            return lines
        return [line[: len(bare)] for line, bare in zip(lines, self.text.splitlines(), strict=True)]

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        before, found, after = self._cut(self.text.partition(sep), "")
        return before, found, after

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        before, found, after = self._cut(self.text.rpartition(sep), "")
        return before, found, after

    def _cut(self, parts: Sequence[str], sep: str | None) -> list[str]:
        """Cuts this text into `parts`, which lie one after the other, `sep` apart."""
        cut: list[str] = []
        position = 0
        for part in parts:
            # Without a separator only white space lies between, where no part can be found.
            start = position if sep is not None else self.index(part, position)
            cut.append(self[start : start + len(part)])
            position = start + len(part) + len(sep or "")
        return cut

    # Joining

    def __add__(self, other: str, /) -> SpanStr:
        if not isinstance(other, str):
            return NotImplemented
        if hasattr(other, "__html__") and not hasattr(self, "__html__"):
            # Escaped text escapes what it is added to; only it knows how to keep emphasis then.
            markup: Any = other
            escaped = self if isinstance(other, SpanStr) else drop_emphasis(self, "adding Markup")
            return cast(SpanStr, markup.__radd__(escaped))
        return self._joined((self, other))

    def __radd__(self, other: str, /) -> SpanStr:
        return self._joined((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, count: SupportsIndex, /) -> SpanStr:
        return self._joined([self] * index(count))

    __rmul__ = __mul__

    def join(self, pieces: Iterable[str], /) -> SpanStr:
        joined: list[str] = []
        for piece in pieces:
            joined += (self, piece)
        return self._joined(joined[1:])

    def _like(self, text: str, spans: Iterable[Span] = ()) -> SpanStr:
        """A text of this kind: escaped text stays escaped text."""
        return SpanStr(text, spans)

    def _joined(self, pieces: Iterable[str]) -> SpanStr:
        return concat(pieces)

    def ljust(self, width: SupportsIndex, fillchar: str = " ", /) -> SpanStr:
        return self + self.text.ljust(width, fillchar)[len(self) :]

    def rjust(self, width: SupportsIndex, fillchar: str = " ", /) -> SpanStr:
        return self.text.rjust(width, fillchar)[: max(index(width) - len(self), 0)] + self

    def center(self, width: SupportsIndex, fillchar: str = " ", /) -> SpanStr:
        text, width = self.text.center(width, fillchar), index(width)
        padding = len(text) - len(self)
        # str.center puts the odd character on the left when the width is odd.
        left = padding // 2 + (padding & width & 1)
        return text[:left] + self + text[left + len(self) :]

    # Changing

    def upper(self) -> SpanStr:
        return self._cased(str.upper)

    def lower(self) -> SpanStr:
        return self._cased(str.lower)

    def casefold(self) -> SpanStr:
        return self._cased(str.casefold)

    def swapcase(self) -> SpanStr:
        return self._cased(str.swapcase)

    def title(self) -> SpanStr:
        return self._cased(str.title)

    def capitalize(self) -> SpanStr:
        return self._cased(str.capitalize)

    def expandtabs(self, tabsize: SupportsIndex = 8) -> SpanStr:
        return self._mapped(lambda text: text.expandtabs(tabsize))

    def translate(self, table: Any, /) -> SpanStr:
        return self._mapped(lambda text: text.translate(table))

    def zfill(self, width: SupportsIndex, /) -> SpanStr:
        after_sign = 1 if self.startswith(("+", "-")) else 0
        zeros = "0" * (index(width) - len(self))
        return self._edited([(after_sign, after_sign, zeros)])

    def replace(self, old: str, new: str, /, count: SupportsIndex = -1) -> SpanStr:
        limit = index(count) if index(count) >= 0 else len(self) + 1
        found: list[tuple[int, int, str]] = []
        start = self.find(old)
        while start >= 0 and len(found) < limit:
            end = start + len(old)
            found.append((start, end, new))
            start = self.find(old, max(end, start + 1))
        return self._edited(found)

    def _cased(self, change: Callable[[str], str]) -> SpanStr:
        text = change(self.text)
        # No change of case shortens a character, so in equal lengths each one kept its place.
        return self._like(text, self._spans) if len(text) == len(self) else self._mapped(change)

    def _mapped(self, change: Callable[[str], str]) -> SpanStr:
        """Applies a change in which later characters never alter the length of earlier ones."""
        text = self.text

        def place(span: Span) -> tuple[int, int]:
            return len(change(text[: span.start])), len(change(text[: span.end]))

        return self._like(change(text), moved(self._spans, place))

    def _edited(self, edits: Sequence[tuple[int, int, str]]) -> SpanStr:
        """Replaces ranges `(start, end, new)`, given in order and without overlap.

        A new text takes the spans that cover all of what it replaces; a span that covers a part
        keeps the rest of its text.
        """
        starts = [start for start, _, _ in edits]
        ends = [end for _, end, _ in edits]
        shifts = [0, *accumulate(len(new) - (end - start) for start, end, new in edits)]

        def place(span: Span) -> tuple[int, int]:
            before = bisect_right(ends, span.start)
            start = span.start + shifts[before]
            if before < len(edits) and starts[before] < span.start:
                start = ends[before] + shifts[before + 1]
            before = bisect_left(starts, span.end)
            end = span.end + shifts[before]
            if before > 0 and ends[before - 1] > span.end:
                end = starts[before - 1] + shifts[before - 1]
            return start, end

        text, position = self.text, 0
        pieces: list[str] = []
        for start, end, new in edits:
            pieces += (text[position:start], new)
            position = end
        return self._like(concat([*pieces, text[position:]]), moved(self._spans, place))

    def _realigned(self, changed: str) -> SpanStr:
        """Returns `changed` with these spans, where the two differ in white space alone.

        A span then begins and ends at visible characters.
        """
        seen = [i for i, character in enumerate(self.text) if not character.isspace()]
        now = [i for i, character in enumerate(changed) if not character.isspace()]
        if [self.text[i] for i in seen] != [changed[i] for i in now]:
            raise ValueError("the texts differ in more than white space")

        def place(span: Span) -> tuple[int, int]:
            first, last = bisect_left(seen, span.start), bisect_left(seen, span.end) - 1
            return (now[first], now[last] + 1) if first <= last else (0, 0)

        return self._like(changed, moved(self._spans, place))

    # Losing: these build new text out of reach, so they say that they drop the emphasis.

    def __mod__(self, values: Any, /) -> str:
        if carries_emphasis(values):
            warn_dropped("the % operator")
            return str.__mod__(self.text, values)
        return str.__mod__(drop_emphasis(self, "the % operator"), values)

    def __rmod__(self, template: str, /) -> str:
        return str.__mod__(template, drop_emphasis(self, "the % operator"))

    def __format__(self, spec: str, /) -> str:
        return format(drop_emphasis(self, "an f-string or str.format"), spec)

    def format(self, *args: Any, **kwargs: Any) -> str:
        return drop_emphasis(self, "str.format").format(*args, **kwargs)

    def format_map(self, mapping: Any, /) -> str:
        return drop_emphasis(self, "str.format_map").format_map(mapping)

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return drop_emphasis(self, "str.encode").encode(encoding, errors)


def emphasize(
    text: str,
    alpha: float | str | None = None,
    name: str | None = None,
    deemphasized: bool = False,
) -> SpanStr:
    """Marks all of a text; emphasis already inside it stays and wins there.

    Args:
        text: What to mark.
        alpha: How strongly, `0 < alpha <= 1`, smaller is stronger, or the name of a strength in
            `STRENGTHS`; None leaves it to the model.
        name: A label to find the span by.
        deemphasized: Have it read with less weight instead of more.

    Raises:
        EmphasisError: The text is empty or no `str`, or alpha is out of range.
    """
    if type(text) is not str and not isinstance(text, SpanStr):
        text = SpanStr(text)
    if isinstance(alpha, str):
        alpha = alpha_of(alpha)
    outer = Span(0, len(text), alpha, name, deemphasized)
    if not isinstance(text, SpanStr):
        return _made(text, (outer,))
    spans = (outer, *text._spans)
    return _made(text.text, spans) if type(text) is SpanStr else text._like(text.text, spans)


def concat(pieces: Iterable[str]) -> SpanStr:
    """Joins pieces of text, each with its spans."""
    pieces = list(pieces)
    text = "".join(pieces)
    spans: list[Span] = []
    for piece, offset in zip(pieces, accumulate(map(len, pieces), initial=0), strict=False):
        if type(piece) is not str and isinstance(piece, SpanStr):
            for span in piece._spans:
                spans.append(shifted(span, offset))
    return _made(text, tuple(spans))


def _made(text: str, spans: tuple[Span, ...]) -> SpanStr:
    """Builds a text whose spans are known to be in order, uncrossed and inside it."""
    made = str.__new__(SpanStr, text)
    made._spans = spans
    return made


def span_count(text: str) -> int:
    """Returns the number of spans, which is 0 for a plain `str`."""
    return len(text.spans) if isinstance(text, SpanStr) else 0


def carries_emphasis(value: object) -> bool:
    """Tells whether a text, or a text in a collection or mapping, has spans."""
    return span_count(value) > 0 if isinstance(value, str) else _any_emphasis(value, set())


def _any_emphasis(value: object, seen: set[int]) -> bool:
    if isinstance(value, str):
        return span_count(value) > 0
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    elif not isinstance(value, list | tuple | Set | ValuesView):
        return False
    if id(value) in seen:  # a list may hold itself
        return False
    seen.add(id(value))
    return any(_any_emphasis(item, seen) for item in value)


def drop_emphasis(text: str, operation: str) -> str:
    """Returns the characters alone, with a warning if `operation` thereby drops emphasis."""
    if not isinstance(text, SpanStr):
        return text
    if text.spans:
        warn_dropped(operation)
    return text.text


def warn_dropped(operation: str) -> None:
    """Warns that `operation` cannot keep the emphasis of what it was given."""
    warnings.warn(
        f"{operation} cannot keep emphasis, so it is dropped. Emphasize the result instead, "
        "or pass the text without emphasis (.text, or the filter plain).",
        EmphasisDroppedWarning,
        stacklevel=4,
    )


def _as_span(given: object) -> Span:
    if isinstance(given, Span):
        return given
    if isinstance(given, list | tuple) and 2 <= len(given) <= 5:
        return Span(*given)
    raise EmphasisError(
        f"A span is a Span or a tuple (start, end[, alpha[, name]]), not {given!r}."
    )
