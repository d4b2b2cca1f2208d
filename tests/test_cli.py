"""The command line as a person meets it: what it prints, and one clear message when it cannot."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from pasta_chains import __version__, cli
from pasta_chains.demo import DOCUMENTS, MODEL
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

FILES = {
    "minutes.txt": "The treasurer of the Okonjo club is Yevgenia Prx.",
    "rumor.txt": "The treasurer of the Okonjo club is Bartholomew Quist.",
}
ASK = ["--question", "Who is the treasurer of the Okonjo club?", "--trust", "minutes.txt"]


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """Run the command in this process: exit status, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["pasta-chains", *arguments])
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    printed = capsys.readouterr()
    return int(exit_info.value.code or 0), printed.out, printed.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model that brings no head profile."""
    path = tmp_path_factory.mktemp("tiny-model")
    tiny.llama(context=512).save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


def test_version_and_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, monkeypatch, "--version") == (0, f"{__version__}\n", "")
    status, out, _ = run(capsys, monkeypatch, "demo", "--help")
    assert status == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    for option in ("--documents", "--question", "--trust", "--model", "--profile", "--report"):
        assert option in plain


def test_demo_answers_from_own_folder_and_writes_its_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    report, picture = folder / "out" / "report.md", folder / "out" / "demo.svg"
    report.parent.mkdir()
    status, out, err = run(
        capsys, monkeypatch, "demo", "--documents", str(folder), *ASK, "--questions", "4",
        "--report", str(report), "--svg", str(picture),
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "LangChain: emphasized" in out
    assert "LlamaIndex: emphasized" in out
    assert out.count("Yevgenia Prx") >= 3  # in the prompt, and in both steered answers
    text = report.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 10
    assert "4 held-out questions in each line" in text
    assert f"`pasta-chains demo --documents {folder}" in text
    drawn = picture.read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert "url(" not in drawn.replace("url(#", "")  # it asks nothing of other machines


def test_demo_runs_another_model(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    plain_model: Path,
) -> None:
    profile = folder / "heads.json"
    profile.write_text(json.dumps({"1": [0, 3]}))
    status, out, err = run(
        capsys, monkeypatch, "demo", "--documents", str(folder), *ASK, "--questions", "0",
        "--model", str(plain_model), "--profile", str(profile),
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "LangChain: no emphasis" in out


def test_what_looks_like_markup_is_printed_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    question = "Who is the [/b] treasurer of the [red]Okonjo club?"
    status, out, _ = run(
        capsys, monkeypatch, "demo", "--documents", str(folder), "--question", question,
        "--trust", "minutes.txt", "--questions", "0",
    )  # fmt: skip
    assert status == 0
    assert question in out


def bad(name: str, *arguments: str, message: str) -> object:
    return pytest.param(arguments, message, id=name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        bad("no such folder", "--documents", "nowhere", *ASK, message="no folder nowhere"),
        bad("empty folder", "--documents", "{empty}", *ASK, message="holds no text"),
        bad("not UTF-8", "--documents", "{latin}", *ASK, message="is not UTF-8 text: byte 2"),
        bad("no question", "--documents", "{folder}", message="--question and --trust"),
        bad("trust nothing known", "--trust", "x.txt", message="no document 'x.txt'"),
        bad("unknown model", "--model", "no/such-model", message="cannot be loaded"),
        bad("no profile", "--model", "{model}", message="has no head profile"),
        bad("unreadable profile", "--profile", "none.json", message="cannot be read"),
        bad("head out of range", "--profile", "{head}", message="has heads 0 to 7"),
        bad("layer out of range", "--profile", "{layer}", message="has layers 0 to 5"),
        bad("another model's", "--profile", "{other}", message="belongs to gpt-j-6b"),
        bad("alpha 0", "--profile", "{alpha}", message="alpha is 0"),
        bad("only stop words", "--documents", "{stop}", *ASK, message="no words to search for"),
        bad("no place", "--report", "nowhere/r.md", message="no folder nowhere"),
        bad("no table", "--report", "r.md", message="--questions 0 asks for none"),
        bad("empty question", "--question", "", message="not among"),
        bad("too long", "--documents", "{long}", *ASK, message="the context of"),
    ],
)
def test_bad_input_is_one_message_and_exit_status_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    plain_model: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    places = {"folder": folder, "model": plain_model}
    for name in ("empty", "latin", "long", "stop"):
        places[name] = folder / name
        places[name].mkdir()
    (places["latin"] / "notes.txt").write_bytes("Grüße".encode("latin-1"))
    (places["stop"] / "minutes.txt").write_text("the of and")
    (places["long"] / "minutes.txt").write_text("The treasurer of the Okonjo club. " * 400)
    for name, content in {
        "head": {"0": [8]},
        "layer": {"9": [0]},
        "other": {"heads": {"0": [0]}, "model": "EleutherAI/gpt-j-6b"},
        "alpha": {"heads": {"0": [0]}, "alpha": 0},
    }.items():
        places[name] = folder / f"{name}.json"
        places[name].write_text(json.dumps(content).replace("EleutherAI/", ""))
    filled = [argument.format(**places) for argument in arguments]
    if "nowhere/r.md" not in filled:
        filled += ["--questions", "0"]
    status, _, err = run(capsys, monkeypatch, "demo", *filled)
    assert status == 2
    assert err.startswith("Error: ")
    assert message in err
    assert "Traceback" not in err


def test_the_installed_command_exits_with_2() -> None:
    """As a person runs it, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pasta_chains", "demo", "--documents", "nowhere"],
        capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == ("Error: There is no folder nowhere. Pass one with text files in it.\n")


def test_the_embedded_model_is_small_and_complete() -> None:
    names = {path.name for path in MODEL.iterdir()}
    assert names >= {
        "README.md", "config.json", "generation_config.json", "head_profile.json",
        "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in MODEL.rglob("*")) < 25e6
    assert HeadProfile.load(MODEL / "head_profile.json").model == MODEL.name
    assert len(list(DOCUMENTS.glob("*.txt"))) >= 5


RENDERED = SpanStr("Rule: be <brief>\n", [Span(6, 16, 0.1, "rules")])


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.jinja"
    path.write_text("{% include 'rule' %}: {{ rule | emphasize(alpha, 'rules') }}\n\n")
    (tmp_path / "rule").write_text("Rule")
    (tmp_path / "vars.json").write_text('{"rule": "be <brief>", "alpha": 0.5}')
    (tmp_path / "vars.yaml").write_text("rule: be <brief>\nalpha: 0.5\n")
    return path


@pytest.mark.parametrize("suffix", ["json", "yaml"])
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("text", RENDERED.text),
        ("ansi", RENDERED.text),  # no terminal, no colors
        ("html", RENDERED.to_html()),
        ("json", json.dumps(RENDERED.to_dict(), indent=2)),
    ],
)
def test_render_shows_a_template_file(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    template: Path,
    suffix: str,
    form: str,
    expected: str,
) -> None:
    variables = str(template.parent / f"vars.{suffix}")
    arguments = ("render", str(template), "--vars", variables, "--set", "alpha=0.1")
    status, out, err = run(capsys, monkeypatch, *arguments, "--format", form)
    assert (status, out.rstrip("\n"), err) == (0, expected.rstrip("\n"), "")


def test_render_shows_a_shipped_template(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = '[{"text": "A.", "trusted": true}, {"text": "B."}]'
    given = ("--set", f"documents={documents}", "--set", "question=Why?", "--format", "html")
    status, out, _ = run(capsys, monkeypatch, "render", "rag/qa.jinja", *given)
    assert status == 0
    assert "[1] <mark>A.</mark>\n\n[2] B.\n\nQuestion: Why?" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jinja"], "Those are: agent/react.jinja, agent/system.jinja"),
        (["rag/qa.jinja", "--set", "documents=3"], "fails with these variables: TypeError"),
        (["../secret.jinja"], "secret.jinja"),
        (["TEMPLATE"], "'alpha' is undefined (prompt.jinja, line 1) (give it with --vars"),
        (["TEMPLATE", "--set", "rule"], "'rule' is not name=value"),
        (["TEMPLATE", "--set", "2=3"], "'2=3' is not name=value"),
        (
            ["TEMPLATE", "--set", "rule=", "--set", "alpha=0.1"],
            "prompt.jinja, line 1: the emphasis",
        ),
        (["TEMPLATE", "--set", "rule=a", "--set", "alpha=3"], "line 1: alpha is 3"),
        (["TEMPLATE", "--vars", "none.json"], "no file none.json"),
        (["TEMPLATE", "--vars", "TEMPLATE"], "not from"),
        (["TEMPLATE", "--vars", "BAD.json"], "BAD.json cannot be read"),
        (["TEMPLATE", "--vars", "LIST.yaml"], "must hold one mapping"),
    ],
)
def test_render_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    template: Path,
    arguments: list[str],
    message: str,
) -> None:
    (template.parent / "BAD.json").write_text("{")
    (template.parent / "LIST.yaml").write_text("- a\n")
    monkeypatch.chdir(template.parent)
    named = [str(template) if word == "TEMPLATE" else word for word in arguments]
    status, out, err = run(capsys, monkeypatch, "render", *named)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") < 5
    assert "Traceback" not in err
