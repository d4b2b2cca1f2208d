"""The playground as a visitor uses it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

OFFICE = "The keeper of the Marrow lighthouse is Ines Aldane."
BLOG = "The keeper of the Marrow lighthouse is Tobias Renk."
SECONDS = 60_000
"""Milliseconds that an answer may take on a busy machine."""


def write(page: Page, editor: str, text: str) -> None:
    page.locator(f"#{editor} .cm-content").fill(text)


def answer(page: Page) -> tuple[str, str]:
    page.click("#ask")
    expect(page.locator("#details svg")).to_have_count(2, timeout=SECONDS)
    return (
        page.input_value("#plain textarea").strip(),
        page.input_value("#steered textarea").strip(),
    )


def test_the_demos_disagreement(page: Page) -> None:
    expect(page.locator("#preview mark")).to_have_text(BLOG)
    assert answer(page) == (OFFICE, BLOG)
    expect(page.locator("#details table").first).to_contain_text('" The"')
    page.locator("#alpha input[type=number]").fill("1")
    page.locator("#alpha input[type=number]").press("Tab")
    page.click("#ask")
    expect(page.locator("#steered textarea")).to_have_value(re.compile(OFFICE), timeout=SECONDS)


def test_the_highlight_follows_the_template(page: Page) -> None:
    write(page, "template", "First <% emphasize %>second<% endemphasize %> third.")
    expect(page.locator("#preview mark")).to_have_text("second")
    write(page, "template", "First second <% emphasize %>{{ word }}<% endemphasize %>.")
    write(page, "variables", "word: third")
    expect(page.locator("#preview mark")).to_have_text("third")
    expect(page.locator("#preview .prompt")).to_have_text("First second third.")


def test_a_broken_template_is_told_and_mended(page: Page) -> None:
    write(page, "template", "one\n{% if x %}\nthree")
    expect(page.locator("#preview [role=alert]")).to_contain_text("Line 2 of the template")
    page.click("#ask")
    expect(page.get_by_text("(line 2)").first).to_be_visible()
    write(page, "template", "one <% emphasize %>two<% endemphasize %>")
    expect(page.locator("#preview mark")).to_have_text("two")
    page.click("#ask")
    expect(page.locator("#details svg")).to_have_count(2, timeout=SECONDS)


def test_a_shipped_template_brings_its_variables(page: Page) -> None:
    page.locator("input[aria-label=Template]").click()
    page.get_by_role("option", name="rag/cite.jinja").click()
    expect(page.locator("#preview mark")).to_have_count(2)
    expect(page.locator("#preview")).to_contain_text("harbor office")


def test_files_are_searched_and_trusted(page: Page, tmp_path: Path) -> None:
    (tmp_path / "office.txt").write_text(OFFICE)
    (tmp_path / "blog.txt").write_text(BLOG)
    page.get_by_role("tab", name="Documents").click()
    page.set_input_files(
        "#files input[type=file]", [tmp_path / "office.txt", tmp_path / "blog.txt"]
    )
    page.fill("#question textarea, #question input", "Who is the keeper of the Marrow lighthouse?")
    page.click("#find")
    for name, believed in (("office.txt", OFFICE), ("blog.txt", BLOG)):
        passage = page.locator("#trusted label", has_text=name)
        passage.click()
        page.click("#ask-files")
        expect(page.locator("#files-steered textarea")).to_have_value(
            re.compile(believed), timeout=SECONDS
        )
        expect(page.locator("#files-preview mark")).to_have_text(believed)
        passage.click()


def test_an_upload_that_is_no_text_is_told(page: Page, tmp_path: Path) -> None:
    (tmp_path / "picture.txt").write_bytes(b"\xff\xd8\xff\xe0")
    page.get_by_role("tab", name="Documents").click()
    page.set_input_files("#files input[type=file]", tmp_path / "picture.txt")
    page.fill("#question textarea, #question input", "Who?")
    page.click("#find")
    expect(page.get_by_text("picture.txt is not UTF-8 text").first).to_be_visible()


@pytest.mark.parametrize("kind", ["Python", "LangChain", "LlamaIndex"])
def test_copied_code_gives_the_same_answer(page: Page, kind: str, tmp_path: Path) -> None:
    page.get_by_text("Take it along").click()
    page.click("#copy")
    page.get_by_role("tab", name=kind).click()
    expect(page.locator(f"#code-{kind.lower()} .cm-content")).to_contain_text("pasta_chains")
    page.locator(f"#code-{kind.lower()}").get_by_label(re.compile("copy", re.I)).first.click()
    code = page.evaluate("navigator.clipboard.readText()")
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert ran.stdout.strip() == BLOG


def test_visitors_do_not_meet(visit: Callable[[], Page]) -> None:
    one, other = visit(), visit()
    one.locator("#alpha input[type=number]").fill("1")
    one.locator("#alpha input[type=number]").press("Tab")
    write(other, "variables", f"documents:\n- text: {OFFICE}\n- text: {BLOG}\nquestion: Who?")
    one.click("#ask")
    other.click("#ask")
    expect(one.locator("#steered textarea")).to_have_value(re.compile(OFFICE), timeout=SECONDS)
    expect(one.locator("#preview mark")).to_have_text(BLOG)
    expect(other.locator("#preview mark")).to_have_count(0)
    expect(other.locator("#details")).to_contain_text("Nothing in this prompt", timeout=SECONDS)
    assert other.input_value("#steered textarea") == ""


def test_results_are_shown(page: Page) -> None:
    page.get_by_role("tab", name="Results").click()
    expect(page.locator("#tables table")).to_contain_text("12%")


def test_a_stopped_answer_leaves_the_page_alive(page: Page) -> None:
    page.click("#ask")
    page.click("#stop")
    assert answer(page) == (OFFICE, BLOG)


def test_a_server_answers_without_the_picture_of_attention(
    browser: Browser, served_url: str
) -> None:
    page = browser.new_page()
    page.goto(served_url)
    page.wait_for_selector("#ask")
    page.click("#ask")
    expect(page.locator("#steered textarea")).to_have_value(re.compile(BLOG), timeout=SECONDS)
    expect(page.locator("#details table").first).to_contain_text('" The"', timeout=SECONDS)
    assert page.input_value("#plain textarea").strip() == OFFICE
    assert page.locator("#details svg").count() == 0
    page.get_by_text("Take it along").click()
    page.click("#copy")
    expect(page.locator("#code-python .cm-content")).to_contain_text("127.0.0.1")
    page.close()
