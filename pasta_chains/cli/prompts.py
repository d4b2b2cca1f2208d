"""Commands that show one prompt: render and inspect."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import jinja2
import typer
from rich.console import Console

from ..errors import PastaError, PromptError
from .app import app
from .arguments import BaseUrl, Bold, Given, Heads, OtherModel, Template, Variables, model_named

if TYPE_CHECKING:
    from ..spans import SpanStr


class Format(StrEnum):
    """How a rendered prompt is shown."""

    ANSI = "ansi"
    HTML = "html"
    JSON = "json"
    TEXT = "text"


@app.command()
def render(
    template: Template,
    variables: Variables = None,
    given: Given = None,
    form: Annotated[Format, typer.Option("--format", help="How to show it.")] = Format.ANSI,
    bold: Bold = False,
) -> None:
    """Show what a model will read, with the emphasis visible."""
    text = _rendered(template, variables, given, bold)
    if form is Format.ANSI:
        Console(highlight=False, soft_wrap=True).print(text.__rich__())
    elif form is Format.JSON:
        typer.echo(json.dumps(text.to_dict(), ensure_ascii=False, indent=2))
    else:
        typer.echo(text.to_html() if form is Format.HTML else text.text)


class ReportFormat(StrEnum):
    """How a report is written."""

    HTML = "html"
    JSON = "json"


@app.command()
def inspect(
    template: Template,
    variables: Variables = None,
    given: Given = None,
    model: OtherModel = None,
    base_url: BaseUrl = None,
    profile: Heads = None,
    alpha: Annotated[float | None, typer.Option(help="Instead of the profile's.")] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Send it as one user message of a chat.")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    form: Annotated[ReportFormat, typer.Option("--format", help="What to write.")] = (
        ReportFormat.HTML
    ),
    out: Annotated[Path | None, typer.Option(help="File to write instead of printing.")] = None,
    bold: Bold = False,
) -> None:
    """Report what a model reads of a prompt, and its answers without and with emphasis."""
    from ..demo.opening import open_model
    from ..report import inspect_prompt

    text = _rendered(template, variables, given, bold)
    report = inspect_prompt(
        open_model(model and model_named(model), base_url, profile),
        [{"role": "user", "content": text}] if chat else text,
        alpha=alpha,
        max_new_tokens=max_new_tokens,
    )
    if form is ReportFormat.HTML:
        written = report.to_html()
    else:
        written = json.dumps(report.to_dict(), ensure_ascii=False, indent=2)
    if out is None:
        typer.echo(written)
    else:
        out.write_text(written, encoding="utf-8")


def _rendered(
    template: str, variables: Path | None, given: list[str] | None, bold: bool
) -> SpanStr:
    from ..spans import SpanStr
    from ..template import load_template
    from ..variables import read_variables

    values = read_variables(variables, given or ())
    loaded = load_template(template, bold=bold)
    try:
        return SpanStr(loaded.render(values))
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
