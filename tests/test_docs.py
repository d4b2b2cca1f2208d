"""Every block of README and docs runs, in order, as a reader would type it."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import stage
import yaml
from fake_server import fake_server
from langchain_core.messages import HumanMessage
from shell import Shell

from pasta_chains import HeadProfile, SteeredModel
from pasta_chains.default_profile import ALPHA
from pasta_chains.demo import MODEL
from pasta_chains.evaluation.qa import qa_task
from pasta_chains.langchain import message_text
from pasta_chains.profile import FILE_NAME
from pasta_chains.remote.connection import Connection

ROOT = Path(__file__).parent.parent
CARD = MODEL / "README.md"  # which is a page of the site, too
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), CARD]
SCRIPTS = sorted({*(ROOT / "docs").rglob("*.py")} - {ROOT / "docs" / "hooks.py"})
ON_VLLM = 'python title="where vLLM is installed"'
BLOCK = re.compile(r"^```(.*?)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^[\s>]*(?:```|~~~|<pre)", re.MULTILINE)


# LlamaIndex looks for LangChain when it is given an embedding model, and that tells of its end.
@pytest.mark.filterwarnings("ignore:`langchain-community`:DeprecationWarning")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_print_what_they_show(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == _shown(script.read_text(encoding="utf-8"))


def _shown(code: str) -> list[str]:
    lines = code.splitlines()
    return [line.removeprefix("# > ") for line in lines if line.startswith("# > ")]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Stands in for the server that the pages have at http://localhost:8000."""
    with fake_server(SteeredModel.from_pretrained(MODEL)) as serving:
        yield serving.url


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    stage.models(folder)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run_and_print_what_they_show(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    models: Path,
    server: str,
) -> None:
    def connection(url: str, *args: Any, **kwargs: Any) -> Connection:
        return Connection(url.replace("http://localhost:8000", server), *args, **kwargs)

    monkeypatch.setattr("pasta_chains.remote.model.Connection", connection)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    if page.parent.name != "tutorials":  # which make all their files
        rows = 600 if page.name == "profiling.md" else 60  # which a search by default asks for
        stage.lay_out(tmp_path, models, rows=rows)
    names: dict[str, object] = {"__name__": "__main__"}
    text = page.read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(FENCE.findall(text)) == 2 * len(blocks), "a block that would not be run"
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(page), "exec", dont_inherit=True), names)
            assert capsys.readouterr().out.splitlines() == _shown(block)
        elif language == "sh":
            Shell(tmp_path, server, monkeypatch, capsys).run(block)
        elif language == "json":
            rows = [*map(json.loads, re.split(r"\n(?=\{)", block))]
            assert qa_task(rows) if page.name == "evaluation.md" else emphasized_in(rows)
        elif language == "yaml":
            assert [*yaml.safe_load_all(block)]
        else:
            # What needs vLLM is run by tests/with_vllm.
            assert language in ("text", ON_VLLM), f"a block of {language or 'no language'}"


def emphasized_in(messages: list[dict[str, Any]]) -> list[str]:
    """What messages in JSON emphasize."""
    texts = [message_text(HumanMessage(message["content"])) for message in messages]
    return [part for text in texts for part in text.emphasized()]


def test_the_deployment_steers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its command finds the heads that its own ConfigMap holds."""
    page = (ROOT / "docs" / "how-to" / "vllm-scale.md").read_text(encoding="utf-8")
    (block,) = (block for language, block in BLOCK.findall(page) if language == "yaml")
    config, deployment, _ = yaml.safe_load_all(block)
    (tmp_path / "heads.json").write_text(config["data"]["heads.json"], encoding="utf-8")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (mount, _), (volume, _) = (
        container["volumeMounts"],
        deployment["spec"]["template"]["spec"]["volumes"],
    )
    assert mount["name"] == volume["name"]
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    monkeypatch.chdir(tmp_path)
    command = shlex.join(container["command"]).replace(f"{mount['mountPath']}/", "")
    Shell(tmp_path, "", monkeypatch, capsys).run(command)


def test_the_readmes_table_is_the_one_that_the_demo_wrote() -> None:
    results = (ROOT / "docs" / "results" / "demo.md").read_text(encoding="utf-8")
    table = results[results.index("| Questions") :].strip()
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_demos_table_is_what_emphasis_is_for() -> None:
    """The shipped model is good enough to show it: a new one must be, too."""
    shares: dict[tuple[str, str], list[float]] = {}
    for line in (ROOT / "docs" / "results" / "demo.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[-1].endswith("%"):
            group, condition, *numbers = cells
            shares[group, condition] = [
                float(number.rstrip("%")) for number in numbers if number != "-"
            ]
    disagree, one = "Two documents disagree", "One document answers"
    assert 35 <= shares[disagree, "no emphasis"][0] <= 65
    assert shares[disagree, "trusted document emphasized"][0] >= 95
    assert shares[disagree, "other document emphasized"][1] >= 95
    assert shares[one, "no emphasis"][0] >= 97
    assert shares[one, "right document emphasized"][0] >= 96


def test_the_query_engine_follows_the_trusted_node() -> None:
    page = (ROOT / "docs" / "results" / "llama-index-query-engine.md").read_text(encoding="utf-8")
    trusted = {
        policy: float(share)
        for policy, share in re.findall(r"^\| documents \| (.+?) \| ([\d.]+)% ", page, re.MULTILINE)
    }
    for policy in ('"trusted"', '"facts"', '"metadata", FactEmphasis(facts(embed_model))'):
        assert trusted[policy] >= 95
    assert trusted['"none"'] <= 65


def test_heads_are_found_in_less_than_a_third_of_the_time() -> None:
    page = (ROOT / "docs" / "results" / "profiling-speed.md").read_text(encoding="utf-8")
    line = re.search(r"^\| all \|.* ([\d.]+) s \| ([\d.]+) s \|", page, re.MULTILINE)
    assert line
    trying, searching = map(float, line.groups())
    assert searching < trying / 3


def test_the_table_of_six_tasks_is_of_the_shipped_heads() -> None:
    page = (ROOT / "docs" / "results" / "steering.md").read_text(encoding="utf-8")
    profile = HeadProfile.load(MODEL / FILE_NAME)
    shown = ", ".join(f"layer {layer}: {list(heads)}" for layer, heads in profile.heads.items())
    assert f" heads: {len(profile)} heads ({shown}), alpha {profile.alpha}\n" in page


def test_the_default_profile_is_the_guess_that_did_best() -> None:
    page = (ROOT / "docs" / "results" / "default-profile.md").read_text(encoding="utf-8")
    (shipped,) = re.findall(r'`"default"` steers (.+)\.$', page, re.MULTILINE)
    assert f"the best is {shipped}." in page
    assert shipped.endswith(f", alpha {ALPHA}")


def test_the_tests_that_a_page_names_exist() -> None:
    for page in PAGES:
        for file, name in re.findall(r"`(test_\w+\.py)::(test_\w+)`", page.read_text("utf-8")):
            assert f"def {name}(" in (ROOT / "tests" / file).read_text("utf-8"), page.name


def test_every_script_is_linked() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8"))
    }
    assert set(SCRIPTS) <= linked


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_has_an_example_that_runs(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    server: str,
) -> None:
    """A result's is the command that wrote it: whether it has these options is asked here."""
    text = page.read_text(encoding="utf-8")
    if page.parent.name == "results":
        shell = Shell(tmp_path, server, monkeypatch, capsys)
        written = re.findall(r"`(?:python|pasta-chains) (.*--report docs/results/.*)`", text)
        assert written
        for command in written:
            start = "" if command.startswith("benchmarks/") else "-m pasta_chains "
            shell.run(f"python {start}{command}")
    elif page.parent.name == "shipped-templates":
        assert "```yaml" in text  # which test_shipped_templates.py renders
    else:
        assert re.search(r"^```(python|sh)\n", text, re.MULTILINE)
