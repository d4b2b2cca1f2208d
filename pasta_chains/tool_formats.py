"""How models write calls of tools: the formats that are known, and how to bring such calls about.

A format is told by the model's chat template. The response template of its tokenizer, where it has
one, is used instead of the format's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from .errors import PromptError
from .structured import Structure, closed

THINKING = "kept thinking"
"""The field of a response template whose text is no call, and stays text of the answer."""
NAMES = "\0names\0"
"""Stands in a pattern for the names of the tools."""

_SPACE = r"(?<!\s)\s*+"  # looks at white space once, however long it is
_TAG = re.compile("<.*>", re.DOTALL)  # llguidance takes these for special tokens, too


@dataclass(frozen=True)
class ToolFormat:
    """How a model writes calls of tools; `tool_format` finds a model's.

    Attributes:
        name: What the format is called.
        template: transformers' response template.
        call: What stands before the name, between name and arguments, and after them; None when
            calls of this format cannot be brought about.
        reads_prompt: Whether an answer may begin in the prompt.
        must_end: Whether a call whose end is missing is none, because its arguments do not tell
            whether they are whole.
        opening: What stands before the first call.
        joint: What stands between two calls; None when the model makes one at a time.
        closing: What stands after the last call.
    """

    name: str
    template: Mapping[str, Any]
    call: tuple[str, str, str] | None = None
    reads_prompt: bool = False
    must_end: bool = False
    opening: str = ""
    joint: str | None = ""
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

        if several and self.joint is None:
            raise PromptError(
                f"Models of the format {self.name!r} make one call at a time. Leave "
                "parallel_tool_calls out."
            )
        before, between, after = self.call
        calls, rules = [], []
        for number, tool in enumerate(tools):
            function = tool["function"]
            in_json = between.startswith('"')
            name = _as_json(function["name"]) if in_json else function["name"]
            parts = [literal(before + name + between), f"arguments_{number}", literal(after)]
            calls.append(" ".join(part for part in parts if part))
            schema = closed(function.get("parameters") or {"type": "object", "properties": {}})
            rules.append(f"arguments_{number}: {Structure.json_rule(schema)}")
        more = f"({literal(self.joint or '')} call)*" if several else ""
        start = f"start: {literal(self.opening)} call {more} {literal(self.closing)}"
        return Structure.lark("\n".join([start, "call: " + " | ".join(calls), *rules]))

    def special_tokens(self, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """The special tokens by which calls are known, which must stay in the text of an answer."""
        shown = json.dumps([self.template, self.call, self.opening], ensure_ascii=False)
        plain = shown.replace("\\", "")  # patterns escape what tokens are made of
        return [token for token in tokenizer.all_special_tokens if token in plain]


def tool_format(tokenizer: PreTrainedTokenizerBase) -> ToolFormat:
    """How the model of a tokenizer writes calls of tools.

    Raises:
        PromptError: Its chat template shows no format that is known.
    """
    found = find_tool_format(tokenizer)
    if found is None:
        raise PromptError(
            "The model's chat template calls tools in no way that is known: that of Hermes and "
            "Qwen, of Llama 3 or of Mistral. Use another model, or set "
            "tokenizer.response_template as transformers describes it."
        )
    return found


def find_tool_format(tokenizer: PreTrainedTokenizerBase) -> ToolFormat | None:
    """As `tool_format`; None for a model that calls no tools in any way that is known."""
    source = _source(tokenizer)
    found = next((known for marks, known in _FORMATS if _has(source, marks)), None)
    own = getattr(tokenizer, "response_template", None)
    if own is not None:
        known = found or ToolFormat("the tokenizer's own", own)
        return replace(known, template=own, reads_prompt=True, must_end=False)
    if found is _MISTRAL and "[TOOL_CALLS] [" not in source:
        return replace(found, opening="[TOOL_CALLS][")
    return found


def _source(tokenizer: PreTrainedTokenizerBase) -> str:
    if not tokenizer.chat_template:
        return ""
    try:
        return str(tokenizer.get_chat_template(tools=[{}]))
    except ValueError as error:  # several, and none is the default
        raise PromptError(str(error)) from error


def _has(source: str, marks: Sequence[str]) -> bool:
    return all((mark[1:] not in source) if mark[0] == "!" else (mark in source) for mark in marks)


def _template(tool_calls: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "start_anchor": "\0",  # transformers wants one; these formats do not read the prompt
        "fields": {
            THINKING: {"open": "<think>", "close": "</think>", "content": "text"},
            "tool_calls": {"repeats": True, "content": "text", **tool_calls},
            "content": {"content": "text"},
        },
    }


_HERMES = ToolFormat(
    "Hermes and Qwen",
    _template({"open_pattern": _SPACE + "<tool_call>", "close": "</tool_call>"}),
    ('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>"),
    joint="\n",
)
_QWEN_XML = ToolFormat(
    "Qwen with parameters in tags",
    _template(
        {
            "open_pattern": _SPACE + r"<tool_call>\s*<function=(?P<name>[^>\n]+)>",
            "close_pattern": r"</function>\s*</tool_call>",
            "content": "xml-inline",
            "content_args": {
                "tag_pattern": r"<parameter=(?P<key>[^>\n]+)>\n?(?P<value>.*?)\n?</parameter>"
            },
            "transform": {"function": {"name": "{name}", "arguments": "{content}"}},
        }
    ),
    must_end=True,
)
_LLAMA = ToolFormat(
    "Llama 3",
    # Where an answer is JSON that names a tool, all of it is a call; there is nothing that ends it.
    _template(
        {
            "open_pattern": _SPACE + r"<\|python_tag\|>|(?<![\s\S])\s*+"
            r'(?=\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*"(?:' + NAMES + r')")'
        }
    ),
    ('{"name": "', '", "parameters": ', "}"),
    joint=None,  # the chat template refuses messages with several
)
_MISTRAL = ToolFormat(
    "Mistral",
    _template({"open_pattern": _SPACE + r"\[TOOL_CALLS\]"}),
    ('{"name": "', '", "arguments": ', "}"),
    opening="[TOOL_CALLS] [",
    joint=", ",
    closing="]",
)
_MISTRAL_ARGS = ToolFormat(
    "Mistral with [ARGS]",
    _template(
        {
            "open_pattern": _SPACE
            + r"\[TOOL_CALLS\](?P<name>[^\[\s]+)(?:\[CALL_ID\][^\[]*)?\[ARGS\]",
            "close_pattern": r"(?=\[TOOL_CALLS\])",
            "transform": {"function": {"name": "{name}", "arguments": "{content}"}},
        }
    ),
    ("[TOOL_CALLS]", "[ARGS]", ""),
)
_FORMATS: Sequence[tuple[tuple[str, ...], ToolFormat]] = (
    (("<tool_call>", "<function="), _QWEN_XML),
    (("<tool_call>", "arguments", "!<arg_key>"), _HERMES),
    (("[TOOL_CALLS]", "[ARGS]"), _MISTRAL_ARGS),
    (("[TOOL_CALLS]",), _MISTRAL),
    (("parameters", "<|start_header_id|>"), _LLAMA),
)
"""Formats, each after what its chat templates hold, or with "!" do not; the first is taken."""


def _as_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


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
