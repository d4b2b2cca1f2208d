"""Tools that a chat model may call: what a call is asked with, and the messages that come of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.utils.function_calling import convert_to_openai_tool

from ..emphasis_model import EmphasisModel
from ..errors import PromptError
from ..tool_calls import InvalidToolCall, OtherText, Piece, ToolCall, new_call_id
from ..tool_use import ToolUse, forced_tools


def binding(
    tools: Sequence[Any],
    tool_choice: Any,
    *,
    strict: bool | None,
    parallel_tool_calls: bool | None,
) -> dict[str, Any]:
    """The arguments of a call that knows of tools.

    Args:
        tools: Functions, LangChain tools, pydantic or TypedDict classes, or schemas.
        tool_choice: As for `ChatPasta.bind_tools`.
        strict: Whether a call must keep to its schema.
        parallel_tool_calls: Whether an answer that must call may do so more than once.

    Raises:
        PromptError: There is no such tool, or the arguments contradict each other.
    """
    schemas = schemas_of(tools)
    forced = forced_tools(schemas, tool_choice)
    if not forced and strict:
        raise PromptError(
            "strict makes sure of calls that are sure to come: set tool_choice to 'any' or to the "
            "name of a tool, too."
        )
    given = {"tools": schemas, "tool_choice": tool_choice}
    if parallel_tool_calls is not None:
        given["parallel_tool_calls"] = parallel_tool_calls
    return {name: value for name, value in given.items() if value is not None}


def schemas_of(tools: Sequence[Any] | None) -> list[dict[str, Any]]:
    """The schemas of tools.

    Raises:
        PromptError: One of them is no function that can be called.
    """
    schemas = []
    for tool in tools or ():
        try:
            schema = convert_to_openai_tool(tool)
        except (ValueError, TypeError) as error:
            raise PromptError(f"{tool!r} is no tool: {error}") from error
        if not isinstance(schema.get("function"), Mapping):
            raise PromptError(f"The tool {schema!r} is a hosted model's own; this model has none.")
        schemas.append(schema)
    return schemas


def tool_use(model: EmphasisModel, given: Mapping[str, Any]) -> ToolUse | None:
    """The tools among the arguments of a call; None if it shows the model none.

    Raises:
        PromptError: As `ToolUse.of` says.
    """
    return ToolUse.of(model.tokenizer, schemas_of(given.get("tools")), given)


def message(pieces: Iterable[Piece], **told: Any) -> AIMessage:
    """The message of a whole answer.

    Args:
        pieces: All of the answer.
        **told: Further fields of the message.
    """
    content, calls, invalid = "", [], []
    others: dict[str, str] = {}
    for piece in pieces:
        match piece:
            case ToolCall(name, arguments, number):
                calls.append(tool_call(name=name, args=arguments, id=number))
            case InvalidToolCall(text, error):
                invalid.append(
                    invalid_tool_call(name=None, args=_as_json(text), id=new_call_id(), error=error)
                )
            case OtherText(field, text):
                others[field] = others.get(field, "") + text
            case text:
                content += text
    return AIMessage(
        content, tool_calls=calls, invalid_tool_calls=invalid, additional_kwargs=others, **told
    )


def chunks(pieces: Iterable[Piece], started: list[ToolCall | InvalidToolCall]) -> Iterator[Any]:
    """The pieces of an answer as chunks of a message; a call is one chunk.

    Args:
        pieces: Some pieces.
        started: The calls before them, to which theirs are added.
    """
    for piece in pieces:
        match piece:
            case str():
                yield AIMessageChunk(content=piece)
            case OtherText(field, text):
                yield AIMessageChunk(content="", additional_kwargs={field: text})
            case ToolCall() | InvalidToolCall():
                yield AIMessageChunk(content="", tool_call_chunks=[_chunk(piece, len(started))])
                started.append(piece)


def _as_json(text: str) -> str:
    """What is no call as a JSON text: in a stream LangChain would mend what breaks off."""
    return json.dumps(text, ensure_ascii=False)


def _chunk(call: ToolCall | InvalidToolCall, index: int) -> Any:
    if isinstance(call, InvalidToolCall):
        return tool_call_chunk(name=None, args=_as_json(call.text), id=new_call_id(), index=index)
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return tool_call_chunk(name=call.name, args=arguments, id=call.id, index=index)
