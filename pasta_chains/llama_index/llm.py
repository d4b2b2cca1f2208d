"""A steered model as LlamaIndex's `LLM`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    TextBlock,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.prompts.base import BasePromptTemplate
from pydantic import Field, PrivateAttr

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import EmphasisError, PromptError
from pasta_chains.generation import Generation
from pasta_chains.prompts import Prompt
from pasta_chains.spans import SpanStr, carries_emphasis, span_count
from pasta_chains.structured import Structure, closed

from .prompts import EmphasisTextBlock, with_instructions


class PastaLLM(CustomLLM):
    """A local model that reads emphasis.

    Args:
        model: The loaded model; several instances may share one.
        max_new_tokens: Longest answer; None for the model's default.
        alpha: Instead of the profile's; None keeps it.
        use_chat_template: Send prompts as chat messages. By default the model continues a prompt
            as it stands.
        generation_arguments: For transformers' `generate`.
        **kwargs: Fields of LlamaIndex's `LLM`, such as `system_prompt`.

    Raises:
        EmphasisError: The system prompt carries emphasis, which LlamaIndex would drop.
    """

    max_new_tokens: int | None = None
    alpha: float | None = None
    use_chat_template: bool = False
    generation_arguments: dict[str, Any] = Field(default_factory=dict)
    _model: SteeredModel = PrivateAttr()

    def __init__(self, model: SteeredModel, **kwargs: Any) -> None:
        if carries_emphasis(kwargs.get("system_prompt")):
            raise EmphasisError(
                "LlamaIndex keeps a system_prompt as plain text, without its emphasis. Put the "
                "emphasized text into an EmphasisPromptTemplate instead."
            )
        super().__init__(**kwargs)
        self._model = model

    @classmethod
    def class_name(cls) -> str:
        """Name of this class in serialized form."""
        return "pasta_llm"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know of the model."""
        known: dict[str, Any] = {
            "context_window": self._model.context_length,
            "num_output": self.max_new_tokens,
        }
        return LLMMetadata(
            model_name=self._model.name or "unknown",
            is_chat_model=self.use_chat_template,
            **{name: value for name, value in known.items() if value is not None},
        )

    def tokens_of(self, text: str) -> list[int]:
        """Token ids of a text, by the model's own tokenizer; for `PromptHelper`."""
        ids: list[int] = self._model.tokenizer(SpanStr(text).text, add_special_tokens=False)[
            "input_ids"
        ]
        return ids

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
        written = {**(llm_kwargs or {}), "structure": _structure(output_cls)}
        if self.metadata.is_chat_model:
            answer = self.chat(self._get_messages(prompt, **prompt_args), **written)
            text = answer.message.content or ""
        else:
            completed = self.complete(
                self._get_prompt(prompt, **prompt_args), formatted=True, **written
            )
            text = completed.text
        return output_cls.model_validate_json(text)

    async def astructured_predict(
        self,
        output_cls: Any,
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """`structured_predict` in a thread."""
        return await asyncio.to_thread(
            self.structured_predict, output_cls, prompt, llm_kwargs, **prompt_args
        )

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Continue a prompt."""
        return _completion(self._run(self._as_prompt(prompt), kwargs))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Continue a prompt, piece by piece."""
        pieces = self._model.stream(self._as_prompt(prompt), **self._options(kwargs))
        return (CompletionResponse(text=text, delta=delta) for text, delta in _growing(pieces))

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer chat messages, through the model's own chat template."""
        answer = self._run([_message(message) for message in messages], kwargs)
        return ChatResponse(message=_assistant(answer.text), additional_kwargs=_usage(answer))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer chat messages, piece by piece."""
        prompt = [_message(message) for message in messages]
        pieces = self._model.stream(prompt, **self._options(kwargs))
        return (
            ChatResponse(message=_assistant(text), delta=delta) for text, delta in _growing(pieces)
        )

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Continue a prompt. Cancelling it stops the model."""
        answers = await self._model.arun([self._as_prompt(prompt)], **self._options(kwargs))
        return _completion(answers[0])

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Continue a prompt, piece by piece. Closing it stops the model."""
        pieces = self._model.astream(self._as_prompt(prompt), **self._options(kwargs))

        async def responses() -> CompletionResponseAsyncGen:
            async for text, delta in _growing_async(pieces):
                yield CompletionResponse(text=text, delta=delta)

        return responses()

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer chat messages. Cancelling it stops the model."""
        prompt = [_message(message) for message in messages]
        answers = await self._model.arun([prompt], **self._options(kwargs))
        return ChatResponse(
            message=_assistant(answers[0].text), additional_kwargs=_usage(answers[0])
        )

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Answer chat messages, piece by piece. Closing it stops the model."""
        prompt = [_message(message) for message in messages]
        pieces = self._model.astream(prompt, **self._options(kwargs))

        async def responses() -> ChatResponseAsyncGen:
            async for text, delta in _growing_async(pieces):
                yield ChatResponse(message=_assistant(text), delta=delta)

        return responses()

    def _get_prompt(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        text = prompt.format(
            llm=self,
            messages_to_prompt=self.messages_to_prompt,
            completion_to_prompt=self.completion_to_prompt,
            **prompt_args,
        )
        if self.output_parser is not None:
            text = with_instructions(self.output_parser, text)
        return self._extend_prompt(text)

    def _extend_prompt(self, formatted_prompt: str) -> str:
        extended = super()._extend_prompt(formatted_prompt)
        if span_count(extended) < span_count(formatted_prompt):
            raise EmphasisError(
                "The query_wrapper_prompt drops the prompt's emphasis. Make it an "
                "EmphasisPromptTemplate with {{ query_str }}."
            )
        return extended

    def _as_prompt(self, prompt: str) -> Prompt:
        return [{"role": "user", "content": prompt}] if self.use_chat_template else prompt

    def _run(self, prompt: Prompt, kwargs: dict[str, Any]) -> Generation:
        return self._model.run([prompt], **self._options(kwargs))[0]

    def _options(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {
            "max_new_tokens": self.max_new_tokens,
            "alpha": self.alpha,
            **self.generation_arguments,
            **kwargs,
        }


def _structure(output_cls: Any) -> Structure:
    return Structure.json(closed(output_cls.model_json_schema()))


def _message(message: ChatMessage) -> dict[str, Any]:
    blocks = message.blocks
    if not all(isinstance(block, TextBlock) for block in blocks):
        raise PromptError("Messages to this model hold text only, no images or other blocks.")
    texts = [
        block.to_text() if isinstance(block, EmphasisTextBlock) else block.text
        for block in blocks
        if isinstance(block, TextBlock)
    ]
    return {"role": message.role.value, "content": SpanStr("\n").join(texts)}


def _assistant(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.ASSISTANT, content=text)


def _completion(answer: Generation) -> CompletionResponse:
    return CompletionResponse(text=answer.text, additional_kwargs=_usage(answer))


def _usage(answer: Generation) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.new_tokens,
        "finish_reason": answer.finish_reason,
    }


def _growing(pieces: Generator[str, None, None]) -> Generator[tuple[str, str], None, None]:
    """Each piece with all the text up to it."""
    text = ""
    for piece in pieces:
        text += piece
        yield text, piece


async def _growing_async(
    pieces: AsyncGenerator[str, None],
) -> AsyncGenerator[tuple[str, str], None]:
    """Each piece with all the text up to it; closing it closes the pieces, too."""
    text = ""
    async with aclosing(pieces):
        async for piece in pieces:
            text += piece
            yield text, piece
