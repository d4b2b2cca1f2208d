"""Emphasis that is recorded in documents, kept while they are split into nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.node_parser import NodeParser
from llama_index.core.schema import BaseNode, TransformComponent
from pydantic import SerializeAsAny

from pasta_chains.errors import EmphasisError
from pasta_chains.spans import SpanStr

from .alignment import alignments
from .recorded import KEY, node_text, recorded_spans, unread, with_recorded


class KeepEmphasis(TransformComponent):
    """Splits documents as a node parser does, and keeps the emphasis in their metadata exact.

        IngestionPipeline(transformations=[KeepEmphasis(parser=SentenceSplitter()), embed_model])

    Without it, every node has the spans of the whole document, which `emphasis="metadata"` refuses.

    Attributes:
        parser: The node parser.
    """

    parser: SerializeAsAny[NodeParser]  # the cache of a pipeline sees its settings, too

    @classmethod
    def class_name(cls) -> str:
        """Name of this class in serialized form."""
        return "KeepEmphasis"

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Split documents.

        Raises:
            EmphasisError: A document's spans are malformed or lie outside its text; or the parser
                rewrites text, so that nobody knows where its emphasis is.
        """
        return [made for node in nodes for made in self._split(node, **kwargs)]

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Split documents."""
        return self(nodes, **kwargs)

    def _split(self, node: BaseNode, **kwargs: Any) -> Sequence[BaseNode]:
        if KEY not in node.metadata:
            return self.parser([node], **kwargs)
        made = self.parser([unread(node)], **kwargs)
        wholes = {node.node_id: SpanStr(node_text(node), recorded_spans(node))}
        siblings: dict[str, list[BaseNode]] = {}
        for one in made:  # parents come before their children
            parent = one.parent_node.node_id if one.parent_node else node.node_id
            siblings.setdefault(parent, []).append(one)
        for parent, children in siblings.items():
            pieces = split_spans(wholes[parent], [node_text(one) for one in children])
            wholes |= {one.node_id: piece for one, piece in zip(children, pieces, strict=True)}
        return [with_recorded(one, wholes[one.node_id].spans) for one in made]


def split_spans(whole: SpanStr, pieces: Sequence[str]) -> list[SpanStr]:
    """The pieces of a text, in order, with the emphasis that lies in them.

    Pieces may overlap, as long as each begins and ends after the one before.

    Raises:
        EmphasisError: A piece is not in the text, or the pieces could lie in it in several ways
            that differ in their emphasis.
    """
    places = alignments(whole.text, pieces)
    if places is None:
        raise EmphasisError(
            "The pieces of a document are not in it one after the other, so its emphasis is lost: "
            f"{[piece[:40] for piece in pieces[:3]]!r}. Use a node parser that does not rewrite "
            "text, or choose what to emphasize after splitting, as with emphasis='facts'."
        )
    found = []
    for piece, starts in zip(pieces, places, strict=True):
        candidates = {whole[start : start + len(piece)].spans: start for start in starts}
        if len(candidates) > 1:
            raise EmphasisError(
                f"The text {piece[:60]!r} is in its document several times, and emphasized in some "
                "of these places only. Split without overlap, or by sentences."
            )
        start = next(iter(candidates.values()))
        found.append(whole[start : start + len(piece)])
    return found
