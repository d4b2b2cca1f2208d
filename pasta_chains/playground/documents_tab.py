"""The tab in which a visitor asks about files, and says which passages to trust."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from ..demo.retrieval import Bm25, TextFile
from ..errors import DocumentError
from ..report.page import prompt_of
from ..spans import SpanStr
from ..template import load_template
from .asking import Question, answers
from .served import Served
from .telling import told

PASSAGES = 4
"""So many are found for a question."""


def build_documents_tab(served: Served) -> None:
    """Put the tab onto the page that is being built."""
    with gr.Row():
        with gr.Column():
            files = gr.File(file_count="multiple", label="Text files (UTF-8)", elem_id="files")
            question = gr.Textbox(label="Question", elem_id="question")
            find = gr.Button("Find passages", elem_id="find")
            trusted = gr.CheckboxGroup([], label="Passages: tick those to trust", elem_id="trusted")
            alpha = gr.Slider(0.001, 1, 0.01, step=0.001, label="alpha")
            ask = gr.Button("Answer", variant="primary", elem_id="ask-files")
        with gr.Column():
            shown = gr.HTML(elem_id="files-preview")
            plain = gr.Textbox(label="Without emphasis", lines=4, elem_id="files-plain")
            steered = gr.Textbox(label="With emphasis", lines=4, elem_id="files-steered")

    def passages(paths: list[str] | None, asked: str) -> Any:
        with told():
            choices = [(f"{one.name}: {one.text}", one.name) for one in _found(paths, asked)]
            return gr.CheckboxGroup(choices, value=[])

    async def answer(
        paths: list[str] | None, asked: str, names: list[str], alpha: float
    ) -> AsyncGenerator[tuple[str, str, str]]:
        with told():
            text = _prompt(_found(paths, asked), asked, names)
            running = answers(served.model, Question(text, alpha, chat=True))
            try:
                async for texts in running:
                    yield prompt_of(text), *texts
            finally:
                await running.aclose()

    find.click(passages, [files, question], trusted)
    ask.click(
        answer, [files, question, trusted, alpha], [shown, plain, steered], concurrency_limit=4
    )


def _found(paths: list[str] | None, asked: str) -> list[TextFile]:
    """The passages that suit a question best, best first."""
    if not asked.strip():
        raise DocumentError("Ask a question first.")
    every = [passage for path in paths or () for passage in read_passages(Path(path))]
    if not every:
        raise DocumentError("Upload text files first: there is nothing to answer from.")
    return [passage for passage, _ in Bm25(every).search(asked, PASSAGES)]


def read_passages(path: Path) -> list[TextFile]:
    """The paragraphs of a file.

    Raises:
        DocumentError: It is not UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"{path.name} is not UTF-8 text: byte {error.start} cannot be read. Upload text files."
        ) from error
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return [
        TextFile(f"{path.name} {number}", paragraph)
        for number, paragraph in enumerate(filter(None, paragraphs), 1)
    ]


def _prompt(found: Sequence[TextFile], asked: str, trusted: Sequence[str]) -> SpanStr:
    documents = [{"text": one.text, "trusted": one.name in trusted} for one in found]
    return SpanStr(load_template("rag/qa.jinja").render(documents=documents, question=asked))
