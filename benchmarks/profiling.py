"""Times the search for heads beside trying each: `python benchmarks/profiling.py --report FILE`.

The search reads from the steered layer on, and checks answers that it knows; trying a head asks
every prompt anew. Both are given the same samples and heads of the embedded model, and both give a
score for each sample, which are compared.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from machine import processor, versions

from pasta_chains import HeadProfile, SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.demo.synthetic import SYNTHETIC, synthetic_task
from pasta_chains.evaluation.asking import ask
from pasta_chains.evaluation.rewriting import with_emphasis
from pasta_chains.evaluation.task import Task
from pasta_chains.profiling.measuring import Batch, all_heads
from pasta_chains.profiling.ranking import Head
from pasta_chains.profiling.units import batches
from pasta_chains.profiling.upper_layers import path_of_layers

ALPHA = 0.01


@dataclass(frozen=True)
class Timing:
    """What a task took.

    Attributes:
        task: Its name.
        kind: What the model does.
        trying: Seconds for a head, when each prompt is asked anew.
        setup: Seconds before the first head of the search.
        searching: Seconds for a head after that.
        same: How many scores are the same in both.
        scores: How many there are.
    """

    task: str
    kind: str
    trying: float
    setup: float
    searching: float
    same: int
    scores: int

    def row(self, every: int) -> str:
        """A line of the table, for a model with so many heads."""
        search = self.setup / every + self.searching
        return (
            f"| {self.task} | {self.kind} | {self.trying:.2f} s | {search:.2f} s | "
            f"{self.trying / search:.1f} | {self.same} of {self.scores} |"
        )


def time_task(model: SteeredModel, task: Task, heads: list[Head], batch_size: int) -> Timing:
    """Time both on a task, head by head in turn, so that both meet one machine."""
    path = path_of_layers(model.model)
    started = time.perf_counter()
    groups = batches(task, batch_size)
    asked = [Batch(model, path, task, samples, ALPHA) for samples in groups]
    for batch in asked:
        batch.scores({})
    setup = time.perf_counter() - started
    trying = searching = 0.0
    same = count = 0
    for layer, head in heads:
        started = time.perf_counter()
        found = [score for batch in asked for score in batch.scores({layer: [head]})]
        searched = time.perf_counter()
        tried = try_head(model, task, (layer, head), batch_size)
        searching += searched - started
        trying += time.perf_counter() - searched
        ids = [sample.id for samples in groups for sample in samples]
        same += sum(tried[one] == score for one, score in zip(ids, found, strict=True))
        count += len(found)
    kind = "chooses" if task.samples[0].options else f"writes, ≤ {task.max_new_tokens} tokens"
    each = len(heads)
    return Timing(task.name, kind, trying / each, setup, searching / each, same, count)


def try_head(model: SteeredModel, task: Task, head: Head, batch_size: int) -> dict[str, float]:
    """The score of each sample by its id, asked as in an evaluation."""
    profile = HeadProfile({head[0]: [head[1]]}, ALPHA)
    asked = ask(model, task, task.samples, with_emphasis, profile, batch_size=batch_size)
    return {sample.id: task.mean_score(sample, answers) for sample, answers in asked}


def main(
    samples: Annotated[int, typer.Option(help="Of each task.")] = 50,
    heads: Annotated[int, typer.Option(help="How many, drawn by chance; 0 for all.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Prompts in a batch.")] = 16,
    report: Annotated[Path | None, typer.Option(help="Write the table as Markdown.")] = None,
) -> None:
    """Time the search beside trying each head, task by task."""
    model = SteeredModel.from_pretrained(MODEL, HeadProfile({}))
    every = [(layer, head) for layer, some in all_heads(model).items() for head in some]
    chosen = sorted(Random(0).sample(every, heads)) if heads else every
    lines = [
        "| task | the model | trying a head | searching | times faster | same scores |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    typer.echo("\n".join(lines))
    timings = []
    for name in SYNTHETIC:
        task = synthetic_task(name, "train", samples)
        timings.append(time_task(model, task, chosen, batch_size))
        lines.append(timings[-1].row(len(every)))
        typer.echo(lines[-1])
    lines.append(_all(timings).row(len(every)))
    typer.echo(lines[-1])
    if report:
        page = [*_preface(len(every), samples), *lines, "", _origin(len(chosen), batch_size)]
        report.write_text("\n".join(page) + "\n", encoding="utf-8")


def _all(timings: list[Timing]) -> Timing:
    """What all tasks took together."""
    fields = ("trying", "setup", "searching", "same", "scores")
    return Timing("all", "", *(sum(getattr(one, field) for one in timings) for field in fields))


def _preface(every: int, samples: int) -> list[str]:
    return [
        "# How fast heads are found",
        "",
        f"Seconds for one of the {every} heads of the embedded model, on {samples} samples of each "
        "task: when every prompt is asked anew, as in an evaluation, and as the "
        "[search](../how-to/profiling.md) does it, its share of what is done once for all heads "
        "included.",
        "",
    ]


def _origin(heads: int, batch_size: int) -> str:
    packages = versions("pasta-chains", "torch", "transformers")
    return (
        "The last column counts samples whose score is the same in both; where it differs, two "
        "tokens were equally likely but for rounding. By `python benchmarks/profiling.py --report "
        f"docs/results/profiling-speed.md`, {heads} heads, {batch_size} prompts in a batch: "
        f"{packages}, {processor()}."
    )


if __name__ == "__main__":
    typer.run(main)
