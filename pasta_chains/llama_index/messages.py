"""Chat messages that carry emphasis, in LlamaIndex's form and in that of chat templates."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    ContentBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from pydantic import Field

from pasta_chains.chat import Message
from pasta_chains.errors import EmphasisError, PromptError
from pasta_chains.spans import SpanStr

from .recorded import digest

_KEY = "emphasis"
_UNREAD = (CachePoint, ThinkingBlock, ToolCallBlock)  # or told elsewhere


class EmphasisTextBlock(TextBlock):
    """The whole text of a chat message, with its emphasis.

    LlamaIndex stores a block without its spans. `emphasized_message` makes messages whose emphasis
    is stored, too.

    Attributes:
        spans: Emphasized ranges, each `{"start", "end", "alpha", "name", "deemphasized"}`.
    """

    spans: list[dict[str, Any]] = Field(default_factory=list)

    @classmethod
    def from_text(cls, text: SpanStr) -> EmphasisTextBlock:
        """Wrap a text with its emphasis."""
        return cls(**text.to_dict())

    def __setattr__(self, name: str, value: Any) -> None:
        # LlamaIndex's output parsers write a message's new text over the old one.
        if name == "text" and self.spans and not value.startswith(self.text):
            raise EmphasisError(
                "The text of an EmphasisTextBlock can only be added to, because its emphasis lies "
                "at fixed characters. Make a new block with EmphasisTextBlock.from_text(…)."
            )
        super().__setattr__(name, value)

    def to_text(self) -> SpanStr:
        """The text with its emphasis."""
        return SpanStr.from_dict({"text": self.text, "spans": self.spans})


def emphasized_message(
    text: str, role: MessageRole | str = MessageRole.USER, **additional_kwargs: Any
) -> ChatMessage:
    """A chat message that keeps the emphasis of its text, in chat memories and stores, too.

        llm.chat([emphasized_message(render("…"), "system"), ChatMessage("Who leads the club?")])

    LlamaIndex's own `ChatMessage("…")` keeps the characters alone. Stores keep the emphasis because
    it is in `additional_kwargs`, too, which some hosted models refuse.

    Args:
        text: The text, with or without emphasis.
        role: Who says it.
        **additional_kwargs: Those of the message.
    """
    marked = SpanStr(text)
    recorded = {_KEY: _record(marked)} if marked.spans else {}
    return ChatMessage(
        role=MessageRole(role),
        blocks=[text_block(marked)],
        additional_kwargs={**additional_kwargs, **recorded},
    )


def text_block(text: str) -> TextBlock:
    """A block of a text, with its emphasis if it has some."""
    marked = SpanStr(text)
    return EmphasisTextBlock.from_text(marked) if marked.spans else TextBlock(text=marked.text)


def block_text(block: TextBlock) -> SpanStr:
    """The text of a block, with its emphasis."""
    return block.to_text() if isinstance(block, EmphasisTextBlock) else SpanStr(block.text)


def with_blocks(message: ChatMessage, blocks: Sequence[ContentBlock]) -> ChatMessage:
    """A message with other blocks; where its emphasis was recorded, that of the first one is."""
    told = dict(message.additional_kwargs)
    marked = [block for block in blocks if isinstance(block, EmphasisTextBlock)]
    if told.pop(_KEY, None) is not None and marked:
        told[_KEY] = _record(marked[0].to_text())
    return message.model_copy(update={"blocks": [*blocks], "additional_kwargs": told})


def with_emphasis(message: ChatMessage) -> ChatMessage:
    """A message that was stored, with its emphasis in its block again.

    Raises:
        EmphasisError: Its text was changed, so that nobody knows where its emphasis is.
    """
    if _KEY not in message.additional_kwargs or _is_marked(message):
        return message
    recorded, blocks = message.additional_kwargs[_KEY], list(message.blocks)
    of = recorded.get("of") if isinstance(recorded, Mapping) else None
    for number, block in enumerate(blocks):  # memories may put blocks of their own beside it
        if isinstance(block, TextBlock) and digest(block.text) == of:
            spans = {"text": block.text, "spans": recorded.get("spans")}
            blocks[number] = text_block(SpanStr.from_dict(spans))
            return message.model_copy(update={"blocks": blocks})
    raise EmphasisError(
        "The text of a message was changed after its emphasis was recorded in "
        f"additional_kwargs[{_KEY!r}]. Make a new message with emphasized_message(…)."
    )


def _is_marked(message: ChatMessage) -> bool:
    return any(isinstance(block, EmphasisTextBlock) for block in message.blocks)


def message_text(message: ChatMessage) -> SpanStr:
    """All text of a message, with its emphasis.

    Raises:
        PromptError: It has blocks of something else.
        EmphasisError: Its text was changed, so that nobody knows where its emphasis is.
    """
    blocks = [block for block in message.blocks if not isinstance(block, _UNREAD)]
    for block in blocks:
        if not isinstance(block, TextBlock):
            raise PromptError(
                f"A {message.role.value} message has a block of type {block.block_type!r}, but the "
                "model reads text only. Leave it out, or describe it in words."
            )
    marked = with_emphasis(message).blocks
    return SpanStr("\n").join(block_text(block) for block in marked if isinstance(block, TextBlock))


def messages_prompt(messages: Sequence[ChatMessage]) -> SpanStr:
    """Messages as LlamaIndex writes them for models without chat, with their emphasis."""
    lines = []
    for message in messages:
        told = {name: value for name, value in message.additional_kwargs.items() if name != _KEY}
        line = f"{message.role.value}: " + message_text(message)
        lines.append(line + f"\n{told}" if told else line)
    return SpanStr("\n").join([*lines, f"{MessageRole.ASSISTANT.value}: "])


def chat_messages(messages: Sequence[ChatMessage]) -> list[Message]:
    """Messages as chat templates want them, with their emphasis.

    Raises:
        PromptError: A message has content other than text; or there is none.
        EmphasisError: The text of one was changed after its emphasis was recorded.
    """
    if not messages:
        raise PromptError("There is no message to answer.")
    return [_chat_message(message) for message in messages]


def _chat_message(message: ChatMessage) -> Message:
    written: dict[str, Any] = {"role": message.role.value, "content": message_text(message)}
    for name in ("tool_call_id", "name"):
        if name in message.additional_kwargs:
            written[name] = message.additional_kwargs[name]
    if calls := list(_calls(message)):
        written["tool_calls"] = calls
    return written


def _calls(message: ChatMessage) -> Iterator[dict[str, Any]]:
    for block in message.blocks:
        if isinstance(block, ToolCallBlock):
            function = {"name": block.tool_name, "arguments": arguments_of(block)}
            yield {"type": "function", "id": block.tool_call_id, "function": function}


def arguments_of(call: ToolCallBlock) -> dict[str, Any]:
    """What a tool is called with.

    Raises:
        PromptError: It is no JSON object.
    """
    given: Any = call.tool_kwargs
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except ValueError:
            given = None
    if not isinstance(given, dict):
        raise PromptError(
            f"The call of {call.tool_name!r} has the arguments {call.tool_kwargs!r}; they must be "
            "a JSON object."
        )
    return given


def _record(text: SpanStr) -> dict[str, Any]:
    return {"of": digest(text.text), "spans": text.to_dict()["spans"]}
