"""Calls of tools in the text that a model writes.

Which part of an answer is a call is told by transformers' response parser, from the response
template of a `ToolFormat`.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from transformers.utils.chat_parsing import ResponseParser

from .errors import PromptError
from .tool_formats import NAMES, THINKING, ToolFormat

_ID_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool, ready to be made.

    Attributes:
        name: The tool's.
        arguments: What it is called with.
        id: Nine letters and digits, which all chat templates take.
    """

    name: str
    arguments: dict[str, Any]
    id: str


@dataclass(frozen=True)
class InvalidToolCall:
    """What a model wrote where a call of a tool was to be.

    Attributes:
        text: All of it.
        error: What is wrong with it.
    """

    text: str
    error: str


@dataclass(frozen=True)
class OtherText:
    """Text that the tokenizer's response template keeps apart, such as a model's reasoning.

    Attributes:
        field: What the template calls it.
        text: The text, or a part of it.
    """

    field: str
    text: str


Piece: TypeAlias = str | ToolCall | InvalidToolCall | OtherText


class ToolReader:
    """Tells text from calls in one answer, as it comes.

    Args:
        form: How the model writes calls.
        tools: The tools that the model knows of.
        prompt: All that it read, for it may hold the beginning of the answer.
    """

    def __init__(
        self, form: ToolFormat, tools: Sequence[Mapping[str, Any]], prompt: str = ""
    ) -> None:
        self._parser = _parser(form, tools, prompt)
        self._end: re.Pattern[str] | None = None
        if form.must_end:
            close = form.template["fields"]["tool_calls"]["close_pattern"]
            self._end = re.compile(close + r"\s*\Z")
        self._text = ""
        self._region = ""
        self._failed = False

    def feed(self, text: str) -> Iterator[Piece]:
        """The pieces that end with some more text."""
        self._text += text
        # One at a time: where a tokenizer's own template fails, nothing else is lost.
        return _joined(
            piece
            for character in text
            for piece in self._pieces(partial(self._parser.feed, character), character)
        )

    def finish(self) -> Iterator[Piece]:
        """The pieces that end with the answer."""
        for piece in self._pieces(lambda: self._parser.finalize()[1]):
            breaks_off = self._end is not None and not self._end.search(self._text)
            if breaks_off and isinstance(piece, ToolCall):
                yield InvalidToolCall(self._region, "The call breaks off.")
            else:
                yield piece

    def _pieces(
        self, parse: Callable[[], Sequence[Mapping[str, Any]]], text: str = ""
    ) -> Iterator[Piece]:
        if self._failed:  # its parser goes on no more: what follows is text
            if text:
                yield text
            return
        try:
            events = parse()
        except (ValueError, KeyError) as error:
            self._failed = True
            yield InvalidToolCall(self._region, str(error))
            return
        for event in events:
            yield from self._piece(event)

    def _piece(self, event: Mapping[str, Any]) -> Iterator[Piece]:
        field, kind = event["field"], event["type"]
        if field == "tool_calls":
            if kind == "region_open":
                self._region = ""
            elif kind == "region_chunk":
                self._region += event["text"]
            else:
                yield from _calls(event["value"], self._region)
        elif field == THINKING and kind != "region_chunk":
            yield "<think>" if kind == "region_open" else "</think>"
        elif kind == "region_chunk":
            is_text = field in ("content", THINKING)
            yield event["text"] if is_text else OtherText(field, event["text"])


def _parser(form: ToolFormat, tools: Sequence[Mapping[str, Any]], prompt: str) -> ResponseParser:
    template: Any = form.template
    if not form.reads_prompt:
        prompt = ""
        names = "|".join(re.escape(str(tool["function"]["name"])) for tool in tools)
        calls = dict(template["fields"]["tool_calls"])
        calls["open_pattern"] = calls["open_pattern"].replace(NAMES, names or "(?!)")
        template = {**template, "fields": {**template["fields"], "tool_calls": calls}}
    try:
        return ResponseParser(template, prompt, tools=[*map(dict, tools)])
    except (ValueError, KeyError, TypeError) as error:
        raise PromptError(f"The tokenizer's response_template is malformed: {error}") from error


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Pieces of text that follow each other as one."""
    held: str | OtherText = ""
    for piece in pieces:
        match held, piece:
            case str(), str():
                held += piece
                continue
            case OtherText(field, text), OtherText(other, more) if field == other:
                held = OtherText(field, text + more)
                continue
        if held:
            yield held
        held = ""
        if isinstance(piece, str | OtherText):
            held = piece
        else:
            yield piece
    if held:
        yield held


def read_answer(reader: ToolReader, text: str) -> list[Piece]:
    """All pieces of a whole answer."""
    return [*reader.feed(text), *reader.finish()]


def _calls(value: Any, text: str) -> Iterator[ToolCall | InvalidToolCall]:
    """The calls in what a response template found."""
    try:
        for one in _decoded(value):
            for call in one if isinstance(one, list) else [one]:
                yield _call(call)
    except ValueError as error:
        yield InvalidToolCall(text, str(error))


def _decoded(value: Any) -> Iterator[Any]:
    """The values of JSON that may stand one after the other."""
    if not isinstance(value, str):
        yield value
        return
    decoder, position = json.JSONDecoder(strict=False), 0  # line breaks in texts are let pass
    while rest := value[position:].lstrip(" \t\n\r;,"):
        found, length = decoder.raw_decode(rest)
        position = len(value) - len(rest) + length
        yield found
    if not position:
        raise ValueError("The call is empty.")


def _call(call: Any) -> ToolCall:
    if not isinstance(call, Mapping):
        raise ValueError(f"{call!r} is no call of a tool.")
    call = call.get("function", call)
    name = call.get("name") if isinstance(call, Mapping) else None
    if not isinstance(name, str):
        raise ValueError("The call does not name a tool.")
    arguments = call.get("arguments", call.get("parameters"))
    if isinstance(arguments, str) and arguments.strip():
        arguments = json.loads(arguments, strict=False)
    arguments = arguments or {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"The arguments are {arguments!r}, which names none of them.")
    return ToolCall(name, dict(arguments), new_call_id())


def new_call_id() -> str:
    """An id for a call, of the only form that every chat template takes (Mistral's is strict)."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(9))
