"""How models call tools in the text that they write: reading such calls, and bringing them about.

Which part of an answer is a call is told by transformers' response parser, from the response
template of the tokenizer or, where it has none, from one for the format of the chat template.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_parsing import ResponseParser

from .errors import PromptError
from .structured import Structure

_ID_LETTERS = string.ascii_letters + string.digits
_TAG = re.compile("<.*>", re.DOTALL)  # llguidance takes these for special tokens, too
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


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


@dataclass(frozen=True)
class ToolFormat:
    """How a model writes calls of tools; `tool_format` finds a model's.

    Attributes:
        name: What the format is called.
        template: transformers' response template.
        call: What stands before the name, between name and arguments, and after them; None when
            calls of this format cannot be brought about.
        opening: What stands before the first call.
        joint: What stands between two calls.
        closing: What stands after the last call.
    """

    name: str
    template: Mapping[str, Any]
    call: tuple[str, str, str] | None = None
    opening: str = ""
    joint: str = ""
    closing: str = ""

    def structure(
        self,
        tools: Sequence[Mapping[str, Any]],
        tokenizer: PreTrainedTokenizerBase,
        *,
        several: bool = False,
    ) -> Structure:
        """The form of an answer that calls one of some tools, with arguments of its schema.

        Args:
            tools: Their schemas.
            tokenizer: The model's.
            several: Allow more than one call.

        Raises:
            PromptError: A schema says what cannot be enforced, or the format is not known well
                enough.
            MissingExtraError: The extra "structured" is not installed.
        """
        if self.call is None:
            raise PromptError(
                f"Answers in the format {self.name!r} can be read, but not brought about. Leave "
                "tool_choice out."
            )

        def literal(text: str) -> str:
            return _literal(text, tokenizer)

        before, between, after = self.call
        calls, rules = [], []
        for number, tool in enumerate(tools):
            function = tool["function"]
            name = json.dumps(function["name"])[1:-1]
            parts = [literal(before + name + between), f"arguments_{number}", literal(after)]
            calls.append(" ".join(part for part in parts if part))
            schema = function.get("parameters") or _NO_ARGUMENTS
            rules.append(f"arguments_{number}: {Structure.json_rule(schema)}")
        more = f"({literal(self.joint)} call)*" if several else ""
        start = f"start: {literal(self.opening)} call {more} {literal(self.closing)}"
        return Structure.lark("\n".join([start, "call: " + " | ".join(calls), *rules]))

    def reader(self, tools: Sequence[Mapping[str, Any]], prompt: str = "") -> ToolReader:
        """What tells text from calls in one answer.

        Args:
            tools: The tools that the model knows of.
            prompt: All that it read, for it may hold the beginning of the answer.
        """
        return ToolReader(ResponseParser(dict(self.template), prompt, tools=[*map(dict, tools)]))


class ToolReader:
    """Tells text from calls in one answer, as it comes."""

    def __init__(self, parser: ResponseParser) -> None:
        self._parser = parser
        self._region = ""
        self._failed = False

    def feed(self, text: str) -> Iterator[Piece]:
        """The pieces that end with some more text."""
        # One at a time: where a tokenizer's own template fails, nothing else is lost.
        return _joined(
            piece
            for character in text
            for piece in self._pieces(partial(self._parser.feed, character), character)
        )

    def finish(self) -> Iterator[Piece]:
        """The pieces that end with the answer."""
        return self._pieces(lambda: self._parser.finalize()[1])

    def _pieces(
        self, parse: Callable[[], Sequence[Mapping[str, Any]]], text: str = ""
    ) -> Iterator[Piece]:
        if self._failed:  # its parser goes on no more: what follows is text
            if text:
                yield text
            return
        try:
            events = parse()
        except ValueError as error:
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
        elif kind == "region_chunk":
            yield event["text"] if field == "content" else OtherText(field, event["text"])


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


def tool_format(tokenizer: PreTrainedTokenizerBase) -> ToolFormat:
    """How the model of a tokenizer writes calls of tools.

    Raises:
        PromptError: Its chat template shows no format that is known.
    """
    source = tokenizer.get_chat_template(tools=[{}]) if tokenizer.chat_template else ""
    found = next((known for mark, known in _FORMATS if all(one in source for one in mark)), None)
    own = getattr(tokenizer, "response_template", None)
    if own is not None:
        return replace(found, template=own) if found else ToolFormat("the tokenizer's own", own)
    if found is None:
        raise PromptError(
            "The model's chat template calls tools in no way that is known: that of Hermes and "
            "Qwen, of Llama 3 or of Mistral. Use another model, or set "
            "tokenizer.response_template as transformers describes it."
        )
    if found is _MISTRAL and "[TOOL_CALLS] [" not in source:
        return replace(found, opening="[TOOL_CALLS][")
    return found


def _template(tool_calls: Mapping[str, Any]) -> dict[str, Any]:
    # The prompt is left out for these formats, so what begins an answer matters to none.
    fields = {"tool_calls": {"repeats": True, "content": "text", **tool_calls}}
    return {"start_anchor": "\0", "fields": fields | {"content": {"content": "text"}}}


_HERMES = ToolFormat(
    "Hermes and Qwen",
    _template({"open_pattern": r"\s*<tool_call>", "close": "</tool_call>"}),
    ('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>"),
    joint="\n",
)
_QWEN_XML = ToolFormat(
    "Qwen with parameters in tags",
    _template(
        {
            "open_pattern": r"\s*<tool_call>\s*<function=(?P<name>[^>\n]+)>",
            "close_pattern": r"</function>\s*</tool_call>",
            "content": "xml-inline",
            "content_args": {
                "tag_pattern": r"<parameter=(?P<key>[^>\n]+)>\n?(?P<value>.*?)\n?</parameter>"
            },
            "transform": {"function": {"name": "{name}", "arguments": "{content}"}},
        }
    ),
)
_LLAMA = ToolFormat(
    "Llama 3",
    # The whole answer is a call: there it begins, and there is nothing that ends it.
    _template({"open_pattern": r"\s*<\|python_tag\|>|(?<![\s\S])\s*(?=\{)"}),
    ('{"name": "', '", "parameters": ', "}"),
    joint="; ",
)
_MISTRAL = ToolFormat(
    "Mistral",
    _template({"open_pattern": r"\s*\[TOOL_CALLS\]"}),
    ('{"name": "', '", "arguments": ', "}"),
    opening="[TOOL_CALLS] [",
    joint=", ",
    closing="]",
)
_MISTRAL_ARGS = ToolFormat(
    "Mistral with [ARGS]",
    _template(
        {
            "open_pattern": r"\s*\[TOOL_CALLS\](?P<name>[^\[\s]+)(?:\[CALL_ID\][^\[]*)?\[ARGS\]",
            "close_pattern": r"(?=\[TOOL_CALLS\])",
            "transform": {"function": {"name": "{name}", "arguments": "{content}"}},
        }
    ),
    ("[TOOL_CALLS]", "[ARGS]", ""),
)
_FORMATS: Sequence[tuple[tuple[str, ...], ToolFormat]] = (
    (("<tool_call>", "<function="), _QWEN_XML),
    (("<tool_call>",), _HERMES),
    (("[TOOL_CALLS]", "[ARGS]"), _MISTRAL_ARGS),
    (("[TOOL_CALLS]",), _MISTRAL),
    (("parameters", "<|start_header_id|>"), _LLAMA),
)
"""Formats, each after what its chat templates hold; the first that fits is taken."""


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
    decoder, position = json.JSONDecoder(), 0
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
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(arguments, Mapping):
        raise ValueError(f"The arguments are {arguments!r}, which names none of them.")
    return ToolCall(name, dict(arguments), new_call_id())


def new_call_id() -> str:
    """An id for a call, of the only form that every chat template takes (Mistral's is strict)."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(9))


def _literal(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A text in llguidance's grammar; special tokens can be written by their numbers only."""
    special = {
        token.content: number
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.content in text and (token.special or _TAG.fullmatch(token.content))
    }
    parts: list[str] = []
    while text:
        found = [(text.find(one), -len(one), one) for one in special if one in text]
        start, _, token = min(found, default=(len(text), 0, ""))
        if start:
            parts.append(json.dumps(text[:start]))
        if token:
            parts.append(f"<[{special[token]}]>")
        text = text[start + len(token) :]
    return " ".join(parts)
