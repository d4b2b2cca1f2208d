"""Answers a query from retrieved nodes, with emphasis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from llama_index.core.prompts.base import BasePromptTemplate
from llama_index.core.response_synthesizers.base import BaseSynthesizer
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from pasta_chains.errors import EmphasisError, PromptError, UnsupportedModelError
from pasta_chains.spans import Span, SpanStr, concat, emphasize, span_count

from .llm import PastaLLM
from .prompts import EmphasisPromptTemplate, EmphasisTextBlock

PolicyFunction: TypeAlias = Callable[[NodeWithScore, str], Sequence[Span | tuple[int, int]]]
Policy: TypeAlias = Literal["context", "trusted"] | PolicyFunction
"""What to emphasize of a retrieved node; see `EmphasisSynthesizer`."""


class EmphasisSynthesizer(BaseSynthesizer):
    """Answers a query from nodes, with emphasis on what the model is to believe.

    All nodes go into one prompt.

    Args:
        llm: The steered model.
        emphasis: What to emphasize. "context": every node. "trusted": the nodes with
            `trusted=True` in their metadata, where nothing but True, False or its absence is
            accepted. A function of node and query: the spans of the
            node's text that it returns, an empty list for none.
        text_qa_template: Gets `documents` (each with `text`) and `question`, and the same joined as
            `context_str` and `query_str`; by default the shipped `rag/qa.jinja`.
        **kwargs: Those of `BaseSynthesizer`, such as `streaming`.

    Raises:
        UnsupportedModelError: The model is none of ours and would lose the emphasis.
        EmphasisError: The policy is unknown; or, when a query is answered, `trusted` is neither
            True nor False, a function returns no spans, or the template drops emphasis.
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
        arguments = self._arguments(query_str, emphasized_chunks or text_chunks, response_kwargs)
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
        arguments = self._arguments(query_str, emphasized_chunks or text_chunks, response_kwargs)
        if self._streaming:
            return await self._llm.astream(self._template, **arguments)
        return await self._llm.apredict(self._template, **arguments)

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

    def _emphasized(self, query: str | QueryBundle, nodes: list[NodeWithScore]) -> list[SpanStr]:
        query_str = query if isinstance(query, str) else query.query_str
        return [self._emphasized_node(query_str, node) for node in nodes]

    def _emphasized_node(self, query: str, scored: NodeWithScore) -> SpanStr:
        """The node's text for the model, metadata included, with what the policy marks in it."""
        text = scored.node.get_content(metadata_mode=MetadataMode.NONE)
        if callable(self._emphasis):
            marked = self._marked_by_policy(self._emphasis, scored, query, text)
        elif text and (self._emphasis == "context" or _is_trusted(scored)):
            marked = emphasize(text)
        else:
            marked = SpanStr(text)
        return (
            _with_metadata(scored, marked)
            if marked.spans
            else SpanStr(scored.node.get_content(metadata_mode=MetadataMode.LLM))
        )

    def _marked_by_policy(
        self, policy: PolicyFunction, scored: NodeWithScore, query: str, text: str
    ) -> SpanStr:
        try:
            return SpanStr(text, policy(scored, query))
        except EmphasisError as error:
            raise EmphasisError(
                f"The emphasis function gave no spans of node {scored.node.node_id}: {error}"
            ) from error


def _is_trusted(scored: NodeWithScore) -> bool:
    trusted = scored.node.metadata.get("trusted", False)
    if not isinstance(trusted, bool):
        raise EmphasisError(
            f"The metadata of node {scored.node.node_id} has trusted={trusted!r}; it must be True "
            "or False, or absent for False."
        )
    return trusted


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
