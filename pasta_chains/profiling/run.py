"""`pasta-chains profile`: find the heads of a model, and write its profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers.utils.logging import disable_progress_bar

from ..engine import SteeredModel
from ..errors import TaskError
from ..evaluation.splits import Split
from ..evaluation.task import Task
from ..profile import HeadProfile
from .findings import Findings
from .options import Options as Search
from .search import find_heads

Draw = Callable[[Split, int | None], Task]
"""From a split and a number of samples to a task."""

FINDINGS = "findings.json"


@dataclass(frozen=True)
class Options:
    """What the command was asked for.

    Attributes:
        model: Name or folder of the model.
        tasks: Each task by name.
        out: Where the profile is written.
        work: Folder of the measurements; by default beside the profile.
        samples: Of each task in each split; the paper takes 1,000, and 200 do nearly as well.
        search: How to search.
        processes: How many measure at the same time; on GPUs one for each.
        plots: Folder for figures; None for none.
        loading: Arguments of `from_pretrained`, such as `revision`.
    """

    model: str
    tasks: Mapping[str, Draw]
    out: Path
    work: Path | None = None
    samples: int = 200
    search: Search = field(default_factory=Search)
    processes: int = 1
    plots: Path | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)


def run_profiling(options: Options) -> None:
    """Search for heads, and write profile, findings and figures.

    Raises:
        PastaError: A task or the model is not usable, or there is nothing to find.
    """
    work = _checked_places(options)
    if options.plots is not None:
        from .plots import draw_figures  # needs matplotlib, which is missed better now than later
    disable_progress_bar()
    tasks: dict[str, dict[Split, Task]] = {
        name: {
            "train": draw("train", options.samples),
            "validation": draw("validation", options.samples),
        }
        for name, draw in options.tasks.items()
    }
    load = partial(load_model, options.model, dict(options.loading))
    model = load(0)
    console = Console()
    with progress_bars(console) as bars:
        found = find_heads(
            model,
            tasks,
            work,
            options.search,
            processes=options.processes,
            load=load,
            progress=Bars(bars),
        )
    found.profile().save(options.out)
    found.save(work / FINDINGS)
    _tell(console, found, options.out)
    if options.plots is not None:
        for file in draw_figures(found, options.plots):
            console.print(f"Drew {file}.", markup=False, highlight=False, soft_wrap=True)


def _checked_places(options: Options) -> Path:
    """The folder of the measurements; places that cannot be written to are refused before hours."""
    out = options.out
    if not out.absolute().parent.is_dir():
        raise TaskError(f"There is no folder {out.parent} to write {out.name} to.")
    if out.is_dir():
        raise TaskError(f"{out} is a folder; name a file for the profile.")
    work = options.work or out.with_suffix(".work")
    if out.absolute() in (work.absolute(), options.plots and options.plots.absolute()):
        raise TaskError(f"{out} is to be the profile and a folder. Name another file.")
    for folder in (work, options.plots):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise TaskError(f"{folder} is a file, and a folder is to be there. Name another one.")
    return work


def load_model(model: str, loading: dict[str, Any], number: int) -> SteeredModel:
    """Load the model for a process; on GPUs each has its own."""
    import torch

    steered = SteeredModel.from_pretrained(model, HeadProfile({}), **loading)
    if torch.cuda.is_available() and "device_map" not in loading:  # which needs accelerate
        steered.model.to(torch.device("cuda", number % torch.cuda.device_count()))
    return steered


def progress_bars(console: Console | None = None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class Bars:
    """A bar for each stage of the search."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stage, self._bar = "", progress.add_task("", visible=False)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._progress.update(self._bar, visible=False)
            self._stage, self._bar = stage, self._progress.add_task(stage, total=total)
        self._progress.update(self._bar, completed=done, total=total)


def _tell(console: Console, found: Findings, out: Path) -> None:
    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    before, after = found.before, found.chosen.scores
    for task in found.unsteered:
        if task in before and task in after:
            say(f"{task}: {before[task]:.1%} unsteered, {after[task]:.1%} steered")
        else:
            say(f"{task}: {found.unsteered[task]:.1%} unsteered; no time was left to validate")
    both = [task for task in before if task in after]
    if both and sum(after[task] for task in both) <= sum(before[task] for task in both):
        say(
            "On the validation samples these heads are no better than no steering: do not use them."
        )
    for task, value in found.less_fluent.items():
        say(
            f"{task}: with these heads answers have a fluency of {value:.2f}, which is so low that "
            "the paper discards such runs: do not use them for it."
        )
    plain = found.perplexity
    say(
        f"{len(found.chosen)} heads, alpha {found.chosen_alpha}. Perplexity of plain text beside "
        f"emphasized text: {plain['unsteered']:.2f} unsteered, {plain['steered']:.2f} steered."
    )
    if not found.complete:
        say("The time was up before all was measured: run it again to go on.")
    say(f"Wrote {out}.")
