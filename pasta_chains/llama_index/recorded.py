"""Spans in the metadata of nodes and documents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeVar

from llama_index.core.schema import BaseNode, MetadataMode

from pasta_chains.errors import EmphasisError
from pasta_chains.spans import Span

KEY = "emphasis"
"""Where metadata holds the spans of a text."""

Node = TypeVar("Node", bound=BaseNode)


def node_text(node: BaseNode) -> str:
    """The text of a node, without metadata."""
    return node.get_content(metadata_mode=MetadataMode.NONE)


def recorded_spans(node: BaseNode) -> list[Span]:
    """The spans in a node's metadata.

    They are a list such as `[[0, 20], [30, 40, 0.1, "name"]]`, or what `with_recorded` wrote;
    either may be JSON, for stores that keep no lists.

    Raises:
        EmphasisError: They are malformed, or those of another text.
    """
    given = node.metadata[KEY]
    source = node.source_node
    if given and source is not None and source.metadata.get(KEY) == given:
        raise EmphasisError(
            f"Node {node.node_id} has the emphasis of the document that it was split from, whose "
            "characters are others. Split documents with KeepEmphasis(parser=…)."
        )
    try:
        recorded = json.loads(given) if isinstance(given, str) else given
        if isinstance(recorded, Mapping):
            text_of_spans, recorded = recorded["of"], recorded["spans"]
            if text_of_spans != digest(node_text(node)):
                raise EmphasisError(
                    f"The text of node {node.node_id} was changed after its emphasis was recorded. "
                    "Record it again, or for numbered sources use EmphasisCitationQueryEngine."
                )
        return [_span(one) for one in recorded]
    except (TypeError, ValueError, KeyError) as error:
        if isinstance(error, EmphasisError):
            raise
        raise EmphasisError(
            f"The metadata of node {node.node_id} has {KEY}={given!r}; it must be a list of "
            "[start, end], [start, end, alpha] or [start, end, alpha, name]."
        ) from error


def with_recorded(node: Node, spans: Sequence[Span]) -> Node:
    """A copy of a node with spans in its metadata, which neither models nor embeddings read."""
    of, given = digest(node_text(node)), node.metadata.get(KEY)
    recorded: Any = {"of": of, "spans": [list(span) for span in spans]}
    if isinstance(given, str):  # as the store wants it
        recorded = json.dumps(recorded)
    relationships = {kind: _without_key(other) for kind, other in node.relationships.items()}
    marked = {"metadata": {**node.metadata, KEY: recorded}, "relationships": relationships}
    return unread(node).model_copy(update=marked)


def unread(node: Node) -> Node:
    """A copy of a node whose spans neither models nor embeddings read as text."""
    names = ("excluded_llm_metadata_keys", "excluded_embed_metadata_keys")
    return node.model_copy(update={name: _with_key(getattr(node, name)) for name in names})


def digest(text: str) -> str:
    """What tells whether a text is the one that spans were recorded for."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _without_key(related: Any) -> Any:
    """What a node knows of another one, which has spans of its own."""
    if isinstance(related, list):
        return [_without_key(one) for one in related]
    rest = {name: value for name, value in related.metadata.items() if name != KEY}
    return related.model_copy(update={"metadata": rest})


def _with_key(excluded: Sequence[str]) -> list[str]:
    return [*excluded] if KEY in excluded else [*excluded, KEY]


def _span(recorded: Any) -> Span:
    if isinstance(recorded, Mapping):
        return Span(**recorded)
    return Span(*recorded)
