"""Makes the notebooks of the tutorials from their pages, and executes them: `make notebooks`.

A page is the only source. Its Python becomes cells, without the lines that show what is printed;
all the rest, shell commands too, becomes text.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from fake_server import fake_server
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from traitlets import default

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL

FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
PAGES = sorted(FOLDER.glob("*.md"))
ADDRESS = "http://localhost:8000"
"""Where the pages have a server; a stand-in takes its place."""

_SHOWN = re.compile(r"^# > .*\n?", re.MULTILINE)
_LINK = re.compile(r"\]\(([\w-]+)\.md([)#])")
_FORMS = ("text/plain", "text/html")
_SETTINGS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class ThisPython(AsyncKernelManager):
    """Runs the Python that runs this, whatever kernels the user has installed."""

    @default("kernel_spec_manager")
    def _only_the_native_one(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


def notebook_of(page: Path) -> Any:
    """The notebook of a page, not executed."""
    cells: list[Any] = []
    for cell in jupytext.reads(page.read_text(encoding="utf-8"), "md").cells:
        if cell.cell_type == "code" and not cell.source.startswith("%%"):
            source = _SHOWN.sub("", cell.source).strip()
            cells.append(nbformat.v4.new_code_cell(source))
        else:
            cells.append(nbformat.v4.new_markdown_cell(_text_of(cell.source, page)))
    for number, cell in enumerate(cells, start=1):
        cell.id = f"cell-{number}"
    metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def _text_of(source: str, page: Path) -> str:
    """Text of a page in its notebook, which lies beside it."""
    shell = re.match(r"%%(\w+)\n(.*)", source, re.DOTALL)
    if shell:  # jupytext makes cells of shell commands
        return f"```{shell[1]}\n{shell[2]}\n```"
    text = re.sub(rf"^\[.*\]\({page.stem}\.ipynb\)\n*", "", source, flags=re.MULTILINE)
    return _LINK.sub(lambda link: f"]({link[1]}.ipynb{link[2]}", text.strip())


def execute(notebook: Any, folder: str, address: str) -> None:
    """Execute a notebook in a folder, and keep what it printed and showed.

    Args:
        notebook: Gets the outputs.
        folder: Where the code runs.
        address: Of what stands in for the server of the pages.
    """
    asked = nbformat.from_dict(notebook)
    for cell in asked.cells:
        cell.source = cell.source.replace(ADDRESS, address)
    client = NotebookClient(
        asked,
        kernel_manager_class=ThisPython,
        kernel_name=_KERNEL["name"],
        resources={"metadata": {"path": folder}},
        record_timing=False,
        startup_timeout=120,
        timeout=300,
    )
    client.execute()
    for cell, run in zip(notebook.cells, asked.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs = [*kept(run.outputs, address)]


def kept(outputs: list[Any], address: str) -> Iterator[Any]:
    """Outputs that are the same whenever and wherever the notebook runs."""
    printed = "".join(
        one.text for one in outputs if one.output_type == "stream" and one.name == "stdout"
    )
    if printed:
        yield nbformat.v4.new_output("stream", text=printed.replace(address, ADDRESS))
    for one in outputs:
        if one.output_type in ("execute_result", "display_data"):
            data = {kind: one.data[kind] for kind in _FORMS if kind in one.data}
            yield nbformat.v4.new_output(one.output_type, data=data)


def write(pages: Iterable[Path], out: Path) -> None:
    """Make and execute notebooks, each in an empty folder and without settings of the user's.

    Args:
        pages: Of the tutorials.
        out: Folder of the notebooks.
    """
    with (
        tempfile.TemporaryDirectory() as settings,
        fake_server(SteeredModel.from_pretrained(MODEL)) as server,
    ):
        os.environ |= {name: f"{settings}/{name}" for name in _SETTINGS}
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        for page in pages:
            notebook = notebook_of(page)
            with tempfile.TemporaryDirectory() as folder:
                execute(notebook, folder, server.url)
            nbformat.write(notebook, out / f"{page.stem}.ipynb")


def main() -> None:
    """Write the notebooks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of pages, such as rules; by default all")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the notebooks")
    given = parser.parse_args()
    named = {FOLDER / f"{name}.md" for name in given.names}
    write([page for page in PAGES if page in named or not named], given.out)


if __name__ == "__main__":
    main()
