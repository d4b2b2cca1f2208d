"""Commands that measure on tasks: evaluate and profile."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..default_profile import NAME as DEFAULT
from ..errors import ProfileError, TaskError
from .app import app
from .arguments import (
    BatchSize,
    Dtype,
    Model,
    Revision,
    Tasks,
    keep_data,
    loading,
    model_named,
    tasks_named,
)


@app.command()
def evaluate(
    model: Model,
    task: Tasks,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help="FILE or NAME=FILE with heads, or default for a guess; without, the model's own."
        ),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Instead of the profiles'.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Of each task.")] = None,
    examples: Annotated[
        int, typer.Option(min=0, help="Worked examples in few-shot prompts; 0 for none.")
    ] = 3,
    every_head: Annotated[bool, typer.Option(help="Steer all heads, too.")] = False,
    batch_size: BatchSize = 16,
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder for answers and tables; a run that was cut off goes on there.",
        ),
    ] = None,
    revision: Revision = None,
    dtype: Dtype = None,
) -> None:
    """Ask tasks with and without steering, and tell whether it helps."""
    from ..evaluation.run import Options, run_evaluation
    from ..evaluation.tables import FILES

    keep_data(task, [] if out is None else [out / name for name in FILES])
    run_evaluation(
        Options(
            model_named(model),
            tasks_named(task),
            _named_files(profile or []),
            alpha,
            samples,
            examples,
            every_head,
            batch_size,
            out,
            shlex.join(["pasta-chains", *sys.argv[1:]]),
            loading(revision, dtype),
        )
    )


@app.command()
def profile(
    model: Model,
    task: Tasks,
    out: Annotated[Path, typer.Option(help="Where to write the profile.")],
    samples: Annotated[int, typer.Option(min=1, help="Of each task in each split.")] = 200,
    alpha: Annotated[float, typer.Option(help="Coefficient with which heads are ranked.")] = 0.01,
    strategy: Annotated[
        str | None,
        typer.Option(help="multi-task or union for several tasks, or task-specific for one."),
    ] = None,
    k: Annotated[
        list[int] | None,
        typer.Option("--k", min=1, help="Try the best k heads of each task. As often as needed."),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Search only so many layers, the best ones.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="When to end with the best heads so far.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="That measure at the same time.")] = 1,
    batch_size: BatchSize = 16,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder of the measurements; by default it lies beside the profile."),
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for figures.")] = None,
    revision: Revision = None,
    dtype: Dtype = None,
) -> None:
    """Find the heads of a model that make it follow emphasis."""
    from ..profiling.options import Options as Search
    from ..profiling.run import Options, run_profiling

    keep_data(task, [out])
    search = Search(
        alpha=alpha,
        strategy=_strategy(strategy),
        best_layers=layers,
        sizes=tuple(k) if k else None,
        batch_size=batch_size,
        minutes=minutes,
    )
    run_profiling(
        Options(
            model_named(model),
            tasks_named(task),
            out,
            work,
            samples,
            search,
            processes,
            plots,
            loading(revision, dtype),
        )
    )


def _named_files(given: list[str]) -> dict[str, str | Path]:
    found: dict[str, str | Path] = {}
    for one in given:
        name, named, file = one.partition("=")
        if not named or Path(one).is_file():
            name, file = Path(one).stem, one
        if name in found:
            raise ProfileError(
                f"Two profiles have the name {name!r}. Give them names, as in --profile NAME=FILE."
            )
        found[name] = file if file == DEFAULT else Path(file)
    return found


def _strategy(named: str | None) -> Any:
    from ..profiling.options import STRATEGIES

    if named is not None and named not in STRATEGIES:
        raise TaskError(f"There is no strategy {named!r}; there are {', '.join(STRATEGIES)}.")
    return named
