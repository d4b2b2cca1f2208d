"""What a model reads of nodes, with what is emphasized in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, TextNode

from pasta_chains.errors import EmphasisError, PromptError
from pasta_chains.spans import SpanStr, concat

from .policies import text_of
from .recorded import KEY, unread


def marked_text(scored: NodeWithScore, spans: Sequence[Any]) -> SpanStr:
    """The text of a node with what is emphasized in it.

    Raises:
        EmphasisError: A span is malformed or lies outside the text.
    """
    try:
        return SpanStr(text_of(scored), spans)
    except EmphasisError as error:
        raise EmphasisError(f"Node {scored.node.node_id} cannot be emphasized: {error}") from error


def chunks_of(nodes: Sequence[NodeWithScore], marked: Sequence[SpanStr]) -> list[SpanStr]:
    """What the model reads of nodes, their metadata included."""
    return [
        _with_metadata(unread(scored.node) if KEY in scored.node.metadata else scored.node, text)
        for scored, text in zip(nodes, marked, strict=True)
    ]


def _with_metadata(node: BaseNode, text: SpanStr) -> SpanStr:
    """Put a node's text where `get_content` puts it: between the metadata of its template."""
    official = node.get_content(metadata_mode=MetadataMode.LLM)
    if not text.spans:
        return SpanStr(official)
    if official == text:
        return text
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
