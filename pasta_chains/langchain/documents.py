"""Emphasis for retrieved documents."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import Runnable, RunnableLambda

from ..errors import NothingEmphasizedWarning, PromptError
from ..selection import Scorer, bm25_scores, embedding_scores, select_among
from ..spans import Span, SpanStr

Which: TypeAlias = Literal["all", "trusted"] | Callable[[Document], bool]
"""All documents, those with `trusted=True` in their metadata, or those that a function chooses."""


def emphasize_documents(
    which: Which = "all",
    *,
    sentences: Literal["bm25"] | Embeddings | Scorer | None = None,
    count: int | None = None,
    each: int | None = 1,
    alpha: float | None = None,
    name: str = "facts",
) -> Runnable[Any, Any]:
    """Turn retrieved documents into texts with emphasis, for a prompt template.

        found = RunnableParallel(documents=retriever, question=RunnablePassthrough())
        prompt = EmphasisPromptTemplate.from_file("rag/qa.jinja")
        chain = found | emphasize_documents("trusted") | prompt | llm

    Args:
        which: Which documents: "all", "trusted" (`trusted=True` in their metadata), or a function
            of a document, such as `lambda document: document.metadata["score"] > 0.7`.
        sentences: Emphasize in these documents only the sentences that answer the question: by
            shared words ("bm25"), by an embedding model, or by a scorer such as those of
            `pasta_chains.selection`. By default the whole document.
        count: Most sentences of all documents together; None for no such limit.
        each: Most sentences of one document; None for no such limit.
        alpha: How strongly; None leaves it to the model.
        name: Name of the spans, by which a call can tune them: `alphas={"facts": 0.001}`.

    Returns:
        A runnable. It takes a mapping with `documents` and `question`, and returns it with each
        document as `{"text": …, "metadata": …}`, the text a `SpanStr`.

    Raises:
        PromptError: The arguments are of another kind; or, when it runs, what it is given.
        EmphasisError: As `select_sentences` does, when it runs.
    """
    if which not in ("all", "trusted") and not callable(which):
        raise PromptError(f"which is {which!r}; it must be 'all', 'trusted' or a function.")
    scores = _scorer(sentences)
    if scores is None and (count, each) != (None, 1):
        raise PromptError(
            "count and each count sentences: say how they are judged with sentences=…, too."
        )

    def emphasized(given: Mapping[str, Any]) -> dict[str, Any]:
        question, documents = _read(given)
        texts = [SpanStr(document.page_content) for document in documents]
        chosen = [i for i, document in enumerate(documents) if _is_chosen(which, document)]
        if scores is None:
            ranges = [[(0, len(texts[i]))] if texts[i].strip() else [] for i in chosen]
        else:
            judged = [texts[i] for i in chosen]
            ranges = select_among(question, judged, scores, count=count, each=each)
        for i, found in zip(chosen, ranges, strict=True):
            texts[i] = SpanStr(texts[i], [Span(*place, alpha, name) for place in found])
        shown: list[dict[str, Any]] = [
            {"text": text, "metadata": document.metadata}
            for text, document in zip(texts, documents, strict=True)
        ]
        if shown and not any(one["text"].spans for one in shown):
            warnings.warn(
                f"None of {len(shown)} documents was emphasized: none was chosen, or no sentence "
                "in those that were has to do with the question.",
                NothingEmphasizedWarning,
                stacklevel=2,
            )
        return {**given, "documents": shown}

    return RunnableLambda(emphasized, name="emphasize_documents")


def _scorer(sentences: Any) -> Scorer | None:
    if sentences is None or callable(sentences):
        return sentences  # type: ignore[no-any-return]  # None or a scorer
    if sentences == "bm25":
        return bm25_scores
    if isinstance(sentences, Embeddings):

        def embed(texts: list[str]) -> list[list[float]]:
            question, *rest = texts
            return [sentences.embed_query(question), *sentences.embed_documents(rest)]

        return embedding_scores(embed)
    raise PromptError(
        f"sentences is {sentences!r}; it must be 'bm25', an Embeddings, or a function of question "
        "and sentences."
    )


def _read(given: Any) -> tuple[str, Sequence[Document]]:
    if not isinstance(given, Mapping) or not {"documents", "question"} <= given.keys():
        raise PromptError(
            "emphasize_documents takes a mapping with 'documents' and 'question', not "
            f"{sorted(given) if isinstance(given, Mapping) else type(given).__name__}."
        )
    question, documents = given["question"], given["documents"]
    if not isinstance(question, str):
        raise PromptError(f"The question is {question!r}; it must be a text.")
    for document in documents:
        if not isinstance(document, Document):
            raise PromptError(f"There is {document!r} among the documents; it is no Document.")
    return question, documents


def _is_chosen(which: Which, document: Document) -> bool:
    if callable(which):
        return bool(which(document))
    if which == "all":
        return True
    trusted = document.metadata.get("trusted", False)
    if not isinstance(trusted, bool):
        raise PromptError(f"A document has trusted={trusted!r} in its metadata, not True or False.")
    return trusted
