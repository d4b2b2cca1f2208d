"""Filters for the oracle of the template machine: those of Jinja, on text with marks in it.

A mark begins with a private-use character and ends with another. These filters do to a list of
characters, each with its mark, what Jinja's do to text; they share nothing with the package.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby
from typing import Any, TypeAlias
from urllib.parse import quote

from jinja2.filters import do_title
from markupsafe import Markup

FIRST, KINDS, END = 0xE000, 5, "\uf8ff"
"""Where a mark of some kind begins, one character for each kind, and where any ends."""

EMPTY, DROPPED = "\ue0f0", "\ue0f1"
"""What is remembered about a text: it holds an empty mark, or some filter dropped marks."""

Characters: TypeAlias = list[tuple[str, int | None]]


def begin(kind: int) -> str:
    return chr(FIRST + kind)


def parse(text: str) -> tuple[Characters, str]:
    """The characters of a text, each with the kind of its innermost mark, and what to remember."""
    characters: Characters = []
    stack: list[tuple[int, int]] = []
    remembered = ""
    for character in text:
        if character == END:
            remembered += EMPTY if stack.pop()[1] == len(characters) else ""
        elif 0 <= ord(character) - FIRST < KINDS:
            stack.append((ord(character) - FIRST, len(characters)))
        elif character in (EMPTY, DROPPED):
            remembered += character
        else:
            characters.append((character, stack[-1][0] if stack else None))
    assert not stack
    return characters, remembered


def unparse(characters: Characters, remembered: str) -> str:
    for kind, run in groupby(characters, key=lambda character: character[1]):
        text = "".join(character for character, _ in run)
        remembered += text if kind is None else f"{begin(kind)}{text}{END}"
    return remembered


def plain(characters: Characters) -> str:
    return "".join(character for character, _ in characters)


def unmarked(text: str) -> Characters:
    return [(character, None) for character in text]


def trim(characters: Characters) -> Characters:
    seen = [at for at, (character, _) in enumerate(characters) if not character.isspace()]
    return characters[seen[0] : seen[-1] + 1] if seen else []


def one_to_one(change: Callable[[str], str]) -> Callable[[Characters], Characters]:
    def changed(characters: Characters) -> Characters:
        text = change(plain(characters))
        return [(new, kind) for new, (_, kind) in zip(text, characters, strict=True)]

    return changed


def one_by_one(change: Callable[[str], str]) -> Callable[[Characters], Characters]:
    return lambda characters: [
        (new, kind) for character, kind in characters for new in change(character)
    ]


def tojson(characters: Characters) -> Characters:
    def written(character: str) -> str:
        text = json.dumps(character)[1:-1]
        return text if text not in "<>&'" else f"\\u{ord(text):04x}"

    return [('"', None), *one_by_one(written)(characters), ('"', None)]


def center(characters: Characters, width: int) -> Characters:
    if not characters:
        return unmarked(" " * width)
    stand_in = "x" * len(characters)
    left, _, right = stand_in.center(width).partition(stand_in)
    return [*unmarked(left), *characters, *unmarked(right)]


def indent(characters: Characters, width: int) -> Characters:
    """What is inserted is marked as the line break before it."""
    indented: Characters = []
    for at, (character, kind) in enumerate(characters):
        indented.append((character, kind))
        following = characters[at + 1][0] if at + 1 < len(characters) else "\n"
        if character == "\n" and following != "\n":
            indented += [(" ", kind)] * width
    return indented


def truncate(characters: Characters, length: int, kill: bool, end: str, _: int) -> Characters:
    if len(characters) <= length:
        return characters
    kept = characters[: length - len(end)]
    if not kill:
        kept = kept[: plain(kept).rfind(" ")] if " " in plain(kept) else kept
    return [*kept, *unmarked(end)]


def striptags(text: str) -> str:
    characters, remembered = parse(text)
    return Markup(plain(characters)).striptags() + dropped(text, remembered)


def dropped(text: str, remembered: str = "") -> str:
    lost = any(kind is not None for _, kind in parse(text)[0])
    return remembered + (DROPPED if lost else "")


def drop(text: str) -> str:
    """Takes the marks from a text, and remembers it."""
    characters, remembered = parse(text)
    return type(text)(plain(characters) + dropped(text, remembered))


def on_text(change: Callable[..., Characters]) -> Callable[..., str]:
    def filtered(text: str, *arguments: Any) -> str:
        characters, remembered = parse(text)
        return unparse(change(characters, *arguments), remembered)

    return filtered


MARKED_FILTERS: dict[str, Callable[..., str]] = {
    name: on_text(change)
    for name, change in {
        "capitalize": one_to_one(str.capitalize),
        "center": center,
        "indent": indent,
        "reverse": lambda characters: characters[::-1],
        "title": one_to_one(do_title),
        "tojson": tojson,
        "trim": trim,
        "truncate": truncate,
        "urlencode": one_by_one(lambda character: quote(character, safe="/")),
    }.items()
} | {"striptags": striptags, "drop": drop}
