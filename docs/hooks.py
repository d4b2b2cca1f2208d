"""What mkdocs does besides: pages that are made of files outside this folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from pasta_chains.cli import app

ROOT = Path(__file__).parent.parent
# Files that have a page of the site, where other pages link to them.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "pasta_chains/demo/pasta-reader/README.md": "reference/model-card.md",
}
_LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
_FRONT_MATTER = re.compile(r"\A---\n.*?^---\n", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand elsewhere, and that of the command line."""
    for source, page in PAGES.items():
        text = _FRONT_MATTER.sub("", (ROOT / source).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "reference/command-line.md", content=_command_line()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to such files lead to their pages."""
    here = page.file.src_uri
    folder = os.path.dirname(f"docs/{here}")

    def led(link: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(folder, link[0]))
        return os.path.relpath(PAGES[target], os.path.dirname(here)) if target in PAGES else link[0]

    return _LINK.sub(led, markdown)


def _command_line() -> str:
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="pasta-chains")
    page = get_docs_for_click(obj=command, ctx=context, name="pasta-chains", title="Command line")
    # The help of an option is text for a terminal, where asterisks are no bold.
    return re.sub(
        r"^\* `.*$", lambda line: line[0].replace("**", r"\*\*"), page, flags=re.MULTILINE
    )
