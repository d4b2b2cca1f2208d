"""The tab that shows what `pasta-chains evaluate` and `pasta-chains profile` wrote."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from pathlib import Path

import gradio as gr

_EXPLAINED = (
    "Start `pasta-chains playground --results FOLDER` with the folder that `pasta-chains evaluate "
    "--out` or `pasta-chains profile --plots` wrote, to see its tables and figures here."
)


def build_results_tab(folder: Path | None) -> None:
    """Put the tab onto the page that is being built."""
    if folder is None:
        gr.Markdown(_EXPLAINED)
        return
    refresh = gr.Button("Read again")
    tables, figures = gr.Markdown(elem_id="tables"), gr.HTML(elem_id="figures")
    tables.value, figures.value = _tables(folder), _figures(folder)
    refresh.click(lambda: (_tables(folder), _figures(folder)), None, [tables, figures])


def _tables(folder: Path) -> str:
    found = sorted(folder.rglob("*.md"))
    parts = [f"## {file.relative_to(folder)}\n\n{file.read_text('utf-8')}" for file in found]
    return "\n\n".join(parts) or f"There are no tables in {folder.name}."


def _figures(folder: Path) -> str:
    return "".join(
        f'<figure><img alt="{escape(file.stem)}" src="data:image/svg+xml;base64,'
        f'{b64encode(file.read_bytes()).decode()}"><figcaption>{escape(file.stem)}</figcaption>'
        "</figure>"
        for file in sorted(folder.rglob("*.svg"))
    )
