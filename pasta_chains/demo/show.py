"""What the demo prints and writes: prompts, answers, and the table of held-out questions."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers
from rich import box
from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .. import __version__
from ..emphasis_model import EmphasisModel
from ..engine import SteeredModel
from .pipelines import Demonstration
from .questions import NEW_PHRASINGS, Row

_HEADINGS = ("Questions", "Condition", "trusted document's answer", "other's answer", "neither")


def show_demonstration(console: Console, shown: Demonstration, question: str, trusted: str) -> None:
    """Print the prompt with its emphasis highlighted, and the answers side by side."""
    console.print(
        Panel(shown.prompt.__rich__(), title="The prompt; emphasis is highlighted", width=88)
    )
    asked = Text.assemble((question, "bold"), "  Trusted: ", (trusted, "bold"), "\n")
    console.print(asked)
    for framework, (plain, steered) in shown.answers.items():
        panels: list[RenderableType] = [
            Panel(Text(plain), title=f"{framework}: no emphasis", width=43),
            Panel(Text(steered), title=f"{framework}: emphasized", width=43, border_style="yellow"),
        ]
        console.print(Columns(panels))


def results_table(rows: Sequence[Row]) -> Table:
    """The accuracy table for the terminal."""
    table = Table(box=box.SIMPLE_HEAD, width=88)
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in _HEADINGS[:2] else "right")
    for before, row in zip([None, *rows], rows, strict=False):
        same = before is not None and before.group == row.group
        table.add_row("" if same else row.group, row.condition, *_shares(row))
    return table


def write_report(
    path: Path, rows: Sequence[Row], model: EmphasisModel, *, command: str, seconds: float
) -> None:
    """Write the table as Markdown, with what is needed to read and repeat it."""
    heads = sum(map(len, model.profile.heads.values())) if model.profile else 0
    alpha = model.profile.alpha if model.profile else 1.0
    lines = [
        "# Held-out questions",
        "",
        "| " + " | ".join(_HEADINGS) + " |",
        "| --- | --- | ---: | ---: | ---: |",
        *(f"| {row.group} | {row.condition} | {' | '.join(_shares(row))} |" for row in rows),
        "",
        f"{len(rows[0].outcomes)} held-out questions in each line, greedy decoding. Names are "
        f"never those of the training data; {NEW_PHRASINGS:.0%} of statements and questions are "
        "phrased as training never phrased them. Which of two disagreeing documents is trusted is "
        "drawn by chance. Where no document answers, the wanted answer is to say so.",
        "",
        f"`{command}` wrote this in {seconds:.0f} s on {datetime.now(UTC):%Y-%m-%d}: model "
        f"{Path(model.name).name}, {heads} steered heads, alpha {alpha}; pasta-chains "
        f"{__version__}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"Python {platform.python_version()}; {_machine(model)}.",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _shares(row: Row) -> list[str]:
    wanted, other, neither = (f"{row.share(one):.1%}" for one in ("wanted", "other", "neither"))
    has_other = row.share("other") > 0 or "disagree" in row.group
    return [wanted, other if has_other else "-", neither]


def _machine(model: EmphasisModel) -> str:
    if not isinstance(model, SteeredModel):
        return "on a server"
    if model.model.device.type == "cuda":
        return torch.cuda.get_device_name(model.model.device)
    return f"CPU ({platform.machine()}, {os.cpu_count()} cores, {_processor()})"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unnamed processor"
