"""A LlamaIndex query engine with emphasis: `python benchmarks/query_engine.py --report FILE`.

Nodes of the embedded model's world lie in a vector index, embedded by a real model. For each
question two of them disagree: one is from the registry, which is trusted, one is a rumor. Every
policy and every response mode answers; then it is told how often "facts" finds the right sentence.
"""

from __future__ import annotations

import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from llama_index.core import VectorStoreIndex
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from machine import processor, versions
from minilm import LlamaIndexMiniLM, encode

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.demo.questions import AGREEING, DISAGREEING, Case, draw_cases, outcome, states
from pasta_chains.errors import NothingEmphasizedWarning
from pasta_chains.llama_index import (
    EmphasisPromptTemplate,
    EmphasisSynthesizer,
    FactEmphasis,
    PastaLLM,
    above_score,
    facts,
)
from pasta_chains.selection import (
    Scorer,
    bm25_scores,
    embedding_scores,
    named_scores,
    select_sentences,
    sentence_spans,
)

PACKAGES = ("pasta-chains", "llama-index-core", "sentence-transformers", "torch", "transformers")
MODES = (
    "compact",
    "refine",
    "tree_summarize",
    "simple_summarize",
    "accumulate",
    "compact_accumulate",
)
QA = (
    "Answer the question from the documents.\n\n{{ context_str }}\n\n"
    "Question: {{ query_str }}\nAnswer:"
)


@dataclass(frozen=True)
class Line:
    """One line of the table: shares of the answers."""

    mode: str
    policy: str
    trusted: float
    other: float


def nodes_of(cases: list[Case], rng: Random) -> list[TextNode]:
    """The sentences of all documents as nodes; some are trusted, and the disagreeing ones apart."""
    made = []
    for case in cases:
        for number, text in enumerate(case.documents):
            trusted = rng.random() < 0.5
            if number in (case.trusted, case.disputed):
                trusted = number == case.trusted
            for start, end in sentence_spans(text):
                metadata = {"trusted": trusted}
                hidden = ["trusted"]
                made.append(
                    TextNode(
                        text=text[start:end],
                        metadata=metadata,
                        excluded_llm_metadata_keys=hidden,
                        excluded_embed_metadata_keys=hidden,
                    )
                )
    return made


def answers(
    index: VectorStoreIndex, synthesizer: Any, cases: list[Case], count: int, *, record: bool
) -> list[str]:
    """What a query engine answers."""
    engine = RetrieverQueryEngine(
        index.as_retriever(similarity_top_k=count),
        synthesizer,
        [FactEmphasis(facts(LlamaIndexMiniLM()))] if record else [],
    )
    return [str(engine.query(case.question)) for case in cases]


def measured(cases: list[Case], index: VectorStoreIndex, count: int) -> Iterator[Line]:
    """Every policy in the default mode, and every mode with trusted facts and without emphasis."""
    llm = PastaLLM(SteeredModel.from_pretrained(MODEL), max_new_tokens=48)
    embeddings = LlamaIndexMiniLM()
    policies: dict[str, Any] = {
        '"none"': "none",
        '"context"': "context",
        '"trusted"': "trusted",
        '"metadata", FactEmphasis(facts(embed_model))': "metadata",
        '"facts"': "facts",
        "facts(embed_model)": facts(embeddings),
        "facts(embed_model, count=1)": facts(embeddings, count=1),
        "above_score(0.5)": above_score(0.5),
    }
    wanted = [("documents", name, policies[name]) for name in policies]
    wanted += [(mode, name, policies[name]) for mode in MODES for name in ('"none"', '"facts"')]
    for mode, name, policy in wanted:
        templates = {} if mode == "documents" else templates_of(mode)
        synthesizer = EmphasisSynthesizer(llm, policy, response_mode=mode, **templates)
        said = answers(index, synthesizer, cases, count, record=policy == "metadata")
        found = [outcome(answer, case) for answer, case in zip(said, cases, strict=True)]
        shares = [found.count(kind) / len(found) for kind in ("wanted", "other")]
        typer.echo(f"{mode} {name} {shares}", err=True)
        yield Line(mode, name, *shares)


def templates_of(mode: str) -> dict[str, Any]:
    """A question as the embedded model knows it, where a mode takes one."""
    name = "summary_template" if mode == "tree_summarize" else "text_qa_template"
    return {name: EmphasisPromptTemplate(QA)}


def found_by(scorer: Scorer, cases: list[Case]) -> float:
    """How often the sentence chosen among all of a reading is the one with the answer."""
    right = 0
    for case in cases:
        text = " ".join(case.documents)
        ((start, end),) = select_sentences(case.question, text, scorer) or [(0, 0)]
        right += states(text[start:end], case.wanted or "")
    return right / len(cases)


def main(
    questions: Annotated[int, typer.Option(help="How many.")] = 200,
    retrieved: Annotated[int, typer.Option(help="Nodes for each.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the world.")] = 30,
    report: Annotated[Path | None, typer.Option(help="Write the page as Markdown.")] = None,
) -> None:
    """Measure, and print the page."""
    warnings.simplefilter("ignore", NothingEmphasizedWarning)
    began = time.perf_counter()
    cases = draw_cases(DISAGREEING, questions, seed)
    nodes = nodes_of(cases, Random(seed))
    index = VectorStoreIndex(nodes, embed_model=LlamaIndexMiniLM())
    lines = list(measured(cases, index, retrieved))
    rows = [
        f"| {line.mode} | {line.policy} | {line.trusted:.1%} | {line.other:.1%} |" for line in lines
    ]
    single = draw_cases(AGREEING, questions, seed + 1)
    llm = PastaLLM(SteeredModel.from_pretrained(MODEL), max_new_tokens=48)
    scorers = {
        "embeddings": embedding_scores(encode),
        "BM25": bm25_scores,
        "the model itself": named_scores(lambda prompt: llm.complete(prompt).text),
    }
    chosen = [f"| {name} | {found_by(scorer, single):.1%} |" for name, scorer in scorers.items()]
    command = shlex.join(["python", *sys.argv])
    text = f"""# A LlamaIndex query engine with a trusted source

{len(nodes):,} nodes of the embedded model's world, a sentence each, lie in LlamaIndex's vector
index, embedded by all-MiniLM-L6-v2. For each of {questions} held-out questions a trusted node and
one that is not disagree; half of all others are trusted. The engine retrieves {retrieved} nodes.

| mode | `emphasis` | answers of the trusted node | answers of the other |
| --- | --- | ---: | ---: |
{chr(10).join(rows)}

The embedded model was taught one prompt with all documents ("documents"); in the modes of
LlamaIndex it gets the same question around the packed text, and LlamaIndex's own prompts to refine.

How often the one sentence chosen among 2 to 8 documents holds the answer, in {questions} questions
without disagreement:

| judged by | right |
| --- | ---: |
{chr(10).join(chosen)}

A fifth of statements and questions is phrased in ways that the model has never seen.

`{command}` wrote this in {time.perf_counter() - began:.0f} s: {versions(*PACKAGES)}; {processor()}.
"""
    typer.echo(text)
    if report:
        report.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
