"""Commands that answer: the demo, the playground and a server."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .app import app
from .arguments import BaseUrl, Heads, Model, OtherModel, model_named


@app.command()
def demo(
    documents: Annotated[
        Path | None, typer.Option(help="Folder of .txt or .md files to answer from.")
    ] = None,
    question: Annotated[str | None, typer.Option(help="What to ask.")] = None,
    trust: Annotated[
        str | None, typer.Option(help="Name of the file to believe where files disagree.")
    ] = None,
    model: OtherModel = None,
    base_url: BaseUrl = None,
    profile: Heads = None,
    questions: Annotated[
        int, typer.Option(min=0, help="Held-out questions in each line of the table; 0 for none.")
    ] = 60,
    report: Annotated[Path | None, typer.Option(help="Write the table as Markdown.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw what is printed as SVG.")] = None,
) -> None:
    """Answer from documents without and with emphasis, then count on held-out questions."""
    from ..demo.run import Options, run_demo

    run_demo(
        Options(
            documents,
            question,
            trust,
            model,
            base_url,
            profile,
            questions,
            report,
            svg,
            command=shlex.join(["pasta-chains", *sys.argv[1:]]),
        )
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    model: Model,
    profile: Annotated[
        str | None,
        typer.Option(
            help="File with heads, or default for a guess; without, the one in the model's folder "
            "or the published one."
        ),
    ] = None,
) -> None:
    """Start a vLLM server that steers; what stands after -- are arguments of vllm serve."""
    from ..vllm.serve import serve as start

    start(model_named(model), profile, context.args)


@app.command()
def playground(
    model: OtherModel = None,
    base_url: BaseUrl = None,
    profile: Heads = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder of what evaluate and profile wrote, to show.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="By default the first free from 7860.")] = None,
) -> None:
    """Write prompts in the browser, and see what emphasis changes."""
    from ..demo.opening import open_model
    from ..playground import launch

    load = partial(open_model, model and model_named(model), base_url, profile)
    launch(load, host=host, port=port, results=results)
