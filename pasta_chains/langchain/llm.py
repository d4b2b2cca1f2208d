"""A text-completion model for LangChain that reads emphasis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Self

from langchain_core.caches import BaseCache
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseLLM, LanguageModelInput
from langchain_core.outputs import Generation as LangChainGeneration
from langchain_core.outputs import GenerationChunk, LLMResult
from langchain_core.prompt_values import ChatPromptValue, PromptValue

from ..errors import PromptError
from ..generation import Generation
from ..prompts import Prompt
from ..spans import SpanStr, carries_emphasis
from .cache import EmphasisCache
from .content import has_emphasis
from .options import PastaFields
from .prompts import EmphasisPromptValue


class PastaLLM(PastaFields, BaseLLM):
    """A text-completion model that reads emphasis.

    Attributes:
        use_chat_template: Put each prompt as one user message into the model's chat template. By
            default the model continues the prompt as it stands.
    """

    use_chat_template: bool = False

    @property
    def _llm_type(self) -> str:
        return "pasta"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {**super()._identifying_params, "use_chat_template": self.use_chat_template}

    def generate_prompt(self, prompts: list[PromptValue], *args: Any, **kwargs: Any) -> LLMResult:
        """Answer prompt values.

        Raises:
            PromptError: Chat messages carry emphasis, which this model would lose.
        """
        return super().generate_prompt([*map(self._convert_input, prompts)], *args, **kwargs)

    async def agenerate_prompt(
        self, prompts: list[PromptValue], *args: Any, **kwargs: Any
    ) -> LLMResult:
        """Answer prompt values.

        Raises:
            PromptError: Chat messages carry emphasis, which this model would lose.
        """
        return await super().agenerate_prompt([*map(self._convert_input, prompts)], *args, **kwargs)

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        if isinstance(model_input, SpanStr):
            return EmphasisPromptValue.from_text(model_input)
        # Messages are checked before LangChain copies their text, and after, in their blocks.
        emphasized = isinstance(model_input, list | tuple) and carries_emphasis(model_input)
        value = super()._convert_input(model_input)
        if isinstance(value, ChatPromptValue):
            emphasized = emphasized or any(map(has_emphasis, value.messages))
        if emphasized:
            raise PromptError(
                "PastaLLM takes one text, and LangChain would join these messages without their "
                "emphasis. Use ChatPasta, or pass an EmphasisPromptValue or a SpanStr."
            )
        return value

    def generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        """Answer prompts, with a cache whose keys know emphasis and the arguments of the call."""
        return super(PastaLLM, self._with_cache(kwargs)).generate(prompts, *args, **kwargs)

    async def agenerate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        """Answer prompts, with a cache whose keys know emphasis and the arguments of the call."""
        fresh = self._with_cache(kwargs)
        return await super(PastaLLM, fresh).agenerate(prompts, *args, **kwargs)

    def _with_cache(self, arguments: Mapping[str, Any]) -> Self:
        cache = self.cache if isinstance(self.cache, BaseCache) else get_llm_cache()
        if cache is None or self.cache is False:
            return self
        return self.model_copy(update={"cache": EmphasisCache(cache, arguments)})

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        return self._result(self._call(stop, kwargs).run([*map(self._prompt, prompts)]), prompts)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        answers = await self._call(stop, kwargs).arun([*map(self._prompt, prompts)])
        return self._result(answers, prompts)

    def _result(self, answers: list[Generation], prompts: list[str]) -> LLMResult:
        copies = len(answers) // max(len(prompts), 1)
        usage = {
            "prompt_tokens": sum(answer.prompt_tokens for answer in answers[:: copies or 1]),
            "completion_tokens": sum(answer.new_tokens for answer in answers),
        }
        return LLMResult(
            generations=[
                [_generation(one) for one in answers[number * copies : (number + 1) * copies]]
                for number in range(len(prompts))
            ],
            llm_output={"model_name": self.model.name, "token_usage": usage},
        )

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        call = self._call(stop, kwargs)
        stream = call.stream(self._prompt(prompt))
        for piece in call.pieces(stream):
            chunk = GenerationChunk(text=piece)
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk
        yield GenerationChunk(text="", generation_info=_info(stream.generation))

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        call = self._call(stop, kwargs)
        stream = call.stream(self._prompt(prompt))
        async for piece in call.apieces(stream):
            chunk = GenerationChunk(text=piece)
            if run_manager:
                await run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk
        yield GenerationChunk(text="", generation_info=_info(stream.generation))

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of a text, by the model's own tokenizer."""
        ids: list[int] = self.model.tokenizer(SpanStr(text).text)["input_ids"]
        return ids

    def _prompt(self, text: str) -> Prompt:
        return [{"role": "user", "content": text}] if self.use_chat_template else text


def _generation(answer: Generation) -> LangChainGeneration:
    return LangChainGeneration(text=answer.text, generation_info=_info(answer))


def _info(answer: Generation) -> dict[str, Any]:
    return {
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.new_tokens,
    }
