"""Times the synthesizer beside LlamaIndex's: `python benchmarks/synthesizer.py --report FILE`.

Both answer from the same 50 nodes with a model that answers at once, so that all the time is what
lies around its calls: texts of nodes, packing, templates, events.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from machine import processor, versions

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.demo.world import Difficulty, World
from pasta_chains.generation import Generation
from pasta_chains.llama_index import EmphasisSynthesizer, PastaLLM

NODES = 50
CONTEXT = 8192
MODES = ("compact", "refine", "tree_summarize", "accumulate", "compact_accumulate")
KINDS = ("none", "context", "trusted", "facts")
QUESTION = "Who is the mayor of Tarn?"


class Instant(PastaLLM):
    """Answers at once, and has the context of larger models."""

    @property
    def metadata(self) -> LLMMetadata:
        return super().metadata.model_copy(update={"context_window": CONTEXT})

    def _run(self, prompt: Any, options: Any) -> Generation:
        return Generation("The documents do not say.", 1, 1, "stop")


def nodes() -> list[NodeWithScore]:
    """Nodes of the embedded model's world, of about 100 tokens each."""
    world = World(Random(0), held_out=True)
    whole = Difficulty(documents=(1, 1), sentences=(8, 8))
    return [
        NodeWithScore(
            node=TextNode(
                text=world.reading(whole).documents[0],
                metadata={"source": f"minutes {number}", "trusted": number % 2 == 0},
                excluded_llm_metadata_keys=["trusted"],
            ),
            score=1.0,
        )
        for number in range(NODES)
    ]


def seconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median time of each call; they take turns, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(found) for name, found in times.items()}


def main(
    rounds: Annotated[int, typer.Option(help="Answers of each kind.")] = 40,
    report: Annotated[Path | None, typer.Option(help="Write the table as Markdown.")] = None,
) -> None:
    """Time the synthesizers and print a table."""
    llm, given = Instant(SteeredModel.from_pretrained(MODEL)), nodes()
    helper = PromptHelper.from_llm_metadata(llm.metadata, tokenizer=llm.tokens_of)
    lines = [
        f"| mode | LlamaIndex's own | {' | '.join(KINDS)} |",
        f"| --- | ---: |{' ---: |' * len(KINDS)}",
    ]
    for mode in MODES:
        core = get_response_synthesizer(
            llm=llm, prompt_helper=helper, response_mode=ResponseMode(mode)
        )
        ours = {kind: EmphasisSynthesizer(llm, kind, response_mode=mode) for kind in KINDS}
        calls = {
            name: partial(one.synthesize, QUESTION, given)
            for name, one in {"core": core, **ours}.items()
        }
        base, *others = seconds(calls, rounds).values()
        shares = " | ".join(f"{other / base:.2f}" for other in others)
        lines.append(f"| {mode} | {base * 1e3:.0f} ms | {shares} |")
        typer.echo(lines[-1])
    if report:
        report.write_text("\n".join([*_preface(), *lines, "", _origin(rounds)]) + "\n")


def _preface() -> list[str]:
    return [
        "# What emphasis costs in a query engine",
        "",
        f"The time of an answer from {NODES} nodes with a model that answers at once and has room "
        f"for {CONTEXT:,} tokens, so that all of it is spent around the model. Beside LlamaIndex's "
        "own synthesizer, for several policies of `EmphasisSynthesizer`:",
        "",
    ]


def _origin(rounds: int) -> str:
    packages = versions("pasta-chains", "llama-index-core", "transformers")
    return (
        "Ours is faster where texts are cut into words, because it counts the tokens of a word "
        f"once. Median of {rounds} answers, in turns, by `python benchmarks/synthesizer.py "
        f"--report docs/results/llama-index-overhead.md`: {packages}, {processor()}."
    )


if __name__ == "__main__":
    typer.run(main)
