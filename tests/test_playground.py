"""The parts of the playground; tests/with_browser drives the page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fake_server import fake_server
from hypothesis import given
from hypothesis import strategies as st

from pasta_chains import SpanStr, SteeredModel, connect, demo
from pasta_chains.emphasis_model import EmphasisModel
from pasta_chains.errors import DocumentError, PromptError
from pasta_chains.playground import launch
from pasta_chains.playground.app import build
from pasta_chains.playground.asking import Question, answers, report_of
from pasta_chains.playground.documents_tab import read_passages
from pasta_chains.playground.editing import (
    SHIPPED,
    EditorError,
    example,
    examples,
    read_yaml,
    rendered,
)
from pasta_chains.playground.prompt_tab import CODE, preview
from pasta_chains.playground.served import Served
from pasta_chains.template import template_source

TEMPLATES = Path(__file__).parent.parent / "templates"


@pytest.fixture(scope="module")
def local() -> SteeredModel:
    return SteeredModel.from_pretrained(demo.MODEL)


@pytest.fixture(scope="module", params=["here", "on a server"])
def model(request: pytest.FixtureRequest, local: SteeredModel) -> Iterator[EmphasisModel]:
    if request.param == "here":
        yield local
        return
    with fake_server(SteeredModel.from_pretrained(demo.MODEL)) as server:
        remote = connect(server.url)
        yield remote
        remote.close()


def asked(**options: Any) -> Question:
    text = rendered(template_source(SHIPPED), example(SHIPPED))
    return Question(text, **{"alpha": 0.01, "chat": True, **options})


def last(model: EmphasisModel, question: Question) -> tuple[str, str]:
    async def run() -> tuple[str, str]:
        return [texts async for texts in answers(model, question)][-1]

    return asyncio.run(run())


def test_every_shipped_template_has_an_example() -> None:
    names = {str(file.relative_to(TEMPLATES)) for file in TEMPLATES.rglob("*.jinja")}
    assert set(examples()) == names
    for name in names:
        text = rendered(template_source(name), example(name))
        assert text.spans or name == "rag/key-sentence.jinja"


@pytest.mark.parametrize(
    ("template", "variables", "editor", "line", "message"),
    [
        ("a\n{% if %}", "", "template", 2, "Expected an expression"),
        ("a\n\n<% emphasise %>b<% endemphasise %>", "", "template", 3, "emphasise"),
        ("a\n{{ missing }}", "", "template", 2, "'missing' is undefined"),
        ("a\n{{ 1 / 0 }}", "", "template", 2, "ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", "", "template", 1, "unsafe"),
        ("{{ a }}", "a: 1\nb: [", "variables", 2, "not YAML"),
        ("{{ a }}", "- a", "variables", None, "must be `name: value`"),
        ("{{ a }}", "a: 2020-13-13", "variables", None, "cannot be read"),
    ],
)
def test_errors_have_their_line(
    template: str, variables: str, editor: str, line: int | None, message: str
) -> None:
    with pytest.raises(EditorError, match=message) as found:
        rendered(template, variables)
    assert (found.value.editor, found.value.line) == (editor, line)
    shown = preview(template, variables)
    assert 'role="alert"' in shown
    assert (f"Line {line} of the {editor}" in shown) == (line is not None)


@given(st.text(), st.text())
def test_whatever_stands_in_the_editors_is_shown_or_told(template: str, variables: str) -> None:
    assert preview(template, variables).startswith("<div")


def test_a_preview_shows_spans_and_escapes_the_rest() -> None:
    shown = preview('<b> <% emphasize name="facts" %>{{ x }}<% endemphasize %>', "x: <i>")
    assert "&lt;b&gt; <mark" in shown
    assert ">&lt;i&gt;</mark>" in shown
    assert "facts" in shown


def test_both_answers_come_in_pieces(model: EmphasisModel) -> None:
    async def run() -> list[tuple[str, str]]:
        return [texts async for texts in answers(model, asked())]

    found = asyncio.run(run())
    assert len(found) > 3
    assert found[-1] == (" The keeper of the Marrow lighthouse is Ines Aldane.",
                         " The keeper of the Marrow lighthouse is Tobias Renk.")  # fmt: skip
    for before, after in pairwise(found):
        assert all(new.startswith(old) for old, new in zip(before, after, strict=True))


def test_alpha_and_heads_change_the_answer(model: EmphasisModel) -> None:
    plain, steered = last(model, asked())
    assert last(model, asked(alpha=1.0)) == (plain, plain)
    assert steered != plain


def test_a_share_of_the_heads(local: SteeredModel) -> None:
    assert local.profile is not None
    every = [(layer, head) for layer, heads in local.profile.heads.items() for head in heads]
    assert asked(share=1).profile(local) is None
    half = asked(share=0.5).profile(local)
    assert half is not None
    kept = [(layer, head) for layer, heads in half.heads.items() for head in heads]
    assert kept == every[: len(every) // 2]
    none = asked(share=0).profile(local)
    assert none is not None
    assert len(none) == 0
    plain, steered = last(local, asked(share=0))
    assert plain == steered


def test_a_prompt_without_emphasis_has_one_answer(model: EmphasisModel) -> None:
    plain, steered = last(model, Question(SpanStr(asked().text.text), 0.01, chat=True))
    assert plain
    assert steered == ""


def test_closing_the_answers_stops_the_model(local: SteeredModel) -> None:
    async def run() -> None:
        running = answers(local, asked())
        await anext(running)
        await running.aclose()

    threads = threading.active_count()
    asyncio.run(run())
    assert threading.active_count() <= threads


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("options", [{}, {"chat": False, "alpha": 0.02}, {"share": 0.75}], ids=str)
def test_the_code_prints_the_same_answer(
    local: SteeredModel, name: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    question = asked(**options)
    template, variables = template_source(SHIPPED), read_yaml(example(SHIPPED))
    exec(CODE[name](local, question, template, variables), {"__name__": "__main__"})
    _, steered = last(local, question)
    assert capsys.readouterr().out == f"{steered}\n"


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("template", ['A "quote"', 'Three """ and \\', "\n\nfirst\n"])
def test_any_template_is_copied_exactly(local: SteeredModel, name: str, template: str) -> None:
    code = CODE[name](local, Question(SpanStr(template), 0.01), template, {"a": "\n'\""})
    wanted = {"template": template, "variables": {"a": "\n'\""}}
    lines = code[code.index("template = ") : code.index("\n\n", code.index("variables = "))]
    found: dict[str, Any] = {}
    exec(lines, found)
    assert {key: found[key] for key in wanted} == wanted


def test_code_for_a_server_connects_to_it(model: EmphasisModel) -> None:
    code = CODE["Python"](model, asked(), "x", {})
    assert ("connect('http://127.0.0.1:" in code) == (not isinstance(model, SteeredModel))


def test_a_report_is_of_what_was_asked(local: SteeredModel) -> None:
    report = report_of(local, asked(alpha=0.3, share=0.5))
    assert report.alpha == 0.3
    assert report.profile == asked(share=0.5).profile(local)


def test_a_model_that_is_loading_says_so() -> None:
    wait = threading.Event()

    def load() -> Any:
        wait.wait()
        raise DocumentError("gone")

    served = Served(load)
    with pytest.raises(PromptError, match="still loading"):
        _ = served.model
    wait.set()
    with pytest.raises(DocumentError, match="gone"):
        served.wait()


def test_passages_are_paragraphs(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("One\nline.\n\n\n\nTwo.\n", encoding="utf-8")
    assert [(one.name, one.text) for one in read_passages(file)] == [
        ("notes.txt 1", "One line."),
        ("notes.txt 2", "Two."),
    ]
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DocumentError, match=r"notes.txt is not UTF-8 text: byte 0"):
        read_passages(file)


# Where no loop is running Gradio makes one, and leaves it open.
async def test_the_page_shows_results(tmp_path: Path, local: SteeredModel) -> None:
    (tmp_path / "results.md").write_text("| task |\n| --- |\n", encoding="utf-8")
    (tmp_path / "alpha.svg").write_text("<svg/>", encoding="utf-8")
    page = build(Served(lambda: local), tmp_path)
    values = [
        block.value for block in page.blocks.values() if isinstance(block, gr.Markdown | gr.HTML)
    ]
    assert any("| task |" in str(value) for value in values)
    assert any('alt="alpha"' in str(value) for value in values)
    with pytest.raises(DocumentError, match="no folder"):
        launch(lambda: local, results=tmp_path / "missing")
