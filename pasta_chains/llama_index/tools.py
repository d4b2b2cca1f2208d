"""Tools that a model may call: how they are shown, and what is read from an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ContentBlock,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import BaseTool, FunctionTool
from transformers import PreTrainedTokenizerBase

from pasta_chains.errors import PromptError
from pasta_chains.tool_calls import InvalidToolCall, OtherText, Piece, ToolCall
from pasta_chains.tool_formats import tool_format

from .messages import arguments_of, emphasized_message

ONE_CALL = "one_tool_call"
"""Argument of a call whose answer may make one call only: what follows it is left out."""
INVALID = "invalid_tool_calls"
"""Where a message tells of calls that could not be read."""


def asked_messages(
    message: str | ChatMessage | None, history: Sequence[ChatMessage] | None
) -> list[ChatMessage]:
    """The messages of a chat and a last one of the user's."""
    messages = list(history or ())
    if message is not None:
        messages.append(emphasized_message(message) if isinstance(message, str) else message)
    return messages


def tool_arguments(
    tools: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    tool_choice: Any,
    parallel: bool,
) -> dict[str, Any]:
    """The arguments of a call that shows tools to a model.

    Args:
        tools: LlamaIndex tools, or functions.
        tokenizer: The model's.
        tool_choice: "auto", "none", "any", "required", or the name of a tool.
        parallel: Whether an answer that must call a tool may do so more than once, where the
            model's chat template knows of more than one.

    Raises:
        PromptError: The chat template shows no tools.
    """
    schemas = schemas_of(tools)
    asked: dict[str, Any] = {"tools": schemas, "tool_choice": tool_choice}
    if not parallel:
        asked[ONE_CALL] = True
    forced = tool_choice not in (None, "auto", "none", False)
    if schemas and forced and parallel and tool_format(tokenizer).joint is not None:
        asked["parallel_tool_calls"] = True
    return {name: value for name, value in asked.items() if value is not None}


def schemas_of(tools: Sequence[Any] | None) -> list[dict[str, Any]]:
    """The schemas of tools; those of functions are made of their signatures.

    Raises:
        PromptError: One of them is no tool.
    """
    return [_schema(tool) for tool in tools or ()]


def _schema(tool: Any) -> dict[str, Any]:
    if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping):
        return dict(tool)
    if isinstance(tool, BaseTool):
        return tool.metadata.to_openai_tool(skip_length_check=True)
    if callable(tool):
        return _schema(FunctionTool.from_defaults(tool))
    raise PromptError(f"{tool!r} is no tool: it must be a LlamaIndex tool or a function.")


def answer_message(pieces: Iterable[Piece]) -> ChatMessage:
    """The message of an answer, or of its beginning.

    A call that cannot be read stays in the text, and is told of in `additional_kwargs`.
    """
    text, calls = "", list[ContentBlock]()
    invalid: list[dict[str, str]] = []
    others: dict[str, str] = {}
    for piece in pieces:
        match piece:
            case ToolCall(name, arguments, number):
                calls.append(
                    ToolCallBlock(tool_call_id=number, tool_name=name, tool_kwargs=arguments)
                )
            case InvalidToolCall(written, error):
                text += written
                invalid.append({"text": written, "error": error})
            case OtherText(field, written):
                others[field] = others.get(field, "") + written
            case written:
                text += written
    return ChatMessage(
        role=MessageRole.ASSISTANT,
        blocks=[*([TextBlock(text=text)] if text or not calls else []), *calls],
        additional_kwargs={**others, **({INVALID: invalid} if invalid else {})},
    )


def selections(message: ChatMessage, *, required: bool) -> list[ToolSelection]:
    """The calls in an answer.

    Args:
        message: The answer.
        required: Whether one without a call is an error.

    Raises:
        PromptError: There is none.
    """
    calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if required and not calls:
        broken = message.additional_kwargs.get(INVALID)
        why = f": {broken[0]['error']} {broken[0]['text']!r}" if broken else "."
        raise PromptError(
            f"The model called no tool{why} Pass tool_required=True to be sure of it."
        )
    return [
        ToolSelection(
            tool_id=call.tool_call_id or "",
            tool_name=call.tool_name,
            tool_kwargs=arguments_of(call),
        )
        for call in calls
    ]
