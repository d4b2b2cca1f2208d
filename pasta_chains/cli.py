"""The command `pasta-chains`: parse, call, print."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import jinja2
import typer
from rich.console import Console

from . import __version__
from .errors import PastaError, PromptError

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
    ] = 60,
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


class Format(StrEnum):
    """How a rendered prompt is shown."""

    ANSI = "ansi"
    HTML = "html"
    JSON = "json"
    TEXT = "text"


@app.command()
def render(
    template: Annotated[
        str, typer.Argument(help="A template file, or a shipped template such as rag/qa.jinja.")
    ],
    variables: Annotated[
        Path | None, typer.Option("--vars", help="A .json or .yaml file with the variables.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", help="name=value, as often as needed; JSON, otherwise text."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="How to show it.")] = Format.ANSI,
    bold: Annotated[bool, typer.Option(help="Read **text** in the template as emphasis.")] = False,
) -> None:
    """Show what a model will read, with the emphasis visible."""
    from .spans import SpanStr
    from .template import load_template
    from .variables import read_variables

    values = read_variables(variables, given or ())
    loaded = load_template(template, bold=bold)
    try:
        text = SpanStr(loaded.render(values))
    except jinja2.UndefinedError as error:
        error.add_note("give it with --vars FILE or --set name=value")
        raise
    except (PastaError, jinja2.TemplateError):
        raise
    except Exception as error:  # a template is a program, and may fail in any way
        raise PromptError(
            f"The template {template} fails with these variables: {type(error).__name__}: {error}. "
            "Compare them with what the template does with them."
        ) from error
    if form is Format.ANSI:
        Console(highlight=False, soft_wrap=True).print(text.__rich__())
    elif form is Format.JSON:
        typer.echo(json.dumps(text.to_dict(), ensure_ascii=False, indent=2))
    else:
        typer.echo(text.to_html() if form is Format.HTML else text.text)


if __name__ == "__main__":
    main()
