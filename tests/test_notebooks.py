"""The notebooks of the tutorials are made of their pages, and print what they show."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import notebooks
import pytest

PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SCRIPT = Path(notebooks.__file__)


def committed(page: Path) -> Any:
    return nbformat.read(page.with_suffix(".ipynb"), as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell: Any) -> list[str]:
    return [
        line
        for output in cell.outputs
        if output.output_type == "stream"
        for line in output.text.splitlines()
    ]


def test_each_tutorial_has_a_notebook_and_links_to_it() -> None:
    pages = {page.stem for page in notebooks.PAGES}
    assert pages == {file.stem for file in notebooks.FOLDER.glob("*.ipynb")}
    for page in notebooks.PAGES:
        assert f"]({page.stem}.ipynb)" in page.read_text("utf-8")


@pytest.mark.parametrize("page", notebooks.PAGES, ids=lambda page: page.stem)
def test_the_committed_notebook_is_made_of_its_page(page: Path) -> None:
    kept = committed(page)
    for cell in code(kept):
        cell.outputs = []
    assert kept == notebooks.notebook_of(page), "run make notebooks"


@pytest.mark.parametrize("page", notebooks.PAGES, ids=lambda page: page.stem)
def test_cells_are_the_blocks_of_the_page_and_print_what_it_shows(page: Path) -> None:
    blocks = PYTHON.findall(page.read_text("utf-8"))
    cells = code(committed(page))
    assert len(cells) == len(blocks) > 0
    for cell, block in zip(cells, blocks, strict=True):
        lines = block.splitlines()
        shown = [line for line in lines if line.startswith("# > ")]
        kept = [line for line in lines if line not in shown]
        assert cell.source.splitlines() == "\n".join(kept).strip().splitlines()
        assert printed(cell) == [line.removeprefix("# > ") for line in shown]


@pytest.mark.parametrize("page", notebooks.PAGES, ids=lambda page: page.stem)
def test_executed_afresh_it_is_what_is_committed(page: Path, tmp_path: Path) -> None:
    """In a process of its own, so that no socket or loop of a kernel's client is left here."""
    asked = [sys.executable, str(SCRIPT), page.stem, "--out", str(tmp_path)]
    run = subprocess.run(asked, check=False, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    afresh = nbformat.read(tmp_path / f"{page.stem}.ipynb", as_version=4)
    assert code(afresh) == code(committed(page)), "run make notebooks"


def test_a_notebook_shows_emphasis() -> None:
    cells = code(committed(notebooks.FOLDER / "first-chain.md"))
    outputs = [output for cell in cells for output in cell.outputs if "data" in output]
    assert "<mark>The treasurer of the Okonjo club is" in outputs[0].data["text/html"]


@pytest.mark.parametrize("page", notebooks.PAGES, ids=lambda page: page.stem)
def test_links_of_a_notebook_lead_somewhere(page: Path) -> None:
    texts = [cell.source for cell in committed(page).cells if cell.cell_type == "markdown"]
    targets = re.findall(r"\]\(([^)#]+)", "\n".join(texts))
    assert targets
    for target in targets:
        assert target.startswith("http") or (page.parent / target).exists(), target
        assert target != f"{page.stem}.ipynb"


def test_the_notebooks_have_nothing_that_changes_between_runs() -> None:
    for page in notebooks.PAGES:
        text = page.with_suffix(".ipynb").read_text("utf-8")
        assert re.findall(r'"execution_count": (?!null)', text) == []
        assert "/tmp/" not in text
        assert "127.0.0.1" not in text


def test_of_what_a_cell_puts_out_only_the_stable_is_kept() -> None:
    here = "http://127.0.0.1:5"
    streams = [("stdout", f"at {here}\n"), ("stderr", "a bar\n"), ("stdout", "2\n")]
    shown = {"text/html": "<b>2</b>", "text/plain": "2", "image/png": "…"}
    outputs = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in streams]
    outputs.append(nbformat.v4.new_output("execute_result", data=shown, execution_count=3))
    stream, result = notebooks.kept(outputs, here)
    assert stream.text == f"at {notebooks.ADDRESS}\n2\n"
    assert result.data == {"text/html": "<b>2</b>", "text/plain": "2"}
    assert result.execution_count is None
