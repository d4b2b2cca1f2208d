"""Does steering help the embedded model, and which heads? The whole way, from search to table.

    python benchmarks/heads.py search --work DIR
    python benchmarks/heads.py table --work DIR --report docs/results/steering.md

`search` looks for heads on the training and validation splits of every task of the synthetic world,
and writes the profile of the embedded model; `table` asks the test splits in every condition. Both
go on where they were cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from machine import processor
from rich.progress import Progress

from pasta_chains import HeadProfile, ProfileError, SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.demo.synthetic import SYNTHETIC, synthetic_task
from pasta_chains.errors import PromptTooLongError
from pasta_chains.evaluation.about import about_run
from pasta_chains.evaluation.asking import check_lengths
from pasta_chains.evaluation.harness import (
    ZERO_SHOT,
    Condition,
    baselines,
    control,
    evaluate,
    steered,
)
from pasta_chains.evaluation.run import shortest
from pasta_chains.evaluation.tables import Row, averages, markdown, rows_of
from pasta_chains.evaluation.task import Task
from pasta_chains.profile import FILE_NAME
from pasta_chains.profiling.findings import Findings, Strategy
from pasta_chains.profiling.options import Options
from pasta_chains.profiling.plots import draw_figures
from pasta_chains.profiling.run import Bars, load_model, progress_bars
from pasta_chains.profiling.search import find_heads

STRATEGIES: tuple[Strategy, ...] = ("multi-task", "union")
"""The one whose heads do better on the validation samples is shipped."""

EXAMPLES = 3
"""Most worked examples in few-shot prompts."""

PAPER = ("json", "pronouns", "bias-in-bios", "counterfact")
"""The tasks of the paper's averages."""

LLAMA = {
    ZERO_SHOT: 67.29,
    "*-marked": 49.38,
    '"-marked': 42.15,
    "few-shot": 73.45,
    "PASTA task-agnostic": 85.89,
    "PASTA multi-task": 95.46,
}
"""The paper's averages for LLaMA-7B, in percent (Zhang et al., arXiv 2311.02262, table 1)."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Work = Annotated[Path, typer.Option(help="Folder of measurements and answers.")]


@app.command()
def search(
    work: Work,
    samples: Annotated[int, typer.Option(help="Of each task in each split.")] = 200,
    processes: Annotated[int, typer.Option(help="That measure at the same time.")] = 2,
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures.")] = None,
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = MODEL,
) -> None:
    """Find the heads of the embedded model, and write them into its folder."""
    tasks = {
        name: {split: synthetic_task(name, split, samples) for split in ("train", "validation")}
        for name in SYNTHETIC
    }
    load = partial(load_model, str(model), {})
    found = {}
    with progress_bars() as bars:
        for strategy in STRATEGIES:
            found[strategy] = find_heads(
                load(0),
                tasks,
                work,
                Options(batch_size=32, strategy=strategy),
                processes=processes,
                load=load,
                progress=Bars(bars),
            )
            found[strategy].save(work / f"{strategy}.json")
    best = max(found.values(), key=lambda one: one.chosen.mean())
    best.profile().save(model / FILE_NAME)
    if figures is not None:
        draw_figures(best, figures)


@app.command()
def table(
    work: Work,
    samples: Annotated[int, typer.Option(help="Of each task.")] = 500,
    report: Annotated[Path | None, typer.Option(help="Write the page.")] = None,
    only: Annotated[list[str] | None, typer.Option("--task", help="Instead of all.")] = None,
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = MODEL,
) -> None:
    """Ask the test split of every task in every condition."""
    found = {strategy: Findings.load(work / f"{strategy}.json") for strategy in STRATEGIES}
    steerable = SteeredModel.from_pretrained(model, HeadProfile({}))
    if about_run(steerable)["weights"] != found["union"].about["weights"]:
        raise ProfileError(f"The heads in {work} were found on a model of other weights.")
    results = []
    with Progress() as progress:
        for name in only or SYNTHETIC:
            task = synthetic_task(name, "test", samples)
            conditions = _conditions(steerable, task, found)
            bar = progress.add_task(name, total=len(conditions) * samples)
            results += [
                evaluate(
                    steerable,
                    task,
                    condition,
                    folder=work / "answers",
                    batch_size=32,
                    progress=partial(progress.advance, bar),
                )
                for condition in conditions
            ]
    rows = rows_of(results)
    lines = _page(rows, steerable, found, samples)
    typer.echo(lines)
    if report is not None:
        report.write_text(lines, encoding="utf-8")


def _conditions(
    model: SteeredModel, task: Task, found: Mapping[Strategy, Findings]
) -> list[Condition]:
    """The paper's conditions, with the lists of heads that the search found best."""
    every = {layer: range(count) for layer, count in model.head_counts.items()}
    multi_task = found["multi-task"]
    profile = multi_task.profile()
    return [
        *_unsteered(model, task),
        steered("PASTA multi-task", profile),
        *_best(multi_task, "task-agnostic", task.name),
        *_best(multi_task, "task-specific", task.name),
        steered("PASTA union", found["union"].profile()),
        steered("every head steered", HeadProfile(every, profile.alpha)),
        control(profile),
    ]


def _unsteered(model: SteeredModel, task: Task) -> list[Condition]:
    """The baselines, with as many worked examples as fit the context, but no more than three."""
    shown = shortest(synthetic_task(task.name, "train", 200), EXAMPLES)
    for count in range(EXAMPLES, 1, -1):
        conditions = baselines(task, shown, count)
        if _fits(model, task, conditions[-1]):
            return conditions
    return baselines(task, shown, 1)


def _fits(model: SteeredModel, task: Task, condition: Condition) -> bool:
    try:
        check_lengths(model, task, condition.rewrite)
    except PromptTooLongError:
        return False
    return True


def _best(found: Findings, strategy: Strategy, of: str) -> list[Condition]:
    try:
        heads = found.best(strategy, of)
    except ProfileError:  # no head is among the best of all other tasks: there is no such list
        return []
    return [steered(f"PASTA {strategy}", replace(found.profile_of(heads), details=None))]


def _page(
    rows: list[Row], model: SteeredModel, found: Mapping[Strategy, Findings], samples: int
) -> str:
    shipped = max(found.values(), key=lambda one: one.chosen.mean())
    return "\n".join(
        [
            "# What steering does to the embedded model",
            "",
            "The paper's four tasks, rules for an agent, and documents that disagree, all in the "
            "embedded model's world; [its page](../reference/embedded-model.md) tells how it came "
            f"to follow instructions often, but not reliably. {samples} samples of each task, "
            "greedy decoding; heads and alpha were chosen on other samples. Names are never those "
            f"of its training. Few-shot prompts have {EXAMPLES} worked examples, or as many as "
            "fit.",
            "",
            *_averages(rows),
            "",
            markdown(rows, _about(model, found, shipped)),
            *_figures(shipped),
            _BESIDE_THE_PAPER,
        ]
    )


def _averages(rows: list[Row]) -> list[str]:
    """Our averages beside those of the paper, which are of another model and other data."""
    means = averages(rows, PAPER)
    if not means:
        return []
    before = means[ZERO_SHOT]
    lines = [
        "| Condition | Average of the four tasks | Gain | LLaMA-7B in the paper | Gain |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, mean in means.items():
        theirs = LLAMA.get(name)
        cells = [name.replace("*", r"\*"), f"{mean:.1%}", _points(mean - before)]
        if theirs is None:
            cells += ["-", "-"]
        else:
            cells += [f"{theirs:.1f}%", _points((theirs - LLAMA[ZERO_SHOT]) / 100)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _figures(found: Findings) -> list[str]:
    """The figures that `search --figures docs/figures` draws."""
    alone = (
        f"![{task}: each head alone, whole layers, all heads](../figures/heads-{task}.svg)\n"
        f"![{task}: what each head adds](../figures/map-{task}.svg)\n"
        for task in found.alone
    )
    return [
        "## Figures",
        "",
        "Lists of heads by their length, and the heads found with several alphas:",
        "",
        "![mean over tasks by number of heads](../figures/number-of-heads.svg)",
        "![mean of each task by alpha](../figures/alpha.svg)",
        "",
        "Each head alone, on the training samples:",
        "",
        *alone,
    ]


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _heads(profile: HeadProfile) -> str:
    heads = ", ".join(f"layer {layer}: {list(some)}" for layer, some in profile.heads.items())
    return f"{len(profile)} heads ({heads}), alpha {profile.alpha}"


def _about(
    model: SteeredModel, found: Mapping[Strategy, Findings], shipped: Findings
) -> Mapping[str, object]:
    return {
        **{f"{name} heads": _heads(one.profile()) for name, one in found.items()},
        "wrong text is emphasized for": "the multi-task heads",
        "shipped heads": shipped.chosen.strategy,
        "perplexity of plain text after emphasized text": ", ".join(
            f"{value:.2f} {name}" for name, value in shipped.perplexity.items()
        ),
        **about_run(model),
        "machine": processor(),
        "command": "`python benchmarks/heads.py table --work DIR "
        "--report docs/results/steering.md`, after `search`",
    }


_BESIDE_THE_PAPER = """\
## Beside the paper

The same: the four tasks' prompts in their form, what is emphasized, the metrics and the conditions;
Algorithm 1, with heads that are ranked on one split, chosen on a second and measured on a third.

Not the same: the model has a thousandth of the parameters of LLaMA-7B, and was trained for this
world; biographies and facts are made up; answers are short. There are 48 heads to choose from
instead of 1,024. That a model of this kind gains here says that the method and this code work, not
how much a large model gains.

Not measured: LLaMA-7B, GPT-J and any other large model, and the published data sets. The loaders
for these are there, and `pasta-chains evaluate` writes the same table for them.
"""


if __name__ == "__main__":
    app()
