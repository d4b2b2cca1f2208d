"""The demo's two pipelines: the same documents and question through LangChain and LlamaIndex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from llama_index.core.query_engine import RetrieverQueryEngine

from .. import langchain, llama_index
from ..emphasis_model import EmphasisModel
from ..errors import DocumentError
from ..spans import SpanStr
from .retrieval import Bm25, FileRetriever, NodeRetriever

RETRIEVED = 4
"""Documents in a prompt."""


@dataclass(frozen=True)
class Demonstration:
    """What the demo shows of one question.

    Attributes:
        prompt: The rendered prompt with its emphasis.
        answers: For each framework the answer without and with emphasis.
    """

    prompt: SpanStr
    answers: dict[str, tuple[str, str]]


def demonstrate(
    model: EmphasisModel, index: Bm25, question: str, trusted: str, *, chat: bool
) -> Demonstration:
    """Answer a question without emphasis, and with emphasis on one document, in both frameworks.

    Args:
        model: The steered model.
        index: The documents.
        question: What to ask.
        trusted: Name of the file to emphasize.
        chat: Ask through the model's chat template.

    Raises:
        DocumentError: The trusted file is not among the documents that the question finds.
    """
    found = [file.name for file, _ in index.search(question, RETRIEVED)]
    if trusted not in found:
        raise DocumentError(
            f"{trusted} is not among the {len(found)} documents found for this question "
            f"({', '.join(found)}), so nothing would be emphasized. Trust one of those, or ask a "
            "question that shares more words with it."
        )
    documents = FileRetriever(index=index, count=RETRIEVED).invoke(question)
    prompt = _template().format(documents=_marked(trusted, documents), question=question)
    return Demonstration(
        prompt,
        {
            "LangChain": (
                langchain_chain(model, index, "", chat=chat).invoke(question).strip(),
                langchain_chain(model, index, trusted, chat=chat).invoke(question).strip(),
            ),
            "LlamaIndex": (
                str(llama_index_engine(model, index, "", chat=chat).query(question)).strip(),
                str(llama_index_engine(model, index, trusted, chat=chat).query(question)).strip(),
            ),
        },
    )


def langchain_chain(
    model: EmphasisModel, index: Bm25, trusted: str, *, chat: bool
) -> Runnable[str, str]:
    """A retrieval chain that emphasizes one file; none with an empty name."""
    documents = FileRetriever(index=index, count=RETRIEVED) | RunnableLambda(
        lambda found: _marked(trusted, found)
    )
    return (
        {"documents": documents, "question": RunnablePassthrough()}
        | _template()
        | langchain.PastaLLM(model=model, use_chat_template=chat)
        | StrOutputParser()
    )


def llama_index_engine(
    model: EmphasisModel, index: Bm25, trusted: str, *, chat: bool
) -> RetrieverQueryEngine:
    """A query engine that emphasizes one file; none with an empty name."""
    synthesizer = llama_index.EmphasisSynthesizer(
        llm=llama_index.PastaLLM(model, use_chat_template=chat),
        emphasis="trusted" if trusted else "none",
    )
    return RetrieverQueryEngine(NodeRetriever(index, RETRIEVED, trusted), synthesizer)


def _template() -> langchain.EmphasisPromptTemplate:
    return langchain.EmphasisPromptTemplate.from_file("rag/qa.jinja")


def _marked(trusted: str, documents: Sequence[Document]) -> list[dict[str, Any]]:
    return [
        {"text": document.page_content, "trusted": document.metadata["source"] == trusted}
        for document in documents
    ]
