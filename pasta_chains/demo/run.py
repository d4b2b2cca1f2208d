"""`pasta-chains demo`: load, answer one question in both frameworks, then ask many."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from ..emphasis_model import EmphasisModel
from ..errors import DocumentError
from . import DOCUMENTS

from .retrieval import Bm25, read_folder  # isort: skip  (says which extra is missing, so it is first)
from .opening import open_model
from .pipelines import demonstrate
from .questions import Row, evaluate, rows_to_ask
from .show import results_table, show_demonstration, write_report

QUESTION = "Who is the keeper of the Marrow lighthouse?"
TRUSTED = "harbor-office.txt"


@dataclass(frozen=True)
class Options:
    """What the command was asked for.

    Attributes:
        documents: Folder of text files; None for the shipped ones.
        question: What to ask; None for the shipped question.
        trust: Name of the file to emphasize; None for the shipped one.
        model: Name or folder of the model; None for the embedded one.
        base_url: Where a server with a model is, to ask that one.
        profile: File with the model's heads; None for the one in the model's folder.
        questions: Held-out questions in each line of the table; 0 for no table.
        report: Where to write the table as Markdown.
        svg: Where to draw what was printed.
        command: The command line, for the report.
    """

    documents: Path | None = None
    question: str | None = None
    trust: str | None = None
    model: str | None = None
    base_url: str | None = None
    profile: str | Path | None = None
    questions: int = 60
    report: Path | None = None
    svg: Path | None = None
    command: str = "pasta-chains demo"


def run_demo(options: Options) -> None:
    """Run the demo.

    Raises:
        PastaError: A document, the model or the profile is not usable.
    """
    _check_places(options)
    console = Console(record=options.svg is not None, width=90 if options.svg else None)
    folder = options.documents or DOCUMENTS
    files = read_folder(folder)
    question, trusted = _what_to_ask(options)
    if trusted not in [file.name for file in files]:
        names = ", ".join(file.name for file in files)
        raise DocumentError(f"There is no document {trusted!r} in {folder}. It holds: {names}.")
    model = open_model(options.model, options.base_url, options.profile)
    chat = bool(model.tokenizer.chat_template)
    shown = demonstrate(model, Bm25(files), question, trusted, chat=chat)
    show_demonstration(console, shown, question, trusted)
    if options.questions:
        started = time.monotonic()
        rows = _ask_held_out(model, options.questions, chat=chat, console=console)
        console.print(f"\n{options.questions} held-out questions in each line:")
        console.print(results_table(rows))
        if options.report:
            seconds = time.monotonic() - started
            write_report(options.report, rows, model, command=options.command, seconds=seconds)
            console.print(f"Wrote {options.report}.", markup=False)
    if options.svg:
        drawn = console.export_svg(title="pasta-chains demo")
        options.svg.write_text(_without_fonts(drawn), encoding="utf-8")


def _without_fonts(svg: str) -> str:
    """The drawing in the viewer's own fonts, as rich's would come from another machine."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def _check_places(options: Options) -> None:
    """Refuse files that could not be written before anything is computed for them."""
    if options.report and not options.questions:
        raise DocumentError("--report writes the table, and --questions 0 asks for none.")
    for path in (options.report, options.svg):
        if path and not path.absolute().parent.is_dir():
            raise DocumentError(f"There is no folder {path.parent} to write {path.name} into.")


def _what_to_ask(options: Options) -> tuple[str, str]:
    """The question and the trusted file; the shipped ones go with the shipped documents only."""
    if options.documents is None:
        question = QUESTION if options.question is None else options.question
        return question, TRUSTED if options.trust is None else options.trust
    missing = [
        flag
        for flag, value in (("--question", options.question), ("--trust", options.trust))
        if value is None
    ]
    if missing or options.question is None or options.trust is None:
        raise DocumentError(
            f"With --documents the demo also needs {' and '.join(missing)}: what to ask, and the "
            "name of the file whose answer you trust."
        )
    return options.question, options.trust


def _ask_held_out(model: EmphasisModel, count: int, *, chat: bool, console: Console) -> list[Row]:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Held-out questions", total=rows_to_ask(count))
        return list(
            evaluate(model, count, chat=chat, progress=lambda done: progress.advance(task, done))
        )
