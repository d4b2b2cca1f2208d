"""LangChain: a prompt template whose emphasis reaches a steered model.

    chain = EmphasisPromptTemplate.from_template(source) | PastaLLM(model=model) | StrOutputParser()

LangChain copies prompts as plain text in many places, and an offset into text that was copied
elsewhere is wrong. So the spans travel inside the prompt value, which returns its `SpanStr` where
LangChain asks it for a string.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from .engine import SteeredModel
from .errors import MissingExtraError, PromptError
from .generation import Generation
from .prompts import Prompt
from .spans import SpanStr, carries_emphasis
from .template import Environment, template_source, template_variables

try:
    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.language_models import BaseLLM, LanguageModelInput
    from langchain_core.messages import BaseMessage, HumanMessage
    from langchain_core.outputs import Generation as LangChainGeneration
    from langchain_core.outputs import GenerationChunk, LLMResult
    from langchain_core.prompt_values import ChatPromptValue, PromptValue
    from langchain_core.prompts import StringPromptTemplate
except ImportError as error:
    raise MissingExtraError("langchain-core", "langchain") from error

from pydantic import ConfigDict, Field, model_validator

# Arguments of a call that its answer does not depend on, and `stop`, which is in the cache's key.
_IN_CACHE_KEY = {"stop", "callbacks", "tags", "metadata", "run_name", "run_id"}


class EmphasisPromptValue(PromptValue):
    """A rendered prompt with its emphasis.

    Attributes:
        text: The characters.
        spans: Emphasized ranges, each `{"start", "end", "alpha", "name", "deemphasized"}`.
    """

    text: str
    spans: list[dict[str, Any]] = Field(default_factory=list)

    @classmethod
    def from_text(cls, text: SpanStr) -> Self:
        """Wrap a rendered prompt."""
        return cls(**text.to_dict())

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """The module that LangChain imports this class from when it loads a saved value."""
        return cls.__module__.split(".")

    def to_string(self) -> SpanStr:
        """The prompt with its emphasis."""
        return SpanStr.from_dict({"text": self.text, "spans": self.spans})

    def to_messages(self) -> list[BaseMessage]:
        """The prompt as one user message, its emphasis in the extras of its only text block."""
        marks = [list(span.values()) for span in self.spans]
        block = {"type": "text", "text": self.text, "extras": {"emphasis": marks}}
        return [HumanMessage(content=[block] if marks else self.text)]


class EmphasisPromptTemplate(StringPromptTemplate):
    """A prompt template in Jinja, in which `<% emphasize %>` marks what the model must read.

    Attributes:
        template: The Jinja source.
    """

    template: str

    @model_validator(mode="before")
    @classmethod
    def _infer_variables(cls, values: dict[str, Any]) -> dict[str, Any]:
        source = values.get("template")
        if isinstance(source, str):  # anything else is refused by the field's own type
            partial = values.get("partial_variables") or {}
            needed = [name for name in template_variables(source) if name not in partial]
            values.setdefault("input_variables", needed)
        return values

    @classmethod
    def from_template(cls, template: str, **fields: Any) -> Self:
        """Make a template from Jinja source.

        Args:
            template: The source.
            **fields: Further fields, such as `partial_variables`.

        Raises:
            jinja2.TemplateSyntaxError: The source is no valid template.
        """
        return cls(template=template, **fields)

    @classmethod
    def from_file(cls, path: str | Path, **fields: Any) -> Self:
        """Make a template from a file, or from a shipped template such as `rag/qa.jinja`.

        Raises:
            jinja2.TemplateNotFound: There is no such file.
        """
        return cls(template=template_source(path), **fields)

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """The module that LangChain imports this class from when it loads a saved template."""
        return cls.__module__.split(".")

    def format(self, **kwargs: Any) -> SpanStr:
        """Render the prompt with its emphasis."""
        variables = self._merge_partial_and_user_variables(**kwargs)
        return SpanStr(Environment().from_string(self.template).render(**variables))

    async def aformat(self, **kwargs: Any) -> SpanStr:
        """Render the prompt with its emphasis."""
        return self.format(**kwargs)

    def format_prompt(self, **kwargs: Any) -> EmphasisPromptValue:
        """Render the prompt to what a chain passes on."""
        return EmphasisPromptValue.from_text(self.format(**kwargs))

    async def aformat_prompt(self, **kwargs: Any) -> EmphasisPromptValue:
        """Render the prompt to what a chain passes on."""
        return self.format_prompt(**kwargs)

    @property
    def _prompt_type(self) -> str:
        return "emphasis"


class PastaLLM(BaseLLM):
    """A text-completion model that reads emphasis.

    LangChain's cache, whose key is the text and the fields below, answers neither a prompt with
    emphasis nor a call with arguments of its own.

    Attributes:
        model: The loaded model; several instances may share one.
        max_new_tokens: Longest answer; None for the model's default.
        alpha: Instead of the profile's; None keeps it.
        use_chat_template: Put each prompt as one user message into the model's chat template. By
            default the model continues the prompt as it stands.
        generation_arguments: For transformers' `generate`, such as `{"do_sample": True}`.
    """

    model: SteeredModel = Field(exclude=True)
    max_new_tokens: int | None = None
    alpha: float | None = None
    use_chat_template: bool = False
    generation_arguments: dict[str, Any] = Field(default_factory=dict)

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @property
    def _llm_type(self) -> str:
        return "pasta"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        profile = self.model.profile
        return {
            "model": self.model.name,
            "heads": {str(k): list(v) for k, v in profile.heads.items()} if profile else None,
            "alpha": self.alpha if self.alpha is not None else profile and profile.alpha,
            "max_new_tokens": self.max_new_tokens,
            "use_chat_template": self.use_chat_template,
            "generation_arguments": self.generation_arguments,
        }

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
            emphasized = emphasized or any(map(_has_emphasized_block, value.messages))
        if emphasized:
            raise PromptError(
                "PastaLLM takes one text, and LangChain would join these messages without their "
                "emphasis. Pass an EmphasisPromptValue or a SpanStr instead, or chat messages with "
                "SpanStr contents to SteeredModel."
            )
        return value

    def generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        """Answer prompts, past any cache where its key would be too coarse."""
        return super(PastaLLM, self._past_cache(prompts, kwargs)).generate(prompts, *args, **kwargs)

    async def agenerate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
        """Answer prompts, past any cache where its key would be too coarse."""
        fresh = self._past_cache(prompts, kwargs)
        return await super(PastaLLM, fresh).agenerate(prompts, *args, **kwargs)

    def _past_cache(self, prompts: Sequence[str], arguments: Mapping[str, Any]) -> PastaLLM:
        emphasized = any(isinstance(prompt, SpanStr) and prompt.spans for prompt in prompts)
        own = arguments.keys() - _IN_CACHE_KEY
        return self.model_copy(update={"cache": False}) if emphasized or own else self

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        answers = self.model.run([self._prompt(p) for p in prompts], **self._options(stop, kwargs))
        usage = {
            "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
            "completion_tokens": sum(answer.new_tokens for answer in answers),
        }
        return LLMResult(
            generations=[[_langchain_generation(answer)] for answer in answers],
            llm_output={"model_name": self.model.name, "token_usage": usage},
        )

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        for piece in self.model.stream(self._prompt(prompt), **self._options(stop, kwargs)):
            chunk = GenerationChunk(text=piece)
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of a text, by the model's own tokenizer."""
        ids: list[int] = self.model.tokenizer(SpanStr(text).text)["input_ids"]
        return ids

    def _prompt(self, text: str) -> Prompt:
        return [{"role": "user", "content": text}] if self.use_chat_template else text

    def _options(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "max_new_tokens": self.max_new_tokens,
            "alpha": self.alpha,
            "stop": stop or (),
            **self.generation_arguments,
            **kwargs,
        }


def _has_emphasized_block(message: BaseMessage) -> bool:
    blocks = [block for block in message.content if isinstance(block, dict)]
    return any((block.get("extras") or {}).get("emphasis") for block in blocks)


def _langchain_generation(answer: Generation) -> LangChainGeneration:
    info = {
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.new_tokens,
    }
    return LangChainGeneration(text=answer.text, generation_info=info)
