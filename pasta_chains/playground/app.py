"""The page, put together and served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gradio as gr

from ..emphasis_model import EmphasisModel
from ..errors import DocumentError
from .documents_tab import build_documents_tab
from .prompt_tab import build_prompt_tab
from .results_tab import build_results_tab
from .served import Served

_CSS = """
.wrong { border-left: 4px solid #cf222e; padding: 0.5rem 0.75rem; }
.wrong pre { margin: 0.4rem 0 0; white-space: pre-wrap; }
"""


def build(served: Served, results: Path | None = None) -> gr.Blocks:
    """The page, not served yet.

    Args:
        served: The model that answers.
        results: Folder of tables and figures to show.
    """
    page: gr.Blocks
    with gr.Blocks(title="pasta_chains", analytics_enabled=False) as page:
        gr.Markdown("# Bold for prompts")
        with gr.Tab("Prompt"):
            build_prompt_tab(served)
        with gr.Tab("Documents"):
            build_documents_tab(served)
        with gr.Tab("Results"):
            build_results_tab(results)
    return page


def launch(
    load: Callable[[], EmphasisModel],
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    results: Path | None = None,
    block: bool = True,
) -> str:
    """Serve the page, and say where.

    Args:
        load: Loads the model, while the page is already there.
        host: Address to listen on; by default this machine alone can reach it.
        port: Of the page; by default the first free one from 7860.
        results: Folder of what `evaluate` and `profile` wrote.
        block: Whether to return only when it is stopped.

    Returns:
        Its address.

    Raises:
        DocumentError: There is no such folder of results.
    """
    if results is not None and not results.is_dir():
        raise DocumentError(f"There is no folder {results} with results.")
    theme = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    page = build(Served(load), results)
    _, url, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        theme=theme,
        css=_CSS,
        footer_links=[],
        quiet=True,  # it would offer a public link
        prevent_thread_lock=True,
    )
    print(f"The playground is at {url} until you stop it with Ctrl+C.", flush=True)
    if block:
        page.block_thread()
    return str(url)
