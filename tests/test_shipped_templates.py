"""Each shipped template renders as its page in the docs shows it, emphasis between « and »."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import meta
from marked import bracketed

from pasta_chains.template import Environment, shipped_templates

DOCS = Path(__file__).parent.parent / "docs" / "reference"
_SHOWN = re.compile(r"```yaml\n(.*?)^```.*?```text\n(.*?)\n```", re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(shipped_templates()).as_posix()


def page_of(name: str) -> str:
    page = name.replace("/", "-").replace(".jinja", ".md")
    return (DOCS / "shipped-templates" / page).read_text("utf-8")


def case_of(name: str) -> tuple[dict[str, Any], str]:
    found = _SHOWN.search(page_of(name))
    assert found
    return yaml.safe_load(found[1]), found[2]


NAMES = sorted(map(name_of, shipped_templates().rglob("*.jinja")))
CASES = {name: case_of(name) for name in NAMES}


@pytest.mark.parametrize("name", CASES)
def test_renders_as_shown(name: str) -> None:
    variables, expected = CASES[name]
    text = Environment().get_template(name).render(variables)
    assert bracketed(text) == expected


@pytest.mark.parametrize("name", NAMES)
def test_a_template_says_what_it_is_for_and_takes(name: str) -> None:
    source = (shipped_templates() / name).read_text("utf-8")
    comment = re.match(r"\{#- (.*?) -#\}", source, re.DOTALL)
    assert comment
    for variable in meta.find_undeclared_variables(Environment().parse(source)):
        assert f"\n    {variable}: " in comment[1]
        assert f"\n| `{variable}` | " in page_of(name)
    assert f"[`{name}`](shipped-templates/" in (DOCS / "shipped-templates.md").read_text("utf-8")


def test_each_page_is_that_of_a_template() -> None:
    assert len(list((DOCS / "shipped-templates").iterdir())) == len(NAMES) >= 10


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("rag/summarize.jinja", "focus"),
        ("agent/system.jinja", "tools"),
        ("agent/react.jinja", None),
    ],
)
def test_what_is_optional_may_be_left_out(name: str, without: str | None) -> None:
    variables = {key: value for key, value in CASES[name][0].items() if key != without}
    if without is None:
        variables["steps"] = []
    text = Environment().get_template(name).render(variables)
    assert "\n\n\n" not in text
    if without == "focus":
        assert [span.name for span in text.spans] == ["important"]
