"""`pasta-chains evaluate`: ask tasks in every condition, print the table and write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from transformers.utils.logging import disable_progress_bar

from ..engine import SteeredModel
from ..errors import PastaError, ProfileError, TaskError
from ..profile import HeadProfile
from .about import about_run
from .asking import check_lengths
from .harness import (
    FEW_SHOT,
    Condition,
    Result,
    baselines,
    control,
    evaluate,
    file_name,
    steered,
)
from .rewriting import is_whole
from .splits import Split
from .tables import rows_of, terminal_table, write_tables
from .task import Task

EVERY_HEAD = "every head steered"

Draw = Callable[[Split, int | None], Task]
"""From a split and a number of samples to a task."""


@dataclass(frozen=True)
class Options:
    """What the command was asked for.

    Attributes:
        model: Name or folder of the model.
        tasks: Each task by name.
        profiles: Files with heads, each with the name of its condition; empty for the model's own.
        alpha: Instead of the profiles'.
        samples: Of each task; None for all.
        examples: Worked examples in few-shot prompts; 0 for no such prompts.
        every_head: Whether to steer all heads, too.
        batch_size: Prompts in a batch.
        out: Folder for answers and tables; None to keep nothing.
        command: The command line, for the tables.
        loading: Arguments of `from_pretrained`, such as `revision`.
    """

    model: str
    tasks: Mapping[str, Draw]
    profiles: Mapping[str, str | Path]
    alpha: float | None = None
    samples: int | None = None
    examples: int = 3
    every_head: bool = False
    batch_size: int = 16
    out: Path | None = None
    command: str = "pasta-chains evaluate"
    loading: Mapping[str, Any] | None = None


def run_evaluation(options: Options) -> None:
    """Run the evaluation.

    Raises:
        PastaError: A task, the model or a profile is not usable.
    """
    disable_progress_bar()  # the model's loading takes a moment, and its bar would mix with ours
    tasks = [(draw("test", options.samples), draw) for draw in options.tasks.values()]
    model = SteeredModel.from_pretrained(options.model, **(options.loading or {}))
    profiles = _profiles(model, options)
    planned = [(task, _conditions(model, task, draw, profiles, options)) for task, draw in tasks]
    console = Console()
    for task, _ in planned:
        if whole := _whole_prompts(task):
            note = f"No control for {task.name}: all of the prompt of {whole[0]!r} is emphasized."
            console.print(note, markup=False, highlight=False, soft_wrap=True)
    results: list[Result] = []
    for task, conditions in planned:
        results += _asked(model, task, conditions, options, console)
    rows = rows_of(results)
    console.print(terminal_table(rows))
    if options.out is not None:
        write_tables(options.out, rows, _about(model, profiles, options))
        wrote = f"Wrote results.json, results.csv and results.md in {options.out}."
        console.print(wrote, markup=False, highlight=False, soft_wrap=True)


def _asked(
    model: SteeredModel,
    task: Task,
    conditions: Sequence[Condition],
    options: Options,
    console: Console,
) -> Iterator[Result]:
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(conditions) * len(task.samples))
        for condition in conditions:
            progress.update(bar, description=escape(f"{task.name}: {condition.name}"))
            yield evaluate(
                model,
                task,
                condition,
                folder=options.out,
                batch_size=options.batch_size,
                progress=partial(progress.advance, bar),
            )


def _profiles(model: SteeredModel, options: Options) -> dict[str, HeadProfile]:
    found = {name: model.read_profile(file) for name, file in options.profiles.items()}
    if not found:
        if model.profile is None:
            raise ProfileError(
                f"{model.name} has no head profile. Pass one with --profile FILE; "
                f"pasta-chains profile {model.name} finds one, and --profile default is a guess."
            )
        found = {"steered": model.profile}
    if options.every_head:
        every = {layer: range(count) for layer, count in model.head_counts.items()}
        first = next(iter(found.values()))
        if EVERY_HEAD in found:
            raise TaskError(f"A profile has the name {EVERY_HEAD!r} already. Give it another one.")
        found[EVERY_HEAD] = HeadProfile(every, first.alpha)
    if options.alpha is not None:
        found = {name: replace(profile, alpha=options.alpha) for name, profile in found.items()}
    for name, profile in found.items():
        model.check_profile(profile)
        if not len(profile) or profile.alpha == 1.0:
            raise TaskError(
                f"The profile of {name!r} has {len(profile)} heads and alpha {profile.alpha}, "
                "which steers nothing. Take another profile, or alpha."
            )
    return found


def _conditions(
    model: SteeredModel,
    task: Task,
    draw: Draw,
    profiles: Mapping[str, HeadProfile],
    options: Options,
) -> list[Condition]:
    """All that a task is asked under, each of which can be: a long run should not fail at its end.

    Raises:
        TaskError: Two conditions have the same name, or a prompt cannot be rewritten for one.
        PromptTooLongError: A prompt does not fit the context, as it is or rewritten.
    """
    shown = shortest(draw("train", None), options.examples) if options.examples else None
    found = baselines(task, shown, options.examples)
    found += [steered(name, profile) for name, profile in profiles.items()]
    if not _whole_prompts(task):
        found.append(control(next(iter(profiles.values()))))
    files = [file_name(condition.name) for condition in found]
    for number, condition in enumerate(found):
        if files[number] in files[:number]:
            raise TaskError(
                f"Two conditions would have the name {condition.name!r}. Give the profile another "
                "one, as in --profile NAME=FILE."
            )
        try:
            check_lengths(model, task, condition.rewrite)
        except PastaError as error:
            error.add_note(f"in the task {task.name}, {condition.name}")
            if condition.name == FEW_SHOT:
                error.add_note("--examples 1 shows fewer worked examples, --examples 0 none")
            raise
    return found


def _whole_prompts(task: Task) -> list[str]:
    """Samples of which all of a prompt is emphasized."""
    return [one.id for one in task.samples if any(map(is_whole, one.prompts))]


def shortest(task: Task, count: int) -> Task:
    """The samples with the shortest prompts, so that several fit into a context."""
    order = sorted(task.samples, key=lambda sample: len(str(sample.prompts[0])))
    if len(order) < count:
        raise TaskError(
            f"The task {task.name!r} has {len(order)} samples for worked examples, and {count} are "
            "wanted. Ask for fewer with --examples."
        )
    return replace(task, samples=tuple(order[:count]))


def _about(
    model: SteeredModel, profiles: Mapping[str, HeadProfile], options: Options
) -> dict[str, Any]:
    steering: Sequence[str] = [
        f"{name}: {len(profile)} heads, alpha {profile.alpha}"
        + (f" ({profile.source})" if profile.source else "")
        for name, profile in profiles.items()
    ]
    return {
        "command": options.command,
        **about_run(model),
        "profiles": "; ".join(steering),
        "examples": options.examples,
    }
