"""What a chat model was asked, and the messages that its answers become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from ..chat import Message
from ..generation import Generation
from ..logprobs import TokenLogprob
from ..tool_calls import InvalidToolCall, Piece, ToolCall, ToolReader, read_answer
from ..tool_use import ToolUse
from .options import Call
from .tools import chunks, message


@dataclass(frozen=True)
class Question:
    """One call to a chat model.

    Attributes:
        call: What it asks for.
        prompt: The messages.
        tools: The tools that the model may call, if there are any.
    """

    call: Call
    prompt: Sequence[Message]
    tools: ToolUse | None = None

    def reader(self) -> ToolReader | None:
        """What tells text from calls of tools in one answer; None if there are no tools."""
        if self.tools is None:
            return None
        return self.tools.reader(self.prompt, self.call.model.tokenizer)

    def result(self, answers: Sequence[Generation]) -> ChatResult:
        """The answers as messages."""
        return ChatResult(
            generations=[ChatGeneration(message=self._message(answer)) for answer in answers]
        )

    def _message(self, answer: Generation) -> AIMessage:
        reader = self.reader()
        pieces: Sequence[Piece] = (
            [answer.text] if reader is None else read_answer(reader, answer.text)
        )
        return message(pieces, **self.told(answer, pieces))

    def told(self, answer: Generation, pieces: Iterable[Piece]) -> dict[str, Any]:
        """What a message tells of an answer besides its text and calls."""
        calls = any(isinstance(piece, ToolCall) for piece in pieces)
        metadata: dict[str, Any] = {
            "model_name": self.call.model.name,
            "model_provider": "pasta_chains",
            "finish_reason": "tool_calls" if calls else answer.finish_reason,
        }
        if answer.dropped:
            metadata["dropped_tokens"] = answer.dropped_tokens
        if answer.logprobs:
            metadata["logprobs"] = {"content": [*map(_logprob, answer.logprobs)]}
        usage = UsageMetadata(
            input_tokens=answer.prompt_tokens,
            output_tokens=answer.new_tokens,
            total_tokens=answer.prompt_tokens + answer.new_tokens,
        )
        return {"usage_metadata": usage, "response_metadata": metadata}


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    """As hosted models tell it."""
    top = [{"token": text, "logprob": value} for text, value in token.top]
    return {"token": token.token, "logprob": token.logprob, "top_logprobs": top}


class StreamedAnswer:
    """Makes chunks of a message from the text of an answer, as it comes."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._reader = question.reader()
        self._calls: list[ToolCall | InvalidToolCall] = []

    def feed(self, text: str) -> Iterator[ChatGenerationChunk]:
        """The chunks that some more text completes."""
        return self._chunks([text] if self._reader is None else self._reader.feed(text))

    def finish(self, answer: Generation) -> Iterator[ChatGenerationChunk]:
        """The last chunks of an answer."""
        yield from self._chunks(self._reader.finish() if self._reader else ())
        told = self._question.told(answer, self._calls)
        last = AIMessageChunk(content="", chunk_position="last", **told)
        yield ChatGenerationChunk(message=last)

    def _chunks(self, pieces: Iterable[Piece]) -> Iterator[ChatGenerationChunk]:
        for chunk in chunks(pieces, self._calls):
            yield ChatGenerationChunk(message=chunk)
