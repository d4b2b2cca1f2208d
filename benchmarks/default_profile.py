"""Guesses for models without a profile: `python benchmarks/default_profile.py --report FILE`.

Every head of some part of the depth, at several alphas, beside as many heads drawn by chance: how
each task of the synthetic world goes on the embedded model, and what becomes of plain text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from machine import processor, versions
from rich.progress import track

from pasta_chains import HeadProfile, SteeredModel
from pasta_chains.default_profile import ALPHA, LAYERS, band
from pasta_chains.demo import MODEL
from pasta_chains.demo.synthetic import SYNTHETIC, synthetic_task
from pasta_chains.evaluation.task import Task
from pasta_chains.profiling.ability import neutral_texts, perplexity
from pasta_chains.profiling.measuring import Batch, all_heads
from pasta_chains.profiling.ranking import by_layer
from pasta_chains.profiling.units import batches
from pasta_chains.profiling.upper_layers import path_of_layers

PARTS = {
    "all": (0.0, 1.0),
    "first half": (0.0, 0.5),
    "second half": (0.5, 1.0),
    "middle third": (1 / 3, 2 / 3),
    "last third": (2 / 3, 1.0),
}
ALPHAS = (0.5, 0.3, 0.1, 0.01)
DRAWS = 5
"""Lists of heads drawn by chance, for each alpha."""
HARM = 0.01
"""Of a task's score: falling more is harm."""
HARM_TO_PLAIN_TEXT = 1.1
"""Of the perplexity of plain text, as a multiple: more is harm."""


@dataclass(frozen=True)
class Row:
    """How the tasks go with some heads.

    Attributes:
        name: Which heads.
        alpha: How strongly they are steered.
        heads: How many there are.
        gains: For each task the change of its score, 0 to 1.
        perplexity: Of plain text, as a multiple of that without steering.
    """

    name: str
    alpha: float
    heads: int
    gains: dict[str, float]
    perplexity: float

    @property
    def mean(self) -> float:
        """Gain over all tasks."""
        return sum(self.gains.values()) / len(self.gains)

    def line(self) -> str:
        """A line of the table."""
        gains = " | ".join(f"{100 * gain:+.1f}" for gain in self.gains.values())
        mean = f"{100 * self.mean:+.1f}"
        return (
            f"| {self.name} | {self.alpha} | {self.heads} | {gains} | {mean} | "
            f"{self.perplexity:.2f} |"
        )


def main(
    samples: Annotated[int, typer.Option(help="Of each task.")] = 40,
    batch_size: Annotated[int, typer.Option(help="Prompts in a batch.")] = 32,
    report: Annotated[Path | None, typer.Option(help="Write the page.")] = None,
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = MODEL,
) -> None:
    """Measure guesses."""
    steerable = SteeredModel.from_pretrained(model, HeadProfile({}))
    tasks = {name: synthetic_task(name, "validation", samples) for name in SYNTHETIC}
    texts = neutral_texts(list(tasks.values()))
    plain = HeadProfile({}, 1.0)
    before = {name: _score(steerable, task, [plain], batch_size)[0] for name, task in tasks.items()}
    wrong = perplexity(steerable, texts, plain)
    guesses = list(_guesses(steerable))
    profiles = [profile for _, profile in guesses]
    scores: dict[str, list[float]] = {}
    for name, task in track(tasks.items(), "Tasks"):
        scores[name] = [
            score
            for alpha in ALPHAS
            for score in _score(
                steerable, task, [one for one in profiles if one.alpha == alpha], batch_size
            )
        ]
    rows = [
        Row(
            name,
            profile.alpha,
            len(profile),
            {task: scores[task][number] - before[task] for task in tasks},
            perplexity(steerable, texts, profile) / wrong,
        )
        for number, (name, profile) in enumerate(guesses)
    ]
    page = _page(rows, before, samples)
    typer.echo(page)
    if report:
        report.write_text(page, encoding="utf-8")


def _guesses(model: SteeredModel) -> Iterator[tuple[str, HeadProfile]]:
    """Profiles by name, alpha by alpha."""
    every = [(layer, head) for layer, some in all_heads(model).items() for head in some]
    rng = Random(0)
    drawn = [by_layer(sorted(rng.sample(every, len(every) // 2))) for _ in range(DRAWS)]
    for alpha in ALPHAS:
        for name, part in PARTS.items():
            yield name, band(model.head_counts, *part, alpha)
        for number, heads in enumerate(drawn, 1):
            yield f"half of all heads by chance, draw {number}", HeadProfile(heads, alpha)


def _score(
    model: SteeredModel, task: Task, profiles: list[HeadProfile], batch_size: int
) -> list[float]:
    """The mean score of a task with each of some profiles of one alpha."""
    sums = [0.0] * len(profiles)
    path = path_of_layers(model.model)
    for samples in batches(task, batch_size):
        batch = Batch(model, path, task, samples, profiles[0].alpha)
        for number, profile in enumerate(profiles):
            sums[number] += sum(batch.scores(profile.heads))
    return [one / len(task.samples) for one in sums]


def _verdict(rows: list[Row]) -> str:
    """Of those that harm neither tasks nor plain text the one with the highest mean."""
    harmless = [
        row
        for row in rows
        if row.name in PARTS
        and min(row.gains.values()) >= -HARM
        and row.perplexity <= HARM_TO_PLAIN_TEXT
    ]
    harm = (
        f"harm no task by more than {100 * HARM:.0f} point and make plain text at most "
        f"{HARM_TO_PLAIN_TEXT - 1:.0%} more perplexing"
    )
    if not harmless:
        return f"There are no guesses that {harm}."
    best = max(harmless, key=lambda row: row.mean)
    return f"Of the guesses that {harm}, the best is {_every(best.name)}, alpha {best.alpha}."


def _page(rows: list[Row], before: dict[str, float], samples: int) -> str:
    name = next(name for name, part in PARTS.items() if part == LAYERS)
    return "\n".join(
        [
            _INTRODUCTION,
            f'`"default"` steers {_every(name)}, alpha {ALPHA}.',
            "",
            f"The embedded model was asked {samples} samples of each task for each guess. Changes "
            "of the score in points, perplexity of plain text beside emphasized text as a multiple "
            "of that without steering:",
            "",
            f"| heads of | alpha | heads | {' | '.join(before)} | mean | perplexity |",
            f"| --- | ---: | ---: |{' ---: |' * len(before)} ---: | ---: |",
            "| unsteered, score in % | | 0 | "
            + " | ".join(f"{100 * score:.1f}" for score in before.values())
            + f" | {100 * sum(before.values()) / len(before):.1f} | 1.00 |",
            *(row.line() for row in rows),
            "",
            _verdict(rows),
            "",
            "By `python benchmarks/default_profile.py --report docs/results/default-profile.md`: "
            f"{versions('pasta-chains', 'torch', 'transformers')}, {processor()}.",
            "",
        ]
    )


def _every(name: str) -> str:
    return "every head" if name == "all" else f"every head of the {name} of the layers"


_INTRODUCTION = """\
# Steer a model that has no head profile

```python
from pasta_chains import SteeredModel

model = SteeredModel.from_pretrained("some/model", profile="default")
```

This is a guess, and you have to ask for it: without a profile, emphasis is an error. Find the
[heads of your model](../how-to/profiling.md) when you can, and
[measure](../how-to/evaluation.md) what the guess does:
`pasta-chains evaluate MODEL --profile default --task …`. On the command line, `--profile default`
says the same.

## What it is, and what it was tested on

Which heads read emphasis differs from model to model, so no list of numbers can be right for all.
The guess was chosen on the embedded model of this package, with six small layers, and on nothing
else. On other models it was not measured: it may help, do nothing or harm. The paper found that
steering all heads of a large model harms it.
"""


if __name__ == "__main__":
    typer.run(main)
