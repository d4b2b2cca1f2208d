"""Records in nodes what of them is to be emphasized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle
from pydantic import PrivateAttr

from pasta_chains.errors import EmphasisError
from pasta_chains.spans import SpanStr

from .policies import Policy, facts, policy_of, spans_of, text_of
from .recorded import with_recorded


class FactEmphasis(BaseNodePostprocessor):
    """Records in nodes the sentences that answer the query, without rewriting their texts.

        engine = index.as_query_engine(node_postprocessors=[FactEmphasis(facts(embed_model))], …)

    `EmphasisSynthesizer(emphasis="metadata")` reads what was recorded: `node.metadata["emphasis"]`,
    which is left out of what models and embeddings read. The index's own nodes stay as they are.

    Args:
        policy: What to record; by default the facts that BM25 finds.
        **kwargs: Those of `BaseNodePostprocessor`.

    Raises:
        EmphasisError: The policy is unknown; or, when nodes are processed, there is no query, or
            a span lies outside a node's text.
    """

    _policy: Any = PrivateAttr()

    def __init__(self, policy: Policy | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._policy = facts() if policy is None else policy_of(policy)

    @classmethod
    def class_name(cls) -> str:
        """Name of this class in serialized form."""
        return "FactEmphasis"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise EmphasisError("Without a query there are no facts to emphasize.")
        chosen = spans_of(self._policy, nodes, query_bundle.query_str)
        return [_recorded(scored, spans) for scored, spans in zip(nodes, chosen, strict=True)]


def _recorded(scored: NodeWithScore, spans: Sequence[Any]) -> NodeWithScore:
    marked = SpanStr(text_of(scored), spans)
    return NodeWithScore(node=with_recorded(scored.node, marked.spans), score=scored.score)
