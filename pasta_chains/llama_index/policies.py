"""What of a retrieved node is emphasized: functions of a node and a query that give spans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.llms import LLM
from llama_index.core.schema import NodeWithScore

from pasta_chains.errors import EmphasisError
from pasta_chains.selection import (
    Scorer,
    bm25_scores,
    embedding_scores,
    named_scores,
    select_among,
)
from pasta_chains.spans import Span

from .recorded import KEY, node_text, recorded_spans

PolicyFunction: TypeAlias = Callable[[NodeWithScore, str], Sequence[Span | tuple[int, int]]]
Policy: TypeAlias = (
    Literal["context", "trusted", "facts", "window", "metadata", "none"] | PolicyFunction
)
"""What to emphasize of a retrieved node; see `EmphasisSynthesizer`."""


def policy_of(emphasis: Policy) -> PolicyFunction:
    """The function that a name stands for.

    Raises:
        EmphasisError: There is no such policy.
    """
    if callable(emphasis):
        return emphasis
    if emphasis not in _POLICIES:
        names = ", ".join(map(repr, _POLICIES))
        raise EmphasisError(
            f"emphasis is {emphasis!r}; it must be one of {names}, or a function of node and query "
            "that returns spans."
        )
    return _POLICIES[emphasis]


def text_of(scored: NodeWithScore) -> str:
    """The text of a node, without metadata."""
    return node_text(scored.node)


def spans_of(
    policy: PolicyFunction, nodes: Sequence[NodeWithScore], query: str
) -> list[Sequence[Span | tuple[int, int]]]:
    """What a policy emphasizes of each of several nodes.

    Raises:
        EmphasisError: A node cannot be emphasized; it is named.
    """
    if isinstance(policy, Facts):
        return [*policy.among(nodes, query)]
    found = []
    for scored in nodes:
        try:
            found.append(policy(scored, query))
        except EmphasisError as error:
            raise EmphasisError(
                f"Node {scored.node.node_id} cannot be emphasized: {error}"
            ) from error
    return found


def facts(
    scores: Literal["bm25"] | BaseEmbedding | LLM | Scorer = "bm25",
    *,
    count: int | None = None,
    each: int | None = 1,
    alpha: float | None = None,
    name: str | None = "facts",
) -> PolicyFunction:
    """Emphasizes the sentences that answer the query: by default the best one of each node.

    A node whose metadata says `trusted=False` has none.

    Args:
        scores: How sentences are judged: "bm25"; an embedding model, best the index's own; a
            model, which is asked to name the sentence (AutoPASTA, arXiv 2409.10790); or a function
            of query and sentences that returns a number for each.
        count: Most sentences of all nodes together; None for no such limit.
        each: Most sentences of one node; None for no such limit.
        alpha: How strongly; None leaves it to the model.
        name: Name of the spans.

    Raises:
        EmphasisError: There is no such way to judge sentences.
    """
    return Facts(_scorer(scores), count, each, alpha, name)


@dataclass(frozen=True)
class Facts:
    """The policy that `facts` makes; it can compare the sentences of several nodes."""

    scorer: Scorer
    count: int | None
    each: int | None
    alpha: float | None
    name: str | None

    def __call__(self, scored: NodeWithScore, query: str) -> list[Span]:
        """The spans of one node."""
        return self.among([scored], query)[0]

    def among(self, nodes: Sequence[NodeWithScore], query: str) -> list[list[Span]]:
        """The spans of each of several nodes."""
        asked = [i for i, scored in enumerate(nodes) if not _is_distrusted(scored)]
        texts = [text_of(nodes[i]) for i in asked]
        found = select_among(query, texts, self.scorer, count=self.count, each=self.each)
        spans: list[list[Span]] = [[] for _ in nodes]
        for i, ranges in zip(asked, found, strict=True):
            spans[i] = [Span(start, end, self.alpha, self.name) for start, end in ranges]
        return spans


def above_score(
    minimum: float, *, alpha: float | None = None, name: str | None = None
) -> PolicyFunction:
    """Emphasizes the nodes that the retriever scored at least so high.

    Raises:
        EmphasisError: When a query is answered: a node has no score.
    """

    def chosen(scored: NodeWithScore, query: str) -> list[Span]:
        if scored.score is None:
            raise EmphasisError(
                f"Node {scored.node.node_id} has no score, so it cannot be emphasized by it. Use "
                "a retriever or a postprocessor that scores nodes."
            )
        return _whole(text_of(scored), alpha, name) if scored.score >= minimum else []

    return chosen


def _scorer(scores: Any) -> Scorer:
    if scores == "bm25":
        return bm25_scores
    if isinstance(scores, BaseEmbedding):

        def embed(texts: list[str]) -> list[list[float]]:
            query, *rest = texts
            return [scores.get_query_embedding(query), *scores.get_text_embedding_batch(rest)]

        return embedding_scores(embed)
    if isinstance(scores, LLM):
        return named_scores(lambda prompt: scores.complete(prompt).text)
    if callable(scores):
        return scores  # type: ignore[no-any-return]  # a scorer
    raise EmphasisError(
        f"scores is {scores!r}; it must be 'bm25', an embedding model, an LLM, or a function of "
        "query and sentences."
    )


def _whole(text: str, alpha: float | None = None, name: str | None = None) -> list[Span]:
    return [Span(0, len(text), alpha, name)] if text else []


def _context(scored: NodeWithScore, query: str) -> list[Span]:
    return _whole(text_of(scored))


def _none(scored: NodeWithScore, query: str) -> list[Span]:
    return []


def _trusted(scored: NodeWithScore, query: str) -> list[Span]:
    return _whole(text_of(scored)) if _is_trusted(scored) else []


def _is_distrusted(scored: NodeWithScore) -> bool:
    return "trusted" in scored.node.metadata and not _is_trusted(scored)


def _is_trusted(scored: NodeWithScore) -> bool:
    trusted = scored.node.metadata.get("trusted", False)
    if not isinstance(trusted, bool):
        raise EmphasisError(
            f"The metadata of node {scored.node.node_id} has trusted={trusted!r}; it must be True "
            "or False, or absent for False."
        )
    return trusted


def _window(scored: NodeWithScore, query: str) -> list[Span]:
    """The sentence that was found, inside the window that replaced it."""
    text, node = text_of(scored), scored.node
    original = str(node.metadata.get("original_text", "")).strip()
    if not original:
        raise EmphasisError(
            f"Node {node.node_id} has no original_text in its metadata, so it has no window. Parse "
            "documents with SentenceWindowNodeParser."
        )
    start = text.find(original)
    if start < 0:
        raise EmphasisError(f"The window of node {node.node_id} does not hold its original_text.")
    return [Span(start, start + len(original))]


def _metadata(scored: NodeWithScore, query: str) -> list[Span]:
    """The spans in a node's metadata; or all of it, if it is trusted."""
    if KEY not in scored.node.metadata:
        return _trusted(scored, query)
    return recorded_spans(scored.node)


_POLICIES: Mapping[str, PolicyFunction] = {
    "context": _context,
    "trusted": _trusted,
    "facts": facts(),
    "window": _window,
    "metadata": _metadata,
    "none": _none,
}
