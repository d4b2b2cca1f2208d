"""The command `pasta-chains`: parse, call, print."""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import jinja2
import typer
from rich.console import Console

from . import __version__
from .default_profile import NAME as DEFAULT
from .errors import PastaError, ProfileError, PromptError, TaskError

if TYPE_CHECKING:
    from .spans import SpanStr

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


OtherModel = Annotated[
    str | None, typer.Option(help="Name or folder of a model instead of the embedded one.")
]
BaseUrl = Annotated[
    str | None, typer.Option(help="A server with a model instead, as of pasta-chains serve.")
]
Heads = Annotated[
    str | None, typer.Option(help="File with the model's heads, or default for a guess.")
]


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
    from .demo.run import Options, run_demo

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


class Format(StrEnum):
    """How a rendered prompt is shown."""

    ANSI = "ansi"
    HTML = "html"
    JSON = "json"
    TEXT = "text"


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
    from .demo.run import open_model
    from .report import inspect_prompt

    text = _rendered(template, variables, given, bold)
    report = inspect_prompt(
        open_model(model and _model(model), base_url, profile),
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
    from .spans import SpanStr
    from .template import load_template
    from .variables import read_variables

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


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Name or folder of a model, or pasta-reader.")],
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
    from .evaluation.run import Options, run_evaluation
    from .evaluation.tables import FILES

    _keep_data(task, [] if out is None else [out / name for name in FILES])
    run_evaluation(
        Options(
            _model(model),
            _tasks(task),
            _named_files(profile or []),
            alpha,
            samples,
            examples,
            every_head,
            batch_size,
            out,
            shlex.join(["pasta-chains", *sys.argv[1:]]),
            _loading(revision, dtype),
        )
    )


@app.command()
def profile(
    model: Annotated[str, typer.Argument(help="Name or folder of a model, or pasta-reader.")],
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
    from .profiling.options import Options as Search
    from .profiling.run import Options, run_profiling

    _keep_data(task, [out])
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
            _model(model),
            _tasks(task),
            out,
            work,
            samples,
            search,
            processes,
            plots,
            _loading(revision, dtype),
        )
    )


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name or folder of a model, or pasta-reader.")],
    profile: Annotated[
        str | None,
        typer.Option(
            help="File with heads, or default for a guess; without, the one in the model's folder "
            "or the published one."
        ),
    ] = None,
) -> None:
    """Start a vLLM server that steers; what stands after -- are arguments of vllm serve."""
    from .vllm.serve import serve as start

    start(_model(model), profile, context.args)


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
    from .demo.run import open_model
    from .playground import launch

    load = partial(open_model, model and _model(model), base_url, profile)
    launch(load, host=host, port=port, results=results)


def _model(named: str) -> str:
    from .demo import MODEL

    return str(MODEL) if named == MODEL.name and not Path(named).exists() else named


def _tasks(named: list[str]) -> dict[str, Any]:
    from .demo.synthetic import SYNTHETIC, draw_synthetic
    from .evaluation.loading import open_source

    found: dict[str, Any] = {}
    for one in named:
        source = None if one in SYNTHETIC else open_source(one)
        name = one if source is None else source.name
        if name in found:
            raise TaskError(f"Two tasks have the name {name!r}. Rename a file, or leave one out.")
        found[name] = partial(draw_synthetic, one) if source is None else source.task
    return found


def _keep_data(tasks: list[str], written: list[Path]) -> None:
    """Refuse to write over the data of a task, or into its folder."""
    from .demo.synthetic import SYNTHETIC

    named = [one if Path(one).is_file() else one.partition("=")[2] for one in tasks]
    data = {
        Path(one).resolve()
        for one, task in zip(named, tasks, strict=True)
        if one and task not in SYNTHETIC
    }
    for path in written:
        if data & {path.resolve(), path.resolve().parent}:
            raise TaskError(f"{path} is data of a task, or would become some. Give another --out.")


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


def _loading(revision: str | None, dtype: str | None) -> dict[str, str]:
    given = {"revision": revision, "dtype": dtype}
    return {name: value for name, value in given.items() if value is not None}


def _strategy(named: str | None) -> Any:
    from .profiling.options import STRATEGIES

    if named is not None and named not in STRATEGIES:
        raise TaskError(f"There is no strategy {named!r}; there are {', '.join(STRATEGIES)}.")
    return named


if __name__ == "__main__":
    main()
