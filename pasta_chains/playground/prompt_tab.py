"""The tab in which a visitor writes a prompt and sees what the model makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from html import escape
from typing import Any

import gradio as gr

from ..report.page import fragment_of, prompt_of
from ..template import template_source
from .asking import Question, answers, report_of
from .code import as_langchain, as_llama_index, as_python
from .editing import SHIPPED, EditorError, example, examples, read_yaml, rendered
from .served import Served
from .telling import told

CODE = {"Python": as_python, "LangChain": as_langchain, "LlamaIndex": as_llama_index}


def build_prompt_tab(served: Served) -> None:
    """Put the tab onto the page that is being built."""
    with gr.Row():
        with gr.Column():
            shipped = gr.Dropdown(list(examples()), value=SHIPPED, label="Template")
            template = gr.Code(
                template_source(SHIPPED),
                "jinja2",
                label="Template",
                lines=12,
                elem_id="template",
                wrap_lines=True,
            )
            variables = gr.Code(
                example(SHIPPED),
                "yaml",
                label="Variables (YAML)",
                lines=8,
                elem_id="variables",
                wrap_lines=True,
            )
        with gr.Column():
            gr.Markdown("### What the model reads")
            shown = gr.HTML(preview(template.value, variables.value), elem_id="preview")
            with gr.Row():
                alpha = gr.Slider(
                    0.001, 1, 0.01, step=0.001, label="alpha", elem_id="alpha",
                    info="How much plain text counts beside the emphasis; 1 does not steer.",
                )  # fmt: skip
                share = gr.Slider(
                    0, 100, 100, step=5, label="Heads", elem_id="share",
                    info="Percent of the profile's heads that are steered.",
                )  # fmt: skip
            chat = gr.Checkbox(True, label="Send as a chat message", elem_id="chat")
            with gr.Row():
                ask = gr.Button("Answer", variant="primary", elem_id="ask")
                stop = gr.Button("Stop", elem_id="stop")
            with gr.Row():
                plain = gr.Textbox(label="Without emphasis", lines=4, elem_id="plain")
                steered = gr.Textbox(label="With emphasis", lines=4, elem_id="steered")
    details = gr.HTML(elem_id="details")
    inputs = [template, variables, alpha, share, chat]
    with gr.Accordion("Take it along", open=False):
        copy = gr.Button("Write the code", elem_id="copy")
        codes = []
        for name in CODE:
            with gr.Tab(name):
                codes.append(gr.Code(language="python", elem_id=f"code-{name.lower()}"))

    async def answer(*given: Any) -> AsyncGenerator[tuple[str, str, str]]:
        with told():
            question = _question(*given)
            model = served.model
            running = answers(model, question)
            try:
                async for texts in running:
                    yield *texts, ""
            finally:
                await running.aclose()
            report = await asyncio.to_thread(report_of, model, question)
            with_emphasis = report.steered.text if report.steered else ""
            yield report.unsteered.text, with_emphasis, fragment_of(report, ())

    def code(template: str, variables: str, *given: Any) -> list[str]:
        with told():
            question = _question(template, variables, *given)
            values = read_yaml(variables)
            return [write(served.model, question, template, values) for write in CODE.values()]

    gr.on(
        [template.change, variables.change], preview, [template, variables], shown,
        show_progress="hidden", trigger_mode="always_last", queue=False,
    )  # fmt: skip
    shipped.input(
        lambda name: (template_source(name), example(name)), shipped, [template, variables]
    )
    running = ask.click(
        answer,
        inputs,
        [plain, steered, details],
        concurrency_limit=4,
        trigger_mode="multiple",  # else a click right after Stop is lost
    )
    stop.click(None, cancels=[running])
    copy.click(code, inputs, codes)


def preview(template: str, variables: str) -> str:
    """The prompt with its emphasis, or what is wrong and where, as HTML."""
    try:
        text = rendered(template, variables)
    except EditorError as error:
        where = f"Line {error.line} of the {error.editor}: " if error.line else ""
        source = template if error.editor == "template" else variables
        lines = source.splitlines()
        cited = lines[error.line - 1] if error.line and error.line <= len(lines) else ""
        cited = f"<pre>{escape(cited)}</pre>" if cited else ""
        return f'<div class="wrong" role="alert">{escape(where + str(error))}{cited}</div>'
    return prompt_of(text)


def _question(template: str, variables: str, alpha: float, share: float, chat: bool) -> Question:
    return Question(rendered(template, variables), alpha, share / 100, chat)
