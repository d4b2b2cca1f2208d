"""LlamaIndex's response modes, with emphasis in all that they send."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llama_index.core.prompts.base import BasePromptTemplate
from llama_index.core.prompts.default_prompt_selectors import (
    DEFAULT_REFINE_PROMPT_SEL,
    DEFAULT_TEXT_QA_PROMPT_SEL,
    DEFAULT_TREE_SUMMARIZE_PROMPT_SEL,
)
from llama_index.core.prompts.default_prompts import DEFAULT_SIMPLE_INPUT_PROMPT
from llama_index.core.response_synthesizers import (
    BaseSynthesizer,
    ResponseMode,
    SimpleSummarize,
    get_response_synthesizer,
)
from llama_index.core.response_synthesizers.context_only import ContextOnly
from llama_index.core.response_synthesizers.no_text import NoText
from llama_index.core.response_synthesizers.refine import DefaultRefineProgram, Refine

from pasta_chains.errors import EmphasisError, PastaError
from pasta_chains.spans import SpanStr

from .core_prompts import keeping_emphasis
from .packing import EmphasisPromptHelper

_DEFAULTS: dict[str, BasePromptTemplate] = {
    "text_qa_template": DEFAULT_TEXT_QA_PROMPT_SEL,
    "refine_template": DEFAULT_REFINE_PROMPT_SEL,
    "summary_template": DEFAULT_TREE_SUMMARIZE_PROMPT_SEL,
    "simple_template": DEFAULT_SIMPLE_INPUT_PROMPT,
}
TEMPLATES = tuple(_DEFAULTS)
"""Arguments that are templates."""


def core_synthesizer(
    mode: str, llm: Any, helper: EmphasisPromptHelper, **arguments: Any
) -> BaseSynthesizer:
    """LlamaIndex's synthesizer of a mode, which keeps the emphasis of the texts that it is given.

    Args:
        mode: Name of the mode.
        llm: The model.
        helper: Packs texts into prompts.
        **arguments: Those of LlamaIndex's `get_response_synthesizer`.

    Raises:
        EmphasisError: There is no such mode.
    """
    try:
        wanted = ResponseMode(mode)
    except ValueError:
        names = ", ".join(repr(known.value) for known in ResponseMode)
        raise EmphasisError(
            f"response_mode is {mode!r}; it must be 'documents' or one of {names}."
        ) from None
    for name, default in _DEFAULTS.items():
        arguments[name] = keeping_emphasis(arguments.get(name) or default, llm)
    # These two answer without a model, but LlamaIndex looks for one of OpenAI's without this.
    few = {
        "llm": llm,
        "callback_manager": arguments.get("callback_manager"),
        "streaming": arguments.get("streaming", False),
    }
    if wanted is ResponseMode.NO_TEXT:
        return NoText(**few)
    if wanted is ResponseMode.CONTEXT_ONLY:
        return ContextOnly(**few)
    if wanted is ResponseMode.SIMPLE_SUMMARIZE:
        return _Simple(**few, prompt_helper=helper, text_qa_template=arguments["text_qa_template"])
    made = get_response_synthesizer(
        llm=llm, prompt_helper=helper, response_mode=wanted, **arguments
    )
    if isinstance(made, Refine):
        made._program_factory = _telling(made._program_factory)
    return made


class _Simple(SimpleSummarize):
    """All texts in one prompt, as one text: LlamaIndex's own prints a list into it."""

    def _context(self, query: str, chunks: Sequence[str]) -> dict[str, Any]:
        template = self._text_qa_template.partial_format(query_str=query)
        joined = SpanStr("\n").join(chunks)
        (text,) = self._prompt_helper.truncate(prompt=template, text_chunks=[joined], llm=self._llm)
        return {"prompt": template, "context_str": text}

    def get_response(self, query_str: str, text_chunks: Sequence[str], **kwargs: Any) -> Any:
        given = self._context(query_str, text_chunks)
        if self._streaming:
            return self._llm.stream(**given, **kwargs)
        return self._llm.predict(**given, **kwargs) or "Empty Response"

    async def aget_response(self, query_str: str, text_chunks: Sequence[str], **kwargs: Any) -> Any:
        given = self._context(query_str, text_chunks)
        if self._streaming:
            return await self._llm.astream(**given, **kwargs)
        return await self._llm.apredict(**given, **kwargs) or "Empty Response"


class RefusedError(Exception):
    """Carries an error past LlamaIndex's refining, which makes "Empty Response" of a ValueError.

    Attributes:
        error: The error.
    """

    def __init__(self, error: PastaError) -> None:
        super().__init__(str(error))
        self.error = error


class _TellingRefinement(DefaultRefineProgram):
    """LlamaIndex's usual program of refining; its class is what tells that it streams text."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _told():
            return super().__call__(*args, **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        with _told():
            return await super().acall(*args, **kwargs)


class _Telling:
    """Another program of refining, which asks for objects."""

    def __init__(self, program: Any) -> None:
        self._program = program

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _told():
            return self._program(*args, **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        with _told():
            return await self._program.acall(*args, **kwargs)

    def stream_call(self, *args: Any, **kwargs: Any) -> Any:
        with _told():
            yield from self._program.stream_call(*args, **kwargs)

    async def astream_call(self, *args: Any, **kwargs: Any) -> Any:
        async def objects() -> Any:
            with _told():
                async for found in await self._program.astream_call(*args, **kwargs):
                    yield found

        return objects()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except PastaError as error:
        raise RefusedError(error) from error


def _telling(factory: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def made(prompt: BasePromptTemplate) -> Any:
        program = factory(prompt)
        if isinstance(program, DefaultRefineProgram):
            return _TellingRefinement(program._prompt, program._llm, program._output_cls)
        return _Telling(program)

    return made
