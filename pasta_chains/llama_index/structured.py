"""Answers that are objects of a class: a steered model can write nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.program.streaming_utils import process_streaming_content_incremental
from llama_index.core.prompts.base import BasePromptTemplate
from llama_index_instrumentation import get_dispatcher
from pydantic import BaseModel

from pasta_chains.errors import PromptError
from pasta_chains.structured import Structure, closed

_events = get_dispatcher(__name__)


class StructuredPredictions(FunctionCallingLLM):
    """The part of a model that answers with objects.

    Where LlamaIndex has a program that asks the model for JSON, or for a call of a tool, decoding
    is constrained to the schema of the class, through `chat` for a chat model and `complete` for
    another.
    """

    def structured_predict(
        self,
        output_cls: Any,
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Answer a prompt with an object of a class; the model can write nothing else.

        Args:
            output_cls: A pydantic class.
            prompt: The template.
            llm_kwargs: Arguments of the call.
            **prompt_args: What the template is filled with.

        Raises:
            pydantic.ValidationError: The object is not whole when its tokens run out, or the class
                refuses it.
            MissingExtraError: The extra "structured" is not installed.
        """
        _tell_start(output_cls, prompt, prompt_args)
        written, asked = self._asked(output_cls, prompt, llm_kwargs, prompt_args)
        if isinstance(asked, list):
            text = self.chat(asked, **written).message.content
        else:
            text = self.complete(asked, formatted=True, **written).text
        return _made(output_cls, text)

    async def astructured_predict(
        self,
        output_cls: Any,
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """As `structured_predict`. Cancelling it stops the model."""
        _tell_start(output_cls, prompt, prompt_args)
        written, asked = self._asked(output_cls, prompt, llm_kwargs, prompt_args)
        if isinstance(asked, list):
            text = (await self.achat(asked, **written)).message.content
        else:
            text = (await self.acomplete(asked, formatted=True, **written)).text
        return _made(output_cls, text)

    def stream_structured_predict(
        self,
        output_cls: Any,
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """Answer with an object that grows: those before the last may lack fields.

        Raises:
            pydantic.ValidationError: As for `structured_predict`, after the last piece.
            MissingExtraError: The extra "structured" is not installed.
        """
        _tell_start(output_cls, prompt, prompt_args)
        written, asked = self._asked(output_cls, prompt, llm_kwargs, prompt_args)
        answers: Iterator[ChatResponse | CompletionResponse] = (
            self.stream_chat(asked, **written)
            if isinstance(asked, list)
            else self.stream_complete(asked, formatted=True, **written)
        )
        growing = _Growing(output_cls)
        for answer in answers:
            yield from growing.grown(answer)
        yield growing.whole()

    async def astream_structured_predict(
        self,
        output_cls: Any,
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """As `stream_structured_predict`. Closing it stops the model."""
        _tell_start(output_cls, prompt, prompt_args)
        written, asked = self._asked(output_cls, prompt, llm_kwargs, prompt_args)
        answers: AsyncIterator[ChatResponse | CompletionResponse] = (
            await self.astream_chat(asked, **written)
            if isinstance(asked, list)
            else await self.astream_complete(asked, formatted=True, **written)
        )

        async def objects() -> AsyncGenerator[Any, None]:
            growing = _Growing(output_cls)
            async for answer in answers:
                for grown in growing.grown(answer):
                    yield grown
            yield growing.whole()

        return objects()

    def _asked(
        self,
        output_cls: Any,
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None,
        prompt_args: dict[str, Any],
    ) -> tuple[dict[str, Any], str | list[ChatMessage]]:
        """The arguments of the call, and what the model is asked."""
        if not (isinstance(output_cls, type) and issubclass(output_cls, BaseModel)):
            raise PromptError(f"output_cls is {output_cls!r}; it must be a pydantic class.")
        structure = Structure.json(closed(output_cls.model_json_schema()))
        written = {**(llm_kwargs or {}), "structure": structure}
        if self.metadata.is_chat_model:
            return written, list(self._get_messages(prompt, **prompt_args))
        return written, self._get_prompt(prompt, **prompt_args)


class _Growing:
    """Makes objects of the text of an answer, as it comes."""

    def __init__(self, output_cls: Any) -> None:
        self._class = output_cls
        self._text = ""
        self._last: Any = None

    def grown(self, answer: ChatResponse | CompletionResponse) -> Iterator[Any]:
        """The object so far, where it says more than the last one."""
        self._text = _text_of(answer)
        so_far = ChatResponse(message=ChatMessage(self._text))
        found = process_streaming_content_incremental(so_far, self._class, self._last)
        if found != self._last:
            self._last = found
            _events.event(LLMStructuredPredictInProgressEvent(output=found))
            yield found

    def whole(self) -> Any:
        return _made(self._class, self._text)


def _text_of(answer: ChatResponse | CompletionResponse) -> str:
    if isinstance(answer, ChatResponse):
        return answer.message.content or ""
    return answer.text


def _tell_start(output_cls: Any, prompt: Any, prompt_args: dict[str, Any]) -> None:
    _events.event(
        LLMStructuredPredictStartEvent(
            output_cls=output_cls, template=prompt, template_args=prompt_args
        )
    )


def _made(output_cls: Any, text: str | None) -> Any:
    made = output_cls.model_validate_json(text or "")
    _events.event(LLMStructuredPredictEndEvent(output=made))
    return made
