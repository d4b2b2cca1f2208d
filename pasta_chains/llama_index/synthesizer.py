"""Answers a query from retrieved nodes, with emphasis."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from typing import Any

from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import LLM
from llama_index.core.prompts.base import BasePromptTemplate
from llama_index.core.response_synthesizers import Generation, ResponseMode
from llama_index.core.response_synthesizers.base import BaseSynthesizer
from llama_index.core.schema import (
    ImageNode,
    NodeWithScore,
    QueryBundle,
)
from llama_index.core.settings import Settings

from pasta_chains.errors import (
    EmphasisDroppedWarning,
    EmphasisError,
    NothingEmphasizedWarning,
    PromptError,
    UnsupportedModelError,
)
from pasta_chains.spans import SpanStr, span_count

from .core_prompts import keeping_emphasis, keeps_emphasis
from .llm import PastaLLM
from .messages import EmphasisTextBlock
from .modes import TEMPLATES, RefusedError, core_synthesizer
from .nodes import chunks_of, marked_text
from .packing import EmphasisPromptHelper
from .policies import Policy, policy_of, spans_of, text_of
from .prompts import EmphasisPromptTemplate
from .recorded import KEY


class EmphasisSynthesizer(BaseSynthesizer):
    """Answers a query from nodes, with emphasis on what the model is to believe.

    `response.metadata["emphasis"]` tells for each source node which
    characters of its text were emphasized.

    Args:
        llm: The steered model. Another works, too, without emphasis and with a warning.
        emphasis: What to emphasize. "context": every node. "trusted": the nodes with
            `trusted=True` in their metadata, where nothing but True, False or its absence is
            accepted. "facts": in each node the sentence that answers the query, by BM25; `facts`
            makes others. "window": the sentence that was found, inside a sentence window.
            "metadata": the spans in `metadata["emphasis"]`, and otherwise as "trusted". "none":
            nothing, without a warning that nothing is. A function
            of node and query, such as `above_score` makes: the spans of the node's text that it
            returns, an empty list for none.
        text_qa_template: Gets `documents` (each with `text`) and `question`, and the same joined as
            `context_str` and `query_str`; by default the shipped `rag/qa.jinja`. In the modes of
            LlamaIndex it gets what it gets there, and is by default as there.
        response_mode: "documents" puts all nodes into one prompt, each a document of its own. The
            modes of LlamaIndex, from "compact" to "context_only", send what LlamaIndex sends.
        strict: Refuse a model that would lose the emphasis.
        **kwargs: Those of LlamaIndex's `get_response_synthesizer`, such as `streaming`,
            `output_cls` and `refine_template`.

    Raises:
        UnsupportedModelError: With `strict`: the model would lose the emphasis.
        EmphasisError: The policy or the mode is unknown, or takes no such argument; or, when a
            query is answered, `trusted` is neither True nor False, a function returns no spans, or
            the template drops emphasis.
    """

    def __init__(
        self,
        llm: LLM,
        emphasis: Policy = "context",
        text_qa_template: BasePromptTemplate | None = None,
        response_mode: str | ResponseMode = "documents",
        strict: bool = False,
        **kwargs: Any,
    ) -> None:
        policy = policy_of(emphasis)
        if not isinstance(llm, PastaLLM):
            lost = (
                f"EmphasisSynthesizer needs a pasta_chains.llama_index.PastaLLM; "
                f"{type(llm).__name__} would lose the emphasis."
            )
            if strict:
                raise UnsupportedModelError(lost)
            warnings.warn(lost, EmphasisDroppedWarning, stacklevel=2)
            emphasis, policy = "none", policy_of("none")
        self._policy = policy
        self._wants_emphasis = emphasis != "none"
        if isinstance(response_mode, ResponseMode):
            response_mode = response_mode.value
        helper = _helper(llm, kwargs.pop("prompt_helper", None) or Settings._prompt_helper)
        base = {name: kwargs[name] for name in _OF_BASE if name in kwargs}
        super().__init__(llm=llm, prompt_helper=helper, **base)
        self._inner: BaseSynthesizer | None = None
        if kwargs.get("output_cls") is not None and kwargs.get("streaming"):
            raise EmphasisError(
                "A synthesizer cannot stream objects: leave out streaming or output_cls, or use "
                "llm.stream_structured_predict."
            )
        if response_mode == "documents":
            _check_arguments(kwargs, _OF_BASE)
        else:
            _check_arguments(kwargs, _OF_MODES)
            kwargs.pop("empty_response", None)  # the base class gives it
            self._inner = core_synthesizer(
                response_mode, llm, helper, text_qa_template=text_qa_template, **kwargs
            )
        self._template = text_qa_template or EmphasisPromptTemplate.from_file("rag/qa.jinja")

    def _get_prompts(self) -> dict[str, Any]:
        if self._inner is not None:
            return self._inner.get_prompts()
        return {"text_qa_template": self._template}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        if self._inner is not None:
            kept = {
                name: keeping_emphasis(one, self._llm)
                for name, one in prompts.items()
                if name in TEMPLATES
            }
            self._inner.update_prompts(kept)
            return
        self._template = prompts.get("text_qa_template", self._template)

    def synthesize(
        self, query: Any, nodes: list[NodeWithScore], *args: Any, **response_kwargs: Any
    ) -> Any:
        """Answer a query from nodes."""
        if not nodes and isinstance(self._inner, Generation):
            return self._inner.synthesize(query, nodes, *args, **response_kwargs)
        marked = self._marked(query, nodes)
        response = super().synthesize(
            query, nodes, *args, emphasized_chunks=chunks_of(nodes, marked), **response_kwargs
        )
        return _with_spans(response, nodes, marked)

    async def asynthesize(
        self, query: Any, nodes: list[NodeWithScore], *args: Any, **response_kwargs: Any
    ) -> Any:
        """Answer a query from nodes."""
        if not nodes and isinstance(self._inner, Generation):
            return await self._inner.asynthesize(query, nodes, *args, **response_kwargs)
        marked = await asyncio.to_thread(self._marked, query, nodes)
        response = await super().asynthesize(
            query, nodes, *args, emphasized_chunks=chunks_of(nodes, marked), **response_kwargs
        )
        return _with_spans(response, nodes, marked)

    def get_response(
        self,
        query_str: str,
        text_chunks: Sequence[str],
        emphasized_chunks: Sequence[str] | None = None,
        **response_kwargs: Any,
    ) -> Any:
        """Answer a query from texts; `SpanStr` among them keep their emphasis."""
        chunks = emphasized_chunks or text_chunks
        if self._inner is not None:
            self._warn_of_templates(chunks)
            try:
                return self._inner.get_response(query_str, chunks, **response_kwargs)
            except RefusedError as refused:
                raise refused.error from None
        arguments = self._arguments(query_str, chunks, response_kwargs)
        if self._streaming:
            return self._llm.stream(self._template, **arguments)
        if self._output_cls is not None:
            return self._llm.structured_predict(self._output_cls, self._template, **arguments)
        return self._llm.predict(self._template, **arguments)

    async def aget_response(
        self,
        query_str: str,
        text_chunks: Sequence[str],
        emphasized_chunks: Sequence[str] | None = None,
        **response_kwargs: Any,
    ) -> Any:
        """Answer a query from texts; `SpanStr` among them keep their emphasis."""
        chunks = emphasized_chunks or text_chunks
        if self._inner is not None:
            self._warn_of_templates(chunks)
            try:
                return await self._inner.aget_response(query_str, chunks, **response_kwargs)
            except RefusedError as refused:
                raise refused.error from None
        arguments = self._arguments(query_str, chunks, response_kwargs)
        if self._streaming:
            return await self._llm.astream(self._template, **arguments)
        if self._output_cls is not None:
            return await self._llm.astructured_predict(
                self._output_cls, self._template, **arguments
            )
        return await self._llm.apredict(self._template, **arguments)

    def _warn_of_templates(self, chunks: Sequence[str]) -> None:
        """Tell of templates that lose emphasis, where there is some."""
        if not any(map(span_count, chunks)):
            return
        for name, template in self.get_prompts().items():
            if name in TEMPLATES and not keeps_emphasis(template):
                warnings.warn(
                    f"The {name}, a {type(template).__name__}, drops emphasis. Make it an "
                    "EmphasisPromptTemplate.",
                    EmphasisDroppedWarning,
                    stacklevel=2,
                )

    def _arguments(self, query: str, chunks: Sequence[str], more: dict[str, Any]) -> dict[str, Any]:
        """What the template is given, once it is sure that it keeps the emphasis of the chunks."""
        arguments = _arguments(query, chunks, more)
        spans = sum(map(span_count, chunks))
        if spans:
            plain = _arguments(query, [SpanStr(chunk).text for chunk in chunks], more)
            # The template's own emphasis must not pass for that of the chunks.
            if self._rendered_spans(arguments) - self._rendered_spans(plain) < spans:
                raise EmphasisError(
                    f"The text_qa_template, a {type(self._template).__name__}, drops emphasis: it "
                    "loses or leaves out some of the emphasized text. Make it an "
                    "EmphasisPromptTemplate that prints the text of all documents, or context_str."
                )
        return arguments

    def _rendered_spans(self, arguments: dict[str, Any]) -> int:
        if not self._llm.metadata.is_chat_model:
            return span_count(self._template.format(llm=self._llm, **arguments))
        messages = self._template.format_messages(llm=self._llm, **arguments)
        blocks = [block for message in messages for block in message.blocks]
        return sum(len(block.spans) for block in blocks if isinstance(block, EmphasisTextBlock))

    def _marked(self, query: str | QueryBundle, nodes: list[NodeWithScore]) -> list[SpanStr]:
        """The texts of nodes with what the policy emphasizes in them."""
        query_str = query if isinstance(query, str) else query.query_str
        self._refuse_images(nodes)
        chosen = spans_of(self._policy, nodes, query_str)
        marked = [marked_text(scored, spans) for scored, spans in zip(nodes, chosen, strict=True)]
        if self._wants_emphasis and nodes and not any(text.spans for text in marked):
            warnings.warn(
                f"Nothing in {len(nodes)} nodes was emphasized: the policy chose none of their "
                "text.",
                NothingEmphasizedWarning,
                stacklevel=3,
            )
        return marked

    def _refuse_images(self, nodes: Sequence[NodeWithScore]) -> None:
        for scored in nodes if self._wants_emphasis else ():
            if isinstance(scored.node, ImageNode) and not text_of(scored):
                raise PromptError(
                    f"Node {scored.node.node_id} is an image without text, and the model reads "
                    "text only. Leave it out with a node postprocessor, or give it a text."
                )


_OF_BASE = ("callback_manager", "prompt_helper", "streaming", "output_cls", "empty_response")
_OF_MODES = (
    *(*_OF_BASE, "refine_template", "summary_template", "simple_template", "use_async"),
    *("structured_answer_filtering", "program_factory", "verbose"),
)


def _helper(llm: LLM, given: PromptHelper | None) -> EmphasisPromptHelper:
    if given is None:
        tokenizer = llm.tokens_of if isinstance(llm, PastaLLM) else None
        given = EmphasisPromptHelper.from_llm_metadata(llm.metadata, tokenizer=tokenizer)
    return EmphasisPromptHelper.of(given)


def _check_arguments(given: dict[str, Any], known: Sequence[str]) -> None:
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise EmphasisError(
            f"EmphasisSynthesizer takes no {unknown[0]!r} in this response_mode. It takes "
            f"{', '.join(known)}."
        )


def _with_spans(response: Any, nodes: Sequence[NodeWithScore], marked: Sequence[SpanStr]) -> Any:
    told = {
        scored.node.node_id: [[span.start, span.end] for span in text.spans]
        for scored, text in zip(nodes, marked, strict=True)
    }
    response.metadata = {**(response.metadata or {}), KEY: told}
    return response


def _arguments(query: str, chunks: Sequence[str], more: dict[str, Any]) -> dict[str, Any]:
    joined = SpanStr("\n\n").join(chunks)
    return {
        "documents": [{"text": chunk} for chunk in chunks],
        "question": query,
        "context_str": joined,
        "query_str": query,
        **more,
    }
