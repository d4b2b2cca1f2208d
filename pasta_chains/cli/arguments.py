"""What several commands take: their options, and how these are read."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import TaskError

Model = Annotated[str, typer.Argument(help="Name or folder of a model, or pasta-reader.")]
OtherModel = Annotated[
    str | None, typer.Option(help="Name or folder of a model instead of the embedded one.")
]
BaseUrl = Annotated[
    str | None, typer.Option(help="A server with a model instead, as of pasta-chains serve.")
]
Heads = Annotated[
    str | None, typer.Option(help="File with the model's heads, or default for a guess.")
]
Template = Annotated[
    str, typer.Argument(help="A template file, or a shipped template such as rag/qa.jinja.")
]
Variables = Annotated[
    Path | None, typer.Option("--vars", help="A .json or .yaml file with the variables.")
]
Given = Annotated[
    list[str] | None,
    typer.Option("--set", help="name=value, as often as needed; JSON, otherwise text."),
]
Bold = Annotated[bool, typer.Option(help="Read **text** in the template as emphasis.")]
Tasks = Annotated[
    list[str],
    typer.Option(
        "--task",
        help="NAME for one of the embedded model's world (json, pronouns, bias-in-bios, "
        "counterfact, rules, documents); NAME=DATA for one of the paper's four on a file, folder "
        "or hub data set; FILE for a task of your own. As often as needed.",
    ),
]
Revision = Annotated[str | None, typer.Option(help="Of the model on the hub.")]
Dtype = Annotated[str | None, typer.Option(help="Of the weights, such as bfloat16.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Prompts in a batch.")]


def model_named(named: str) -> str:
    """The folder of the embedded model where its name is given, and no folder has that name."""
    from ..demo import MODEL

    return str(MODEL) if named == MODEL.name and not Path(named).exists() else named


def tasks_named(named: list[str]) -> dict[str, Any]:
    """Each task by its name, from what `--task` was given."""
    from ..demo.synthetic import SYNTHETIC, draw_synthetic
    from ..evaluation.loading import open_source

    found: dict[str, Any] = {}
    for one in named:
        source = None if one in SYNTHETIC else open_source(one)
        name = one if source is None else source.name
        if name in found:
            raise TaskError(f"Two tasks have the name {name!r}. Rename a file, or leave one out.")
        found[name] = partial(draw_synthetic, one) if source is None else source.task
    return found


def keep_data(tasks: list[str], written: list[Path]) -> None:
    """Refuse to write over the data of a task, or into its folder."""
    from ..demo.synthetic import SYNTHETIC

    named = [one if Path(one).is_file() else one.partition("=")[2] for one in tasks]
    data = {
        Path(one).resolve()
        for one, task in zip(named, tasks, strict=True)
        if one and task not in SYNTHETIC
    }
    for path in written:
        if data & {path.resolve(), path.resolve().parent}:
            raise TaskError(f"{path} is data of a task, or would become some. Give another --out.")


def loading(revision: str | None, dtype: str | None) -> dict[str, str]:
    """What `from_pretrained` is given of these."""
    given = {"revision": revision, "dtype": dtype}
    return {name: value for name, value in given.items() if value is not None}
