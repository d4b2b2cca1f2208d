"""Which text to leave out of a prompt that does not fit, and the prompt without it.

Emphasized text always stays, and so does what the chat template wrote. The rest goes in this order,
line by line and oldest first, until the prompt fits:

1. lines that are deemphasized;
2. the lines of a text prompt; of a chat, those of the messages before the last, and then those of
   its system messages;
3. the last message of a chat.

The very last line goes word by word, and last. A line that is emphasized in part loses its plain
words.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from .chat import Message, Range
from .errors import PromptError
from .spans import Span, SpanStr

Overflow: TypeAlias = Literal["error", "keep-emphasis"]
"""What is done with a prompt that does not fit the model's context."""

T = TypeVar("T")


class Dropped(NamedTuple):
    """A range of characters that was left out of a prompt.

    Attributes:
        start: Index of the first character, in the text as it was given.
        end: Index after the last.
        message: Number of the chat message whose content it is; None in a text prompt.
    """

    start: int
    end: int
    message: int | None = None


class Ranges:
    """Ranges of characters, joined where they touch, that are asked about many times."""

    def __init__(self, ranges: Iterable[Range]) -> None:
        joined: list[Range] = []
        for start, end in sorted(ranges):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((start, end))
        self.joined = joined
        self._starts = [start for start, _ in joined]

    def touch(self, start: int, end: int) -> bool:
        """Whether they share a character with a range."""
        place = bisect_right(self._starts, end - 1) - 1
        return place >= 0 and self.joined[place][1] > start

    def cover(self, start: int, end: int) -> bool:
        """Whether one of them has all characters of a range."""
        place = bisect_right(self._starts, start) - 1
        return place >= 0 and self.joined[place][1] >= end

    def free(self, position: int) -> bool:
        """Whether none of them has a character."""
        return not self.touch(position, position + 1)


def emphasized(text: SpanStr) -> Ranges:
    """What stays in a text: all that is emphasized, and what is deemphasized inside that."""
    return Ranges((span.start, span.end) for span in text.spans if not span.deemphasized)


def check_overflow(overflow: object) -> None:
    """Refuse a policy that does not exist.

    Raises:
        PromptError: It is neither "error" nor "keep-emphasis".
    """
    if overflow not in ("error", "keep-emphasis"):
        raise PromptError(
            f"overflow is {overflow!r}; it must be 'error', or 'keep-emphasis' to drop plain text "
            "from a prompt that is too long."
        )


def droppable(prompt: str | Sequence[Message], kept: Sequence[Range] = ()) -> list[Dropped]:
    """What may be left out of a prompt, piece by piece, in the order in which it goes.

    Args:
        prompt: A text or chat messages.
        kept: Further ranges of a text that stay.
    """
    if isinstance(prompt, str):
        return [piece for _, piece in sorted(_pieces(SpanStr(prompt), kept, None, _LAST))]
    pieces: list[tuple[int, Dropped]] = []
    for number, message in enumerate(prompt):
        rank = _SYSTEM if message["role"] in ("system", "developer") else _OLD
        rank = _LAST if number == len(prompt) - 1 else rank
        pieces += _pieces(SpanStr(message["content"]), (), number, rank)
    return [piece for _, piece in sorted(pieces, key=lambda ranked: ranked[0])]


def without(
    prompt: str | Sequence[Message], pieces: Iterable[Dropped]
) -> tuple[str | Sequence[Message], tuple[Dropped, ...]]:
    """Leave pieces out of a prompt.

    Returns:
        The shorter prompt, and what it lacks: ranges that do not touch, in order.
    """
    if isinstance(prompt, str):
        text, cuts = _cut(SpanStr(prompt), sorted(pieces))
        return text, tuple(Dropped(*cut) for cut in cuts)
    by_message: dict[int | None, list[Dropped]] = {}
    for piece in pieces:
        by_message.setdefault(piece.message, []).append(piece)
    messages = [dict(message) for message in prompt]
    dropped: list[Dropped] = []
    for number, message in enumerate(messages):
        if number in by_message:
            message["content"], cuts = _cut(SpanStr(message["content"]), sorted(by_message[number]))
            dropped += [Dropped(*cut, number) for cut in cuts]
    return messages, tuple(dropped)


def fewest(count: int, attempt: Callable[[int], T | None], all_dropped: T, guess: int) -> T:
    """Find the smallest number of pieces whose absence lets a prompt fit.

    Args:
        count: Number of pieces.
        attempt: Returns what became of the prompt without so many pieces, or None if too long.
        all_dropped: What became of it without all pieces; it fits.
        guess: Where to look first.
    """
    too_few, enough, best = 0, count, all_dropped
    position, step = guess, 1
    while enough - too_few > 1:
        position = min(max(position, too_few + 1), enough - 1)
        found = attempt(position)
        if found is None:
            too_few = position
        else:
            enough, best = position, found
        if too_few and enough < count:
            position = (too_few + enough) // 2
        else:  # not yet known from both sides: go on from the guess, faster and faster
            position = too_few + step if too_few else enough - step
            step *= 2
    return best


def guessed(pieces: Iterable[Dropped], characters: float) -> int:
    """How many pieces have so many characters."""
    sizes = list(accumulate(piece.end - piece.start for piece in pieces))
    return bisect_left(sizes, characters) + 1


_LESS, _OLD, _SYSTEM, _LAST = range(4)

# A line takes the blank lines after it along.
_LINE = re.compile(r"[^\n]*\n(?:[^\S\n]*\n)*|[^\n]+")
_WORD = re.compile(r"\S+")
_LONGEST_WORD = 32
"""Characters of text without spaces, as in Chinese or in minified JSON, that go at a time."""


def _pieces(
    text: SpanStr, kept: Iterable[Range], message: int | None, rank: int
) -> Iterator[tuple[int, Dropped]]:
    """The pieces of one text, in order, with their ranks; the lowest go first."""
    stays = Ranges([*kept, *emphasized(text).joined])
    less = Ranges((start, end) for start, end, span in text.runs() if span.deemphasized)
    plain = text.text
    last_line = len(plain.rstrip()) if rank == _LAST else len(plain) + 1
    for line in _LINE.finditer(plain):
        start, end = line.span()
        is_less = all(less.cover(*place) for place in _words(plain, start, end))
        line_rank = _LESS if is_less and not line[0].isspace() else rank
        if end < last_line and not stays.touch(start, end):
            yield line_rank, Dropped(start, end, message)
            continue
        for piece in _free_words(plain, start, end, stays):
            yield line_rank, Dropped(*piece, message)


def _free_words(text: str, start: int, end: int, stays: Ranges) -> Iterator[Range]:
    """The words of a line that may go, each with the white space after it.

    What lies between two parts of one word that stay, stays too.
    """
    for first, last in _words(text, start, end):
        cuts = [*range(first, last, _LONGEST_WORD), last]
        chunks = list(pairwise(cuts))
        bound = [number for number, chunk in enumerate(chunks) if stays.touch(*chunk)]
        for number, (begin, stop) in enumerate(chunks):
            if bound and bound[0] <= number <= bound[-1]:
                continue
            yield begin, stop if stop < last else _after_space(text, stop, end, stays)


def _after_space(text: str, position: int, end: int, stays: Ranges) -> int:
    while position < end and _is_space(text, position) and stays.free(position):
        position += 1
    return position


def _words(text: str, start: int, end: int) -> Iterator[Range]:
    return (word.span() for word in _WORD.finditer(text, start, end))


def _is_space(text: str, position: int) -> bool:
    return text[position].isspace() and text[position] != "\n"


def _cut(text: SpanStr, pieces: Sequence[Dropped]) -> tuple[SpanStr, list[Range]]:
    """A text without some ranges; no white space is left before them at the end of a line."""
    plain, stays = text.text, emphasized(text)
    cuts = Ranges((piece.start, piece.end) for piece in pieces).joined
    cuts = Ranges((_before_space(plain, *cut, stays), cut[1]) for cut in cuts).joined
    starts, removed = [start for start, _ in cuts], [0]
    for start, end in cuts:
        removed.append(removed[-1] + end - start)

    def moved(position: int) -> int:
        before = bisect_right(starts, position)
        inside = max(cuts[before - 1][1] - position, 0) if before else 0
        return position - removed[before] + inside

    bounds = [0, *(bound for cut in cuts for bound in cut), len(plain)]
    shorter = "".join(plain[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True))
    spans = [_placed(span, moved(span.start), moved(span.end), shorter) for span in text.spans]
    return SpanStr(shorter, filter(None, spans)), cuts


def _before_space(text: str, start: int, end: int, stays: Ranges) -> int:
    if end == len(text) or text[end] == "\n":
        while start and _is_space(text, start - 1) and stays.free(start - 1):
            start -= 1
    return start


def _placed(span: Span, start: int, end: int, text: str) -> Span | None:
    """A span at its new place, unless nothing that is seen is left of it."""
    if span.deemphasized and not text[start:end].strip():
        return None
    return span._replace(start=start, end=end)
