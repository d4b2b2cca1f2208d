"""Answers a query from retrieved nodes, with emphasis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from llama_index.core.prompts.base import BasePromptTemplate
from llama_index.core.response_synthesizers.base import BaseSynthesizer
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from pasta_chains.errors import EmphasisError, PromptError, UnsupportedModelError
from pasta_chains.spans import Span, SpanStr, concat, emphasize

from .llm import PastaLLM
from .prompts import EmphasisPromptTemplate

Policy: TypeAlias = (
    Literal["context", "trusted"] | Callable[[NodeWithScore, str], Sequence[Span | tuple[int, int]]]
)
"""What to emphasize of a retrieved node; see `EmphasisSynthesizer`."""


class EmphasisSynthesizer(BaseSynthesizer):
    """Answers a query from nodes, with emphasis on what the model is to believe.

    All nodes go into one prompt.

    Args:
        llm: The steered model.
        emphasis: What to emphasize. "context": every node. "trusted": the nodes with
            `trusted=True` in their metadata. A function of node and query: the spans of the
            node's text that it returns, an empty list for none.
        text_qa_template: Gets `documents` (each with `text`) and `question`, and the same joined as
            `context_str` and `query_str`; by default the shipped `rag/qa.jinja`.
        **kwargs: Those of `BaseSynthesizer`, such as `streaming`.

    Raises:
        UnsupportedModelError: The model is none of ours and would lose the emphasis.
    """

    def __init__(
        self,
        llm: PastaLLM,
        emphasis: Policy = "context",
        text_qa_template: BasePromptTemplate | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(llm, PastaLLM):
            raise UnsupportedModelError(
                f"EmphasisSynthesizer needs a pasta_chains.llama_index.PastaLLM; "
                f"{type(llm).__name__} would lose the emphasis."
            )
        if not callable(emphasis) and emphasis not in ("context", "trusted"):
            raise EmphasisError(
                f"emphasis is {emphasis!r}; it must be 'context', 'trusted' or a function of node "
                "and query that returns spans."
            )
        super().__init__(llm=llm, **kwargs)
        self._emphasis = emphasis
        self._template = text_qa_template or EmphasisPromptTemplate.from_file("rag/qa.jinja")

    def _get_prompts(self) -> dict[str, Any]:
        return {"text_qa_template": self._template}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        self._template = prompts.get("text_qa_template", self._template)

    def synthesize(
        self, query: Any, nodes: list[NodeWithScore], *args: Any, **response_kwargs: Any
    ) -> Any:
        """Answer a query from nodes."""
        chunks = self._emphasized(query, nodes)
        return super().synthesize(query, nodes, *args, emphasized_chunks=chunks, **response_kwargs)

    async def asynthesize(
        self, query: Any, nodes: list[NodeWithScore], *args: Any, **response_kwargs: Any
    ) -> Any:
        """Answer a query from nodes."""
        chunks = self._emphasized(query, nodes)
        return await super().asynthesize(
            query, nodes, *args, emphasized_chunks=chunks, **response_kwargs
        )

    def get_response(
        self,
        query_str: str,
        text_chunks: Sequence[str],
        emphasized_chunks: Sequence[str] | None = None,
        **response_kwargs: Any,
    ) -> Any:
        """Answer a query from texts; `SpanStr` among them keep their emphasis."""
        arguments = _arguments(query_str, emphasized_chunks or text_chunks, response_kwargs)
        if self._streaming:
            return self._llm.stream(self._template, **arguments)
        return self._llm.predict(self._template, **arguments)

    async def aget_response(
        self,
        query_str: str,
        text_chunks: Sequence[str],
        emphasized_chunks: Sequence[str] | None = None,
        **response_kwargs: Any,
    ) -> Any:
        """Answer a query from texts; `SpanStr` among them keep their emphasis."""
        arguments = _arguments(query_str, emphasized_chunks or text_chunks, response_kwargs)
        if self._streaming:
            return await self._llm.astream(self._template, **arguments)
        return await self._llm.apredict(self._template, **arguments)

    def _emphasized(self, query: str | QueryBundle, nodes: list[NodeWithScore]) -> list[SpanStr]:
        query_str = query if isinstance(query, str) else query.query_str
        return [self._emphasized_node(query_str, node) for node in nodes]

    def _emphasized_node(self, query: str, scored: NodeWithScore) -> SpanStr:
        """The node's text for the model, metadata included, with what the policy marks in it."""
        text = scored.node.get_content(metadata_mode=MetadataMode.NONE)
        if callable(self._emphasis):
            marked = SpanStr(text, self._emphasis(scored, query))
        elif text and (self._emphasis == "context" or scored.node.metadata.get("trusted") is True):
            marked = emphasize(text)
        else:
            marked = SpanStr(text)
        return (
            _with_metadata(scored, marked)
            if marked.spans
            else SpanStr(scored.node.get_content(metadata_mode=MetadataMode.LLM))
        )


def _with_metadata(scored: NodeWithScore, text: SpanStr) -> SpanStr:
    """Put a node's text where `get_content` puts it: between the metadata of its template."""
    official = scored.node.get_content(metadata_mode=MetadataMode.LLM)
    if official == text:
        return text
    node = scored.node
    metadata = node.get_metadata_str(mode=MetadataMode.LLM)
    if isinstance(node, TextNode) and node.text_template.count("{content}") == 1:
        before, after = node.text_template.split("{content}")
        fill = {"metadata_str": metadata}
        whole = concat([before.format(**fill), text, after.format(**fill)]).strip()
        if whole == official:
            return whole
    raise PromptError(
        f"The text of node {node.node_id} cannot be followed through its own template, so its "
        "emphasis could be misplaced. Give it a text_template with one {content}."
    )


def _arguments(query: str, chunks: Sequence[str], more: dict[str, Any]) -> dict[str, Any]:
    joined = SpanStr("\n\n").join(chunks)
    return {
        "documents": [{"text": chunk} for chunk in chunks],
        "question": query,
        "context_str": joined,
        "query_str": query,
        **more,
    }
