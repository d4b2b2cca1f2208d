"""What a model was asked, and the responses that its answers become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from transformers import PreTrainedTokenizerBase

from pasta_chains.chat import Message
from pasta_chains.generation import Generation
from pasta_chains.tool_calls import Piece, ToolCall, ToolReader
from pasta_chains.tool_use import ToolUse, without_tools

from .messages import chat_messages
from .tools import ONE_CALL, answer_message, schemas_of


@dataclass(frozen=True)
class Question:
    """A chat that a model is to go on with.

    Attributes:
        prompt: The messages.
        options: Arguments of `SteeredModel.run`.
        tools: The tools that the model may call, if there are any.
        tokenizer: The model's.
        one_call: Whether calls after the first are left out.
    """

    prompt: Sequence[Message]
    options: Mapping[str, Any]
    tools: ToolUse | None
    tokenizer: PreTrainedTokenizerBase
    one_call: bool = False

    @classmethod
    def of(
        cls,
        messages: Sequence[ChatMessage],
        options: Mapping[str, Any],
        tokenizer: PreTrainedTokenizerBase,
    ) -> Self:
        """Read what is asked.

        Args:
            messages: LlamaIndex's.
            options: Arguments of the call, among them those of its tools.
            tokenizer: The model's.

        Raises:
            PromptError: A message cannot be read, or the tools cannot be shown.
        """
        tools = ToolUse.of(tokenizer, schemas_of(options.get("tools")), options)
        given = {**without_tools(options), **(tools.arguments if tools else {})}
        one_call = bool(given.pop(ONE_CALL, False))
        return cls(chat_messages(messages), given, tools, tokenizer, one_call)

    def response(self, answer: Generation) -> ChatResponse:
        """The response of a whole answer."""
        growing = GrowingAnswer(self)
        *_, last = [*growing.feed(answer.text), *growing.finish(answer)]
        return last.model_copy(update={"delta": None})

    def reader(self) -> ToolReader | None:
        """What tells text from calls in one answer; None if there are no tools."""
        return self.tools.reader(self.prompt, self.tokenizer) if self.tools else None


class GrowingAnswer:
    """Makes responses from the text of an answer, as it comes; each has all that is before it."""

    def __init__(self, question: Question) -> None:
        self._reader = question.reader()
        self._one_call = question.one_call
        self._pieces: list[Piece] = []

    def feed(self, text: str) -> Iterator[ChatResponse]:
        """The response that some more text makes."""
        new = [text] if self._reader is None else self._wanted(self._reader.feed(text))
        if new:
            yield self._response(new)

    def finish(self, answer: Generation) -> Iterator[ChatResponse]:
        """The last response of an answer, which tells how long it was."""
        last = self._response(self._wanted(self._reader.finish()) if self._reader else [])
        yield last.model_copy(update={"additional_kwargs": usage(answer)})

    def _wanted(self, pieces: Iterable[Piece]) -> list[Piece]:
        """Pieces without calls after the first, where one call is all that is wanted."""
        called = any(isinstance(piece, ToolCall) for piece in self._pieces)
        wanted: list[Piece] = []
        for piece in pieces:
            is_call = isinstance(piece, ToolCall)
            if not (self._one_call and is_call and called):
                wanted.append(piece)
            called = called or is_call
        return wanted

    def _response(self, new: Sequence[Piece]) -> ChatResponse:
        self._pieces += new
        delta = answer_message(new).content or ""
        return ChatResponse(message=answer_message(self._pieces), delta=delta)


class GrowingCompletion:
    """Makes responses from the text of a completion, as it comes."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, text: str) -> Iterator[CompletionResponse]:
        """The response that some more text makes."""
        self._text += text
        yield CompletionResponse(text=self._text, delta=text)

    def finish(self, answer: Generation) -> Iterator[CompletionResponse]:
        """The last response, which tells how long the completion was."""
        yield CompletionResponse(text=self._text, delta="", additional_kwargs=usage(answer))


def usage(answer: Generation) -> dict[str, Any]:
    """How many tokens were read and written, and how the answer ended."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.new_tokens,
        "finish_reason": answer.finish_reason,
    }
