"""Where the pieces of a text lie in it, when nothing but their order is known."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def alignments(text: str, pieces: Sequence[str]) -> list[list[int]] | None:
    """For each piece every place that it may have come from; None if there is no such way.

    Ways in which the pieces cover the text without overlap are preferred, then those in which they
    overlap but leave nothing out, then those that leave something out.

    Args:
        text: The text.
        pieces: Its pieces, in order; each begins and ends after the one before. White space
            between them may be missing.
    """
    exact = _in_a_row(text, pieces)
    if exact is not None:
        return [[start] for start in exact]
    return _places(text, pieces, gaps=False) or _places(text, pieces, gaps=True)


def _in_a_row(text: str, pieces: Sequence[str]) -> list[int] | None:
    """The places of pieces that make up the text, one after the other."""
    starts, position = [], 0
    for piece in pieces:
        body = piece.lstrip()
        begin = position
        while body and begin < len(text) and text[begin].isspace():
            begin += 1
        start = begin - (len(piece) - len(body)) if body else text.find(piece, position)
        if start < 0 or not text.startswith(piece, start):
            return None
        starts.append(start)
        position = max(start + len(piece), position)
    return None if text[position:].strip() else starts


def _places(text: str, pieces: Sequence[str], *, gaps: bool) -> list[list[int]] | None:
    """The places of each piece that lie on some way through all of them."""
    after = _next_visible(text)

    def reach(start: int, piece: str) -> int:
        """The last place at which what follows may begin."""
        return len(text) if gaps else after[start + len(piece)]

    ways: list[list[int]] = []
    for piece in pieces:
        starts = _occurrences(text, piece)
        if not ways:
            kept = [start for start in starts if gaps or start <= after[0]]
        else:
            before, previous = ways[-1], pieces[len(ways) - 1]
            longest = len(previous) - len(piece)
            kept = []
            for start in starts:
                # The nearest piece before that begins and ends earlier reaches furthest.
                last = bisect_left(before, min(start, start - longest)) - 1
                if last >= 0 and reach(before[last], previous) >= start:
                    kept.append(start)
        if not kept:
            return None
        ways.append(kept)
    if not gaps:
        ends = [start for start in ways[-1] if after[start + len(pieces[-1])] == len(text)]
        ways[-1] = ends
    for index in range(len(ways) - 2, -1, -1):
        piece, following = pieces[index], ways[index + 1]
        longer = len(piece) - len(pieces[index + 1])
        kept = []
        for start in ways[index]:
            first = bisect_right(following, max(start, start + longer))
            if first < len(following) and following[first] <= reach(start, piece):
                kept.append(start)
        ways[index] = kept
    return ways if all(ways) else None


def _occurrences(text: str, piece: str) -> list[int]:
    found, place = [], text.find(piece)
    while place >= 0:
        found.append(place)
        place = text.find(piece, place + 1)
    return found


def _next_visible(text: str) -> list[int]:
    """For each place the next one, itself included, that holds no white space."""
    after = [len(text)] * (len(text) + 1)
    for place in range(len(text) - 1, -1, -1):
        after[place] = after[place + 1] if text[place].isspace() else place
    return after
