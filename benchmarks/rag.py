"""A retrieval chain with emphasis on one source: `python benchmarks/rag.py --report FILE`.

Documents of the embedded model's world lie in a vector store, embedded by a real model. For each
question two of them disagree: one is from the registry, which is trusted, one is a rumor. All other
documents are from either. The chain retrieves, emphasizes by source, and answers.
"""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableParallel, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from machine import processor, versions
from minilm import LangChainMiniLM

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.demo.questions import DISAGREEING, Case, draw_cases, outcome, states
from pasta_chains.langchain import EmphasisPromptTemplate, PastaLLM, emphasize_documents
from pasta_chains.selection import sentence_spans

PACKAGES = ("pasta-chains", "langchain-core", "sentence-transformers", "torch", "transformers")
REGISTRY, RUMOR = "registry", "rumor"


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    chunks: str
    condition: str
    trusted: float
    other: float
    found: float


def documents_of(cases: list[Case], rng: Random) -> list[Document]:
    """All documents, each with its source."""
    found = []
    for case in cases:
        for number, text in enumerate(case.documents):
            source = rng.choice((REGISTRY, RUMOR))
            if number in (case.trusted, case.disputed):
                source = REGISTRY if number == case.trusted else RUMOR
            found.append(Document(text, metadata={"source": source}))
    return found


def sentences_of(documents: list[Document]) -> list[Document]:
    """Each sentence as a document, since a document here states several unrelated facts."""
    return [
        Document(document.page_content[start:end], metadata=document.metadata)
        for document in documents
        for start, end in sentence_spans(document.page_content)
    ]


def chain_of(retriever: Runnable, source: str, sentences: Any, llm: Runnable) -> Runnable:
    """Retrieves, emphasizes what is from one source, and answers."""
    retrieved = RunnableParallel(documents=retriever, question=RunnablePassthrough())
    chosen = emphasize_documents(
        lambda document: document.metadata["source"] == source,
        sentences=sentences,
        count=None if sentences is None else 1,
    )
    prompt = EmphasisPromptTemplate.from_file("rag/qa.jinja")
    return retrieved | chosen | prompt | llm | StrOutputParser()


def measure(cases: list[Case], retriever: Runnable, chunks: str) -> list[Line]:
    """What the chain answers in each condition, and how often both values were found."""
    steered = PastaLLM(model=SteeredModel.from_pretrained(MODEL), max_new_tokens=64)
    plain = PastaLLM(model=steered.model, max_new_tokens=64, disable_steering=True)
    questions = [case.question for case in cases]
    found = sum(map(both_found, cases, retriever.batch(questions))) / len(cases)
    lines = []
    embeddings = LangChainMiniLM()
    for condition, source, sentences, llm in (
        ("no emphasis", REGISTRY, None, plain),
        ("the registry emphasized", REGISTRY, None, steered),
        ("the registry's best sentence, by embeddings", REGISTRY, embeddings, steered),
        ("the registry's best sentence, by BM25", REGISTRY, "bm25", steered),
        ("rumors emphasized", RUMOR, None, steered),
        ("rumors' best sentence, by embeddings", RUMOR, embeddings, steered),
    ):
        answers: list[str] = []
        for start in range(0, len(cases), 50):
            answers += chain_of(retriever, source, sentences, llm).batch(
                questions[start : start + 50]
            )
        outcomes = [outcome(answer, case) for answer, case in zip(answers, cases, strict=True)]
        share = [outcomes.count(kind) / len(outcomes) for kind in ("wanted", "other")]
        lines.append(Line(chunks, condition, *share, found))
    return lines


def both_found(case: Case, documents: list[Document]) -> bool:
    """Whether the registry's value and the rumor's are in what was retrieved."""
    return all(
        any(
            document.metadata["source"] == source and states(document.page_content, value)
            for document in documents
        )
        for source, value in ((REGISTRY, case.wanted or ""), (RUMOR, case.other or ""))
    )


def main(
    questions: Annotated[int, typer.Option(help="How many.")] = 500,
    retrieved: Annotated[int, typer.Option(help="Documents for each.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the world.")] = 20,
    report: Annotated[Path | None, typer.Option(help="Write the page as Markdown.")] = None,
) -> None:
    """Measure, and print the page."""
    began = time.perf_counter()
    cases = draw_cases(DISAGREEING, questions, seed)
    documents = documents_of(cases, Random(seed))
    lines, embeddings = [], LangChainMiniLM()
    for chunks, texts in (("sentences", sentences_of(documents)), ("documents", documents)):
        store = InMemoryVectorStore.from_documents(texts, embeddings)
        retriever = store.as_retriever(search_kwargs={"k": retrieved})
        lines += measure(cases, retriever, chunks)
    rows = [
        f"| {line.chunks} | {line.condition} | {line.trusted:.1%} | {line.other:.1%} | "
        f"{line.found:.1%} |"
        for line in lines
    ]
    command = shlex.join(["python", *sys.argv])
    text = f"""# A retrieval chain with a trusted source

{len(documents):,} documents of the embedded model's world lie in LangChain's in-memory vector
store, embedded by all-MiniLM-L6-v2. For each of {questions} held-out questions a document from the
registry and one of rumor disagree; all others are from either. A chain retrieves {retrieved}
texts, emphasizes those of one source with `emphasize_documents`, and answers. The texts are the
sentences of the documents, each with its document's source, or whole documents, in which up to four
statements have nothing to do with each other.

| retrieved | emphasis | answers of the registry | answers of the rumor | both were found |
| --- | --- | ---: | ---: | ---: |
{chr(10).join(rows)}

The last column tells how often the values of both sources were in what was retrieved; what is not
there cannot be the answer. A fifth of statements and questions is phrased in ways that the model
has never seen.

`{command}` wrote this in {time.perf_counter() - began:.0f} s: {versions(*PACKAGES)}; {processor()}.
"""
    typer.echo(text)
    if report:
        report.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
