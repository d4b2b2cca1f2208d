"""Emphasis that is recorded in documents, kept while they are split into nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llama_index.core.node_parser import NodeParser
from llama_index.core.schema import BaseNode, TransformComponent

from pasta_chains.errors import EmphasisError
from pasta_chains.spans import SpanStr

from .recorded import KEY, node_text, recorded_spans, unread, with_recorded


class KeepEmphasis(TransformComponent):
    """Splits documents as a node parser does, and keeps the emphasis in their metadata exact.

        IngestionPipeline(transformations=[KeepEmphasis(parser=SentenceSplitter()), embed_model])

    Without it, every node has the spans of the whole document, which `emphasis="metadata"` refuses.

    Attributes:
        parser: The node parser.
    """

    parser: NodeParser

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
        wholes = {None: SpanStr(node_text(node), recorded_spans(node))}
        siblings: dict[str | None, list[BaseNode]] = {}
        for one in made:  # parents come before their children
            parent = one.parent_node and one.parent_node.node_id
            siblings.setdefault(parent if parent != node.node_id else None, []).append(one)
        for parent, children in siblings.items():
            pieces = split_spans(wholes[parent], [node_text(one) for one in children])
            wholes |= {one.node_id: piece for one, piece in zip(children, pieces, strict=True)}
        return [with_recorded(one, wholes[one.node_id].spans) for one in made]


def split_spans(whole: SpanStr, pieces: Sequence[str]) -> Iterator[SpanStr]:
    """The pieces of a text, in order, with the emphasis that lies in them.

    Pieces may overlap, as long as each reaches further than the one before.

    Raises:
        EmphasisError: A piece is not in the text, or could be in several places whose emphasis
            differs.
    """
    start, end = -1, 0
    for piece in pieces:
        places = [
            place
            for place in _places(whole.text, piece, start + 1)
            if place + len(piece) > end or not piece
        ]
        if not places:
            raise EmphasisError(
                f"The text {piece[:60]!r} is not in the document that it was split from, so its "
                "emphasis is lost. Use a node parser that does not rewrite text, or choose what to "
                "emphasize after splitting, as with emphasis='facts'."
            )
        touching = [place for place in places if not whole.text[end:place].strip()]
        found = {whole[place : place + len(piece)].spans for place in touching or places}
        if len(found) > 1:
            raise EmphasisError(
                f"The text {piece[:60]!r} is in its document several times, and emphasized in one "
                "place only. Split by sentences, or without overlap."
            )
        start = (touching or places)[0]
        end = start + len(piece)
        yield whole[start:end]


def _places(text: str, piece: str, start: int) -> Iterator[int]:
    place = text.find(piece, start)
    while place >= 0:
        yield place
        place = text.find(piece, place + 1)
