"""The command `pasta-chains`: parse, call, print."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import jinja2
import typer

from . import __version__
from .errors import PastaError

app = typer.Typer(
    help="Emphasis for prompts: templates with bold, and local models that read it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> NoReturn:
    """Run the command line; what a user can mend is one message and exit status 2."""
    try:
        app()
    except (PastaError, jinja2.TemplateError) as error:
        sys.exit(_fail(str(error)))
    raise AssertionError("typer exits by itself")


def _fail(message: str) -> int:
    typer.echo(f"Error: {message}", err=True)
    return 2


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Emphasis for prompts: templates with bold, and local models that read it."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    documents: Annotated[
        Path | None, typer.Option(help="Folder of .txt or .md files to answer from.")
    ] = None,
    question: Annotated[str | None, typer.Option(help="What to ask.")] = None,
    trust: Annotated[
        str | None, typer.Option(help="Name of the file to believe where files disagree.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A Hugging Face causal model instead of the embedded one.")
    ] = None,
    profile: Annotated[Path | None, typer.Option(help="The model's head profile.")] = None,
    questions: Annotated[
        int, typer.Option(min=0, help="Held-out questions in each line of the table; 0 for none.")
    ] = 100,
    report: Annotated[Path | None, typer.Option(help="Write the table as Markdown.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw what is printed as SVG.")] = None,
) -> None:
    """Answer from documents without and with emphasis, then count on held-out questions."""
    from .demo.run import Options, run_demo

    run_demo(
        Options(
            documents,
            question,
            trust,
            model,
            profile,
            questions,
            report,
            svg,
            command=shlex.join(["pasta-chains", *sys.argv[1:]]),
        )
    )


if __name__ == "__main__":
    main()
