"""A chat model for LangChain that reads emphasis."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import get_config_list, get_executor_for_config
from langchain_core.tools import BaseTool
from pydantic import PrivateAttr

from ..errors import PromptError
from ..spans import SpanStr
from ..tool_use import without_tools
from .answers import Question, StreamedAnswer
from .batch import Batch, Seat
from .content import chat_messages, emphasized_content
from .options import PastaFields
from .prompts import EmphasisPromptValue
from .structured import asked_structure, structured_output
from .tools import binding, schemas_of, tool_use


class ChatPasta(PastaFields, BaseChatModel):
    """A chat model that reads emphasis, through the model's own chat template.

        chat = ChatPasta(model=SteeredModel.from_pretrained(name, profile="heads.json"))
        chat.invoke([("system", "Be brief."), HumanMessage(emphasized_content(text))])

    `batch` and `abatch` answer all prompts in one batch of the model.

    Attributes:
        streaming: Let `invoke` stream, too, for callbacks that want each token.

    Raises:
        PromptError: A message has content other than text, or the chat template refuses it.
        PastaError: As `SteeredModel.run` does.
    """

    streaming: bool = False
    _seat: Seat | None = PrivateAttr(default=None)

    @property
    def model_name(self) -> str:
        """Name of the model, where LangChain looks for it."""
        return self.model.name or "unknown"

    @property
    def _llm_type(self) -> str:
        return "pasta-chat"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """What traces call the model and its arguments."""
        return LangSmithParams(
            ls_provider="pasta_chains",
            ls_model_name=str(kwargs.get("model", self.model.name)),
            ls_model_type="chat",
            ls_temperature=kwargs.get("temperature", self.temperature),
            ls_max_tokens=kwargs.get(
                "max_tokens", kwargs.get("max_new_tokens", self.max_new_tokens)
            ),
            ls_stop=stop or self.stop,
        )

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        """Keep the emphasis of texts that LangChain would copy as plain ones."""
        if isinstance(model_input, SpanStr):
            return EmphasisPromptValue.from_text(model_input)
        if isinstance(model_input, Sequence) and not isinstance(model_input, str):
            model_input = [_with_blocks(message) for message in model_input]
        return super()._convert_input(model_input)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        asked = self._question(messages, stop, kwargs)
        if self._seat is not None:
            return asked.result(self._seat.ask(asked.prompt, asked.call).result())
        return asked.result(asked.call.run([asked.prompt]))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        asked = self._question(messages, stop, kwargs)
        if self._seat is None:
            return asked.result(await asked.call.arun([asked.prompt]))
        try:
            coming = await asyncio.to_thread(self._seat.ask, asked.prompt, asked.call)
            return asked.result(await asyncio.wrap_future(coming))
        except asyncio.CancelledError:
            self._seat.give_up()
            raise

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        asked = self._question(messages, stop, kwargs)
        stream, answer = asked.call.stream(asked.prompt), StreamedAnswer(asked)
        for piece in asked.call.pieces(stream):
            yield from answer.feed(piece)
        yield from answer.finish(stream.generation)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        asked = self._question(messages, stop, kwargs)
        stream, answer = asked.call.stream(asked.prompt), StreamedAnswer(asked)
        async for piece in asked.call.apieces(stream):
            for chunk in answer.feed(piece):
                yield chunk
        for chunk in answer.finish(stream.generation):
            yield chunk

    def _question(
        self, messages: list[BaseMessage], stop: list[str] | None, given: Mapping[str, Any]
    ) -> Question:
        given = asked_structure(dict(given))
        if "top_logprobs" in given:  # which hosted models take beside logprobs
            given["logprobs"] = given.pop("top_logprobs") or given.get("logprobs", False)
        tools = tool_use(self.model, {**self.generation_arguments, **given})
        more = tools.arguments if tools else {}
        call = self._call(stop, {**without_tools(given), **more})
        return Question(call, chat_messages(messages), tools)

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of a text, by the model's own tokenizer."""
        ids: list[int] = self.model.tokenizer(SpanStr(text).text)["input_ids"]
        return ids

    def get_num_tokens_from_messages(
        self,
        messages: list[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
    ) -> int:
        """Number of tokens that the model reads for messages, its chat template included."""
        shown = {"tools": schemas_of(tools)} if tools else None
        return self.model.count_tokens(chat_messages(messages), chat_template_kwargs=shown)

    def bind_tools(
        self,
        tools: Sequence[builtins.dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: builtins.dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """A model that knows of tools, through its own chat template.

        Args:
            tools: Functions, LangChain tools, pydantic or TypedDict classes, or schemas.
            tool_choice: "auto" to let the model choose; "any", "required" or True for a call of one
                of the tools, or a tool's name for a call of that one: the model can then write
                nothing else, and the arguments are of the tool's schema. "none" shows it no tool.
            strict: Make sure that the arguments are of the schema; they are whenever a call is
                asked for, and cannot be made so where the model may choose.
            parallel_tool_calls: Whether an answer that must call a tool may do so more than once.
                One call by default.
            **kwargs: Further arguments of each call.

        Raises:
            PromptError: The chat template shows no tools, there is no such tool, or a schema says
                what cannot be enforced.
            MissingExtraError: A call is asked for, and the extra "structured" is not installed.
        """
        asked = binding(tools, tool_choice, strict=strict, parallel_tool_calls=parallel_tool_calls)
        tool_use(self.model, asked)  # what is wrong shows here, before the first answer
        return self.bind(**asked, **kwargs)

    def with_structured_output(
        self,
        schema: builtins.dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: str = "json_schema",
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """A model whose answers are objects of a schema, since it can write nothing else.

        Args:
            schema: A pydantic class, a TypedDict class, or a JSON schema with a title.
            include_raw: Return a mapping of `raw`, the message, `parsed` and `parsing_error`.
            method: "json_schema", for which "function_calling" is another name here; or "json_mode"
                for any JSON object, whatever the schema.
            **kwargs: `strict` is there for code that sets it: a schema is always kept.

        Raises:
            PromptError: There is no such method or argument, or the schema says what cannot be
                enforced.
            MissingExtraError: The extra "structured" is not installed.
        """
        unknown = sorted(kwargs.keys() - {"strict"})
        if unknown:
            raise PromptError(f"with_structured_output takes no argument {unknown[0]!r}.")
        return structured_output(self, schema, include_raw=include_raw, method=method)

    # One batch of the model

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Answer several prompts in one batch, or in batches of `max_concurrency`."""
        configs = get_config_list(config, len(inputs))
        found: list[Any] = []
        for start, size in _parts(len(inputs), configs):
            part = slice(start, start + size)
            batch = Batch(size)

            def one(given: LanguageModelInput, own: RunnableConfig, batch: Batch = batch) -> Any:
                seat = Seat(batch)
                try:
                    return self._at(seat).invoke(given, own, **kwargs)
                except Exception as error:  # returned, if that is what was asked for
                    if not return_exceptions:
                        raise
                    return error
                finally:
                    seat.leave()

            at_once: RunnableConfig = {**configs[start], "max_concurrency": size}
            with get_executor_for_config(at_once) as executor:
                found += executor.map(one, inputs[part], configs[part])
        return found

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Answer several prompts in one batch, or in batches of `max_concurrency`."""
        configs = get_config_list(config, len(inputs))
        found: list[Any] = []
        for start, size in _parts(len(inputs), configs):
            part = slice(start, start + size)
            batch = Batch(size)

            async def one(
                given: LanguageModelInput, own: RunnableConfig, batch: Batch = batch
            ) -> Any:
                seat = Seat(batch)
                try:
                    return await self._at(seat).ainvoke(given, own, **kwargs)
                finally:
                    await asyncio.to_thread(seat.leave)

            found += await asyncio.gather(
                *map(one, inputs[part], configs[part]), return_exceptions=return_exceptions
            )
        return found

    def _at(self, seat: Seat) -> ChatPasta:
        seated = self.model_copy()
        seated._seat = seat
        return seated


def _parts(count: int, configs: Sequence[RunnableConfig]) -> Iterator[tuple[int, int]]:
    size = (configs[0].get("max_concurrency") if configs else None) or count
    for start in range(0, count, size or 1):
        yield start, min(size, count - start)


def _with_blocks(message: Any) -> Any:
    """A message in one of LangChain's short forms, its emphasis in a block."""
    if isinstance(message, SpanStr):
        return ("human", emphasized_content(message))
    if isinstance(message, tuple) and len(message) == 2 and isinstance(message[1], SpanStr):
        return (message[0], emphasized_content(message[1]))
    if isinstance(message, dict) and isinstance(message.get("content"), SpanStr):
        return {**message, "content": emphasized_content(message["content"])}
    return message
