"""A steered model as LlamaIndex's `LLM`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
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
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts.base import BasePromptTemplate
from llama_index.core.tools import BaseTool
from pydantic import Field, PrivateAttr

from pasta_chains import connect
from pasta_chains.emphasis_model import EmphasisModel
from pasta_chains.errors import EmphasisError, PromptError
from pasta_chains.generation import Generation
from pasta_chains.prompts import Prompt
from pasta_chains.spans import SpanStr, carries_emphasis, span_count
from pasta_chains.streaming import TextStream
from pasta_chains.tool_formats import find_tool_format

from .answers import GrowingAnswer, GrowingCompletion, Question, usage
from .core_prompts import keeping_emphasis, keeps_emphasis, warn_if_dropped
from .events import tell_emphasis
from .messages import message_text
from .prompts import with_instructions
from .structured import StructuredPredictions
from .tools import asked_messages, selections, tool_arguments


class PastaLLM(StructuredPredictions):
    """A local model that reads emphasis.

    Args:
        model: The loaded model, or one on a server; several instances may share one.
        base_url: Where a vLLM server with the model is, instead of `model`.
        api_key: What that server was started with, if it was.
        **kwargs: The attributes below, and fields of LlamaIndex's `LLM`, such as `system_prompt`.

    Attributes:
        max_new_tokens: Longest answer; None for the model's default.
        alpha: Instead of the profile's; None keeps it.
        use_chat_template: Send prompts as chat messages. By default the model continues a prompt
            as it stands.
        generation_arguments: For transformers' `generate`.

    Raises:
        EmphasisError: The system prompt carries emphasis, which LlamaIndex would drop.
    """

    max_new_tokens: int | None = None
    alpha: float | None = None
    use_chat_template: bool = False
    generation_arguments: dict[str, Any] = Field(default_factory=dict)
    _model: EmphasisModel = PrivateAttr()

    def __init__(
        self,
        model: EmphasisModel | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        if (model is None) == (base_url is None):
            raise PromptError("PastaLLM takes either a loaded model or the base_url of a server.")
        if carries_emphasis(kwargs.get("system_prompt")):
            raise EmphasisError(
                "LlamaIndex keeps a system_prompt as plain text, without its emphasis. Put the "
                "emphasized text into an EmphasisPromptTemplate instead."
            )
        super().__init__(**kwargs)
        self._model = connect(str(base_url), api_key) if model is None else model

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
            is_function_calling_model=self.use_chat_template
            and find_tool_format(self._model.tokenizer) is not None,
            **{name: value for name, value in known.items() if value is not None},
        )

    def tokens_of(self, text: str) -> list[int]:
        """Token ids of a text, by the model's own tokenizer; for `PromptHelper`."""
        tokenized = self._model.tokenizer(
            SpanStr(text).text,
            add_special_tokens=False,
            verbose=False,  # a text that is to be split may be longer than the context
        )
        ids: list[int] = tokenized["input_ids"]
        return ids

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The calls of tools in a response.

        Raises:
            PromptError: There is none, unless that is no error.
        """
        return selections(response.message, required=error_on_no_tool_call)

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        shown = tool_arguments(
            tools,
            self._model.tokenizer,
            tool_choice=tool_choice or ("any" if tool_required else None),
            parallel=allow_parallel_tool_calls,
        )
        return {"messages": asked_messages(user_msg, chat_history), **shown, **kwargs}

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Continue a prompt."""
        return _completion(self._run(self._as_prompt(prompt), self._options(kwargs)))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Continue a prompt, piece by piece."""
        asked = self._as_prompt(prompt)
        return _responses(self._stream(asked, self._options(kwargs)), GrowingCompletion())

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer chat messages, through the model's own chat template."""
        question = self._question(messages, kwargs)
        return question.response(self._run(question.prompt, question.options))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer chat messages, piece by piece."""
        question = self._question(messages, kwargs)
        stream = self._stream(question.prompt, question.options)
        return _responses(stream, GrowingAnswer(question))

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Continue a prompt. Cancelling it stops the model."""
        return _completion(await self._arun(self._as_prompt(prompt), self._options(kwargs)))

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Continue a prompt, piece by piece. Closing it stops the model."""
        stream = self._stream(self._as_prompt(prompt), self._options(kwargs))
        return _responses_async(stream, GrowingCompletion())

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer chat messages. Cancelling it stops the model."""
        question = self._question(messages, kwargs)
        return question.response(await self._arun(question.prompt, question.options))

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Answer chat messages, piece by piece. Closing it stops the model."""
        question = self._question(messages, kwargs)
        stream = self._stream(question.prompt, question.options)
        return _responses_async(stream, GrowingAnswer(question))

    def _get_messages(self, prompt: BasePromptTemplate, **prompt_args: Any) -> list[ChatMessage]:
        kept = keeping_emphasis(prompt, self)
        messages: list[ChatMessage] = super()._get_messages(kept, **prompt_args)
        if not keeps_emphasis(kept):
            warn_if_dropped(prompt, prompt_args, sum(span_count(message_text(m)) for m in messages))
        return messages

    def _get_prompt(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        kept = keeping_emphasis(prompt, self)
        text = kept.format(
            llm=self,
            messages_to_prompt=self.messages_to_prompt,
            completion_to_prompt=self.completion_to_prompt,
            **prompt_args,
        )
        if self.output_parser is not None:
            text = with_instructions(self.output_parser, text)
        if not keeps_emphasis(kept):
            warn_if_dropped(prompt, prompt_args, span_count(text))
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

    def _question(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> Question:
        return Question.of(messages, self._options(kwargs), self._model.tokenizer)

    def _run(self, prompt: Prompt, options: Mapping[str, Any]) -> Generation:
        tell_emphasis(prompt)
        return self._model.run([prompt], **options)[0]

    async def _arun(self, prompt: Prompt, options: Mapping[str, Any]) -> Generation:
        tell_emphasis(prompt)
        return (await self._model.arun([prompt], **options))[0]

    def _stream(self, prompt: Prompt, options: Mapping[str, Any]) -> TextStream:
        tell_emphasis(prompt)
        return self._model.stream(prompt, **options)

    def _options(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {
            "max_new_tokens": self.max_new_tokens,
            "alpha": self.alpha,
            **self.generation_arguments,
            **kwargs,
        }


def _completion(answer: Generation) -> CompletionResponse:
    return CompletionResponse(text=answer.text, additional_kwargs=usage(answer))


def _responses(stream: TextStream, growing: Any) -> Generator[Any, None, None]:
    with closing(stream):
        for piece in stream:
            yield from growing.feed(piece)
        yield from growing.finish(stream.generation)


async def _responses_async(stream: TextStream, growing: Any) -> AsyncGenerator[Any, None]:
    async with aclosing(stream.pieces()) as pieces:
        async for piece in pieces:
            for response in growing.feed(piece):
                yield response
        for response in growing.finish(stream.generation):
            yield response
