"""What the files around the code say of each other: versions, make targets, workflows."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
_, _, _LISTED = MAKEFILE.replace("\\\n", " ").partition("\n.PHONY: ")
TARGETS = set(_LISTED.partition("\n")[0].split())
PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TRIED = ("transformers", "langchain-core", "langchain", "llama-index-core")


def bounds() -> dict[str, str]:
    """The lowest version of each package that the project names one for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    asked = [Requirement(line) for lines in lists for line in lines]
    limits = [(one.name, limit) for one in asked for limit in one.specifier]
    return {name: limit.version for name, limit in limits if limit.operator == ">="}


def pins(file: Path) -> dict[str, str]:
    """The version of each package in a file of constraints."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("package", TRIED)
def test_the_lowest_versions_that_are_allowed_are_those_that_are_tried(package: str) -> None:
    lowest = pins(ROOT / "tests" / "versions" / "lowest.txt")[package]
    allowed = bounds()[package]
    assert lowest == allowed or lowest.startswith(f"{allowed}.0")


def test_what_is_not_tried_at_other_versions_is_the_same_everywhere() -> None:
    usual = pins(ROOT / "constraints.txt")
    varied = {*TRIED, "tokenizers", "langchain-community", "langchain-tests"}
    for file in (ROOT / "tests" / "versions").glob("*.txt"):
        tried = pins(file)
        assert {n: v for n, v in tried.items() if n not in varied} == {
            n: v for n, v in usual.items() if n not in varied
        }


def made(job: dict[str, Any]) -> set[str]:
    """The targets that a job makes."""
    matrix = job.get("strategy", {}).get("matrix", {})
    runs = [*matrix.get("run", []), *(one["run"] for one in matrix.get("include", []))]
    lines = [step["run"] for step in job["steps"] if step.get("run", "").startswith("make ")]
    named = " ".join(lines).replace("make", "").replace("${{ matrix.run }}", " ".join(runs))
    return set(named.split())


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_make_what_can_be_made_and_may_only_read(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    targets = {target for job in workflow["jobs"].values() for target in made(job)}
    assert targets
    assert targets <= TARGETS


def test_the_page_names_each_target_once() -> None:
    assert {target: PAGE.count(f"\n| `make {target}` |") for target in TARGETS} == dict.fromkeys(
        TARGETS, 1
    )


def test_the_citation_is_of_the_paper() -> None:
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Zhang", "Singh", "Liu", "Liu", "Yu", "Gao", "Zhao",
    ]  # fmt: skip
    assert paper["url"].endswith("2311.02262")
