"""Results as tables: on the terminal, and as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from .harness import ZERO_SHOT, Result
from .statistics import interval, paired_p

FILES = ("results.json", "results.csv", "results.md")
"""What is written of a run."""


@dataclass(frozen=True)
class Row:
    """One line: a task under a condition. Shares and intervals are from 0 to 1.

    Attributes:
        task: Name of the task.
        condition: Name of the condition.
        samples: How many.
        metrics: For each metric its mean and the ends of its 95 % confidence interval.
        mean: Of the metrics.
        gain: By how much it is above zero-shot.
        p: How likely chance alone makes as large a difference; None for zero-shot itself.
        fluency: Of written answers.
        discarded: Whether they are less fluent than the task's floor.
    """

    task: str
    condition: str
    samples: int
    metrics: Mapping[str, tuple[float, float, float]]
    mean: float
    gain: float
    p: float | None
    fluency: float | None
    discarded: bool


def rows_of(results: Sequence[Result]) -> list[Row]:
    """Lines of a table, in the order of the results. Zero-shot must be among each task's."""
    zero = {result.task: result for result in results if result.condition == ZERO_SHOT}
    return [_row(result, zero[result.task]) for result in results]


def _row(result: Result, zero: Result) -> Row:
    same = result is zero
    return Row(
        result.task,
        result.condition,
        len(result.means),
        {
            name: (sum(values) / len(values), *interval(values))
            for name, values in result.scores.items()
        },
        result.mean,
        result.mean - zero.mean,
        None if same else paired_p(result.means, zero.means),
        result.fluency,
        result.too_low,
    )


def averages(rows: Sequence[Row], tasks: Sequence[str]) -> dict[str, float]:
    """For each condition that all of some tasks have, the mean over them, as the paper's tables."""
    found: dict[str, float] = {}
    for condition in dict.fromkeys(row.condition for row in rows):
        means = {row.task: row.mean for row in rows if row.condition == condition}
        if all(task in means for task in tasks):
            found[condition] = sum(means[task] for task in tasks) / len(tasks)
    return found


_HEADINGS = ("Task", "Condition", "Metrics (95 % interval)", "Mean", "Gain", "p", "Fluency")


def terminal_table(rows: Sequence[Row]) -> Table:
    """The table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in _HEADINGS[:3] else "right")
    task = None
    for row in rows:
        cells = ["" if row.task == task else row.task, *_cells(row)]
        table.add_row(*map(Text, cells))  # so that no name is read as markup
        task = row.task
    return table


def markdown(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """The table as Markdown, with what is needed to read and repeat it."""
    lines = [
        "| " + " | ".join(_HEADINGS) + " |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join(map(_escaped, [row.task, *_cells(row)]))} |" for row in rows),
        "",
        *(f"- {name}: {value}" for name, value in about.items()),
    ]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> list[str]:
    metrics = ", ".join(
        f"{name} {mean:.1%} ({low:.1%} to {high:.1%})"
        for name, (mean, low, high) in row.metrics.items()
    )
    p = "" if row.p is None else "< 0.001" if row.p < 0.001 else f"{row.p:.3f}"
    gain = "" if row.p is None else f"{100 * row.gain:+.1f}"
    fluency = "" if row.fluency is None else f"{row.fluency:.2f}"
    if row.discarded:
        fluency += " (too low)"
    return [row.condition, metrics, f"{row.mean:.1%}", gain, p, fluency]


def _escaped(cell: str) -> str:
    return cell.replace("*", r"\*").replace("|", r"\|")


def comma_separated(rows: Sequence[Row]) -> str:
    """The table as CSV, a line for each metric."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow("task condition metric mean low high samples gain p fluency discarded".split())
    for row in rows:
        shared = [row.samples, row.gain, row.p, row.fluency, row.discarded]
        for name, numbers in row.metrics.items():
            writer.writerow([row.task, row.condition, name, *numbers, *shared])
    return file.getvalue()


def write_tables(folder: Path, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
    """Write `FILES` into a folder."""
    data = {"about": about, "rows": [asdict(row) for row in rows]}
    texts = (json.dumps(data, indent=1) + "\n", comma_separated(rows), markdown(rows, about))
    for name, text in zip(FILES, texts, strict=True):
        (folder / name).write_text(text, encoding="utf-8")
