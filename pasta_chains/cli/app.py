"""The command itself: its name, its version, and how it ends."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import jinja2
import typer

from .. import __version__
from ..errors import PastaError

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
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        sys.exit(_fail(f"{error}{notes}"))
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
