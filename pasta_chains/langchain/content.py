"""Emphasis inside LangChain's messages.

A message with emphasis has one text block, and its spans are that block's extras:
`{"type": "text", "text": …, "extras": {"emphasis": [[start, end, alpha, name, deemphasized], …]}}`.
LangChain keeps such blocks through templates, serialization, caches and checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue
from langchain_core.runnables import Runnable, RunnableLambda

from ..chat import Message
from ..errors import PromptError
from ..spans import SpanStr, concat

_ROLES = {
    HumanMessage: "user",
    AIMessage: "assistant",
    SystemMessage: "system",
    ToolMessage: "tool",
}
# What models say beside text and tell in other fields of the message, too.
_TOLD_ELSEWHERE = {"tool_call", "tool_call_chunk", "tool_use", "invalid_tool_call"}


def emphasized_content(text: str) -> str | list[str | dict[str, Any]]:
    """Text as the content of a message: one block with its emphasis, or a `str` without any."""
    if not (isinstance(text, SpanStr) and text.spans):
        return text.text if isinstance(text, SpanStr) else text
    marks = [list(span) for span in text.spans]
    return [{"type": "text", "text": text.text, "extras": {"emphasis": marks}}]


def message_text(message: BaseMessage) -> SpanStr:
    """The text of a message with its emphasis.

    Raises:
        PromptError: The message has a block that is not text.
        EmphasisError: A span of a block reaches beyond its text, or is malformed.
    """
    content = message.content
    blocks = [content] if isinstance(content, str) else content
    return concat(_block_text(block, message) for block in blocks)


def has_emphasis(message: BaseMessage) -> bool:
    """Whether a block of a message has emphasis."""
    blocks = [block for block in message.content if isinstance(block, dict)]
    return any((block.get("extras") or {}).get("emphasis") for block in blocks)


def chat_messages(messages: Sequence[BaseMessage]) -> list[Message]:
    """Messages as chat templates want them, with their emphasis.

    Raises:
        PromptError: A message has content other than text, or a role that nobody knows; or there
            is none.
    """
    if not messages:
        raise PromptError("There is no message to answer.")
    return [_chat_message(message) for message in messages]


def _chat_message(message: BaseMessage) -> Message:
    role = next((role for kind, role in _ROLES.items() if isinstance(message, kind)), None)
    if isinstance(message, ChatMessage):
        role = message.role
    if role is None:
        raise PromptError(f"A {type(message).__name__} has no role in a chat with a model.")
    written: dict[str, Any] = {"role": role, "content": message_text(message)}
    if isinstance(message, ToolMessage):
        written["tool_call_id"] = message.tool_call_id
    if message.name:
        written["name"] = message.name
    if isinstance(message, AIMessage):
        # What was to be a call is in no other field, and the model is to see what it wrote.
        broken = [_unquoted(call["args"]) for call in message.invalid_tool_calls if call["args"]]
        written["content"] = SpanStr("\n").join(filter(None, [written["content"], *broken]))
    if isinstance(message, AIMessage) and message.tool_calls:
        written["tool_calls"] = [
            {
                "type": "function",
                "id": call["id"],
                "function": {"name": call["name"], "arguments": call["args"]},
            }
            for call in message.tool_calls
        ]
    return written


def _unquoted(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:  # from a model that tells it otherwise
        return text
    return found if isinstance(found, str) else text


def _block_text(block: str | dict[str, Any], message: BaseMessage) -> SpanStr:
    if isinstance(block, str):
        return SpanStr(block)
    kind = block.get("type")
    if kind in _TOLD_ELSEWHERE:
        return SpanStr()
    if kind != "text" or not isinstance(block.get("text"), str):
        shown = json.dumps(block, default=str)[:80]
        raise PromptError(
            f"A {message.type} message has a block of type {kind!r}, but the model reads text "
            f"only: {shown}. Leave it out, or describe it in words."
        )
    marks = (block.get("extras") or {}).get("emphasis") or ()
    return SpanStr(block["text"], [tuple(mark) for mark in marks])


def _without_emphasis(given: Any) -> Any:
    if isinstance(given, SpanStr):
        return given.text
    if isinstance(given, str | StringPromptValue):
        return given
    if isinstance(given, ChatPromptValue):
        return ChatPromptValue(messages=[_plain_message(one) for one in given.messages])
    if isinstance(given, PromptValue):
        return StringPromptValue(text=str.__str__(_without_emphasis(given.to_string())))
    if isinstance(given, BaseMessage):
        return _plain_message(given)
    if isinstance(given, list | tuple):
        return [_plain_message(one) for one in convert_to_messages(list(given))]
    raise PromptError(f"There is no emphasis to strip from {type(given).__name__}: {given!r}.")


def _plain_message(message: BaseMessage) -> BaseMessage:
    if isinstance(message.content, str) or not has_emphasis(message):
        return message
    blocks = [_plain_block(block) for block in message.content]
    match blocks:
        case [{"type": "text", "text": text, **rest}] if not rest:
            return message.model_copy(update={"content": text})
    return message.model_copy(update={"content": blocks})


def _plain_block(block: str | dict[str, Any]) -> str | dict[str, Any]:
    if not isinstance(block, dict) or "emphasis" not in (block.get("extras") or {}):
        return block
    extras = {name: value for name, value in block["extras"].items() if name != "emphasis"}
    rest = {name: value for name, value in block.items() if name != "extras"}
    return rest | ({"extras": extras} if extras else {})


strip_emphasis: Runnable[Any, Any] = RunnableLambda(_without_emphasis, name="strip_emphasis")
"""Takes the emphasis off a prompt or messages, for models that know nothing of it.

    chain = prompt | chat.with_fallbacks([strip_emphasis | other_chat])
"""
