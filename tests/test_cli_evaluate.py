"""`pasta-chains evaluate` as a person meets it: tables of a run, and one clear message if not."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import tiny

from pasta_chains import cli
from pasta_chains.engine import SteeredModel
from pasta_chains.profile import FILE_NAME, HeadProfile

FACTS: list[dict[str, Any]] = [
    {
        "case_id": number,
        "requested_rewrite": {
            "prompt": "The mayor of {} is",
            "relation_id": "P6",
            "target_new": {"str": "Ada Lowe", "id": "Q1"},
            "target_true": {"str": "Bo Marsh", "id": "Q2"},
            "subject": f"Tarn {number}",
        },
        "paraphrase_prompts": [f"Who? The mayor of Tarn {number}, it is", "The mayor is"],
        "neighborhood_prompts": [],
    }
    for number in range(9)
]
OWN: list[dict[str, Any]] = [
    {
        "id": f"é{number}",
        "prompt": f"Tarn {number} has a mayor. Answer in words. Who is the mayor?",
        "emphasize": ["Answer in words."],
        "answer": "Ada",
    }
    for number in range(12)
]
CHOICES = [{**row, "metric": "choice", "options": ["Ada", "Bo"]} for row in OWN]
CONDITIONS = [
    "zero-shot", "*-marked", '"-marked', "few-shot", "steered", "wrong text emphasized",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model and its heads."""
    path = tmp_path_factory.mktemp("models") / "tiny-model"
    tiny.llama(context=1024).save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    HeadProfile({0: [2], 2: [0, 1]}, alpha=0.02, model="tiny-model").save(path / FILE_NAME)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is given: data, and other people's mistakes."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "counterfact.json").write_text(json.dumps(FACTS), "utf-8")
    lines(tmp_path / "mayors.jsonl", CHOICES)
    lines(tmp_path / "written.jsonl", OWN)
    return tmp_path


def lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Run the command in this process: exit status, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["pasta-chains", "evaluate", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "140")
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    printed = capsys.readouterr()
    return int(exit_info.value.code or 0), printed.out, printed.err


def test_published_data_and_a_file_of_ones_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, model: Path
) -> None:
    asked = (model, "--task", "counterfact=facts", "--task", "mayors.jsonl", "--out", "out/[b]")
    status, out, err = run(capsys, monkeypatch, *asked)
    assert (status, "Error" in err) == (0, False)
    for condition in CONDITIONS:
        assert out.count(f" {condition} ") == 2
    assert out.rstrip().endswith("Wrote results.json, results.csv and results.md in out/[b].")

    results = json.loads((folder / "out" / "[b]" / "results.json").read_text("utf-8"))
    rows = results["rows"]
    assert [row["condition"] for row in rows] == CONDITIONS * 2
    assert [row["task"] for row in rows] == ["counterfact"] * 6 + ["mayors"] * 6
    assert [row["samples"] for row in rows] == [3] * 6 + [4] * 6
    assert [list(row["metrics"]) for row in rows[::6]] == [["ES", "PS"], ["Acc"]]
    command = (
        "pasta-chains evaluate {} --task counterfact=facts --task mayors.jsonl --out 'out/[b]'"
    )
    assert results["about"]["command"] == command.format(model)
    assert results["about"]["profiles"] == "steered: 3 heads, alpha 0.02"
    assert results["about"]["examples"] == 3

    text = (folder / "out" / "[b]" / "results.csv").read_text("utf-8")
    table = list(csv.DictReader(text.splitlines()))
    assert [row["metric"] for row in table] == ["ES", "PS"] * 6 + ["Acc"] * 6
    assert float(table[8]["mean"]) == rows[4]["metrics"]["ES"][0]
    page = (folder / "out" / "[b]" / "results.md").read_text("utf-8")
    assert "| counterfact | \\*-marked | ES " in page
    assert "- model: tiny-model\n" in page

    kept = {file.name: file.read_bytes() for file in (folder / "out").rglob("*.jsonl")}
    assert len(kept) == 6
    monkeypatch.setattr(SteeredModel, "inputs_of", None)  # nothing is asked again
    assert run(capsys, monkeypatch, *asked)[:2] == (0, out)
    assert kept == {file.name: file.read_bytes() for file in (folder / "out").rglob("*.jsonl")}


def test_answers_are_those_of_the_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, model: Path
) -> None:
    status, *_ = run(
        capsys, monkeypatch, model, "--task", "written.jsonl", "--out", "out", "--alpha", "0.5",
        "--samples", "1", "--examples", "1", "--every-head",
    )  # fmt: skip
    assert status == 0
    loaded = SteeredModel.from_pretrained(model)
    text = "Tarn 8 has a mayor. Answer in words. Who is the mayor?"
    shown = "Tarn 0 has a mayor. Answer in words. Who is the mayor? Ada\n\n"
    every = {layer: range(4) for layer in range(3)}
    assert loaded.profile is not None
    for name, prompt, heads in [
        ("zero-shot", text, {}),
        ("few-shot", shown + text, {}),
        ("asterisk-marked", text.replace("Answer in words.", "*Answer in words.*"), {}),
        ("steered", tiny_emphasis(text), loaded.profile.heads),
        ("every-head-steered", tiny_emphasis(text), every),
    ]:
        written = (folder / "out" / "written" / f"{name}.jsonl").read_text("utf-8").splitlines()
        answers = {piece["key"]: piece["value"] for piece in map(json.loads, written[1:])}
        profile = HeadProfile(heads, alpha=0.5)
        by_hand = loaded.generate(prompt, max_new_tokens=128, do_sample=False, profile=profile)
        assert answers == {"é8": [by_hand]}, name


def tiny_emphasis(text: str) -> Any:
    from pasta_chains.spans import Span, SpanStr

    start = text.index("Answer in words.")
    return SpanStr(text, [Span(start, start + len("Answer in words."))])


def test_profiles_are_compared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, model: Path
) -> None:
    (folder / "one=1.json").write_text('{"0": [0]}')
    shutil.copy(model / FILE_NAME, folder / "two.json")
    status, out, _ = run(
        capsys, monkeypatch, model, "--task", "bias-in-bios", "--samples", "2", "--examples", "0",
        "--profile", "one=1.json", "--profile", "[red]=two.json",
        "--profile", "default",
    )  # fmt: skip
    assert status == 0
    assert " one=1 " in out
    assert " [red] " in out
    assert " default " in out
    assert "few-shot" not in out
    assert "Wrote" not in out
    assert not (folder / "out").exists()


def test_one_sample_of_two_metrics_has_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, model: Path
) -> None:
    status, out, _ = run(
        capsys, monkeypatch, model, "--task", "counterfact=facts", "--samples", "1"
    )
    assert status == 0
    assert out.count("1.000") >= 1


def test_what_is_emphasized_as_a_whole_has_no_control(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, model: Path
) -> None:
    lines(folder / "all.jsonl", [*OWN[:-1], {**OWN[-1], "emphasize": [OWN[-1]["prompt"]]}])
    status, out, _ = run(capsys, monkeypatch, model, "--task", "all.jsonl")
    assert status == 0
    assert "No control for all: all of the prompt of" in out
    assert "few-shot" in out
    assert "wrong text emphasized" not in out


def test_broken_answers_are_told_and_cut_off_ones_asked_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, model: Path
) -> None:
    asked = (model, "--task", "mayors.jsonl", "--out", "out")
    assert run(capsys, monkeypatch, *asked)[0] == 0
    file = folder / "out" / "mayors" / "steered.jsonl"
    whole = file.read_text("utf-8")
    file.write_text(whole.replace('["', "[", 1), "utf-8")
    status, _, err = run(capsys, monkeypatch, *asked)
    assert (status, err.splitlines()) == (
        2,
        [
            "Error: Line 2 of out/mayors/steered.jsonl is not what was written there. Remove that "
            "line to do its work again and keep the rest; or the file, to do all of it again."
        ],
    )
    file.write_text(whole.rstrip("\n")[:-3], "utf-8")  # the last line was cut off
    assert run(capsys, monkeypatch, *asked)[0] == 0
    assert file.read_text("utf-8") == whole


def test_the_docs_tell_of_every_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "evaluation.md").read_text("utf-8")
    told = page.split("### Options")[1].split("###")[0]
    _, out, _ = run(capsys, monkeypatch, "--help")
    found = set(re.findall(r"--[a-z-]+[a-z]", re.sub(r"\x1b\[[0-9;]*m", "", out)))
    assert found - {"--help", "--no-every-head"} == set(re.findall(r"--[a-z-]+[a-z]", told))


MODEL, TASK = "MODEL", ("--task", "mayors.jsonl")


def bad(name: str, *arguments: str, message: str) -> Any:
    return pytest.param(arguments, message, id=name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        bad("task", MODEL, "--task", "jsn", message="There is no task 'jsn': it is no file."),
        bad("no file", MODEL, "--task", "json=x.json", message="There is no file x.json that can"),
        bad("no emphasis", MODEL, "--task", "plain.jsonl", message="Row 2 emphasizes nothing"),
        bad("a broken line", MODEL, "--task", "cut.jsonl", message="Row 3 of cut.jsonl is no JSON"),
        bad("twice", MODEL, *TASK, *TASK, message="Two tasks have the name 'mayors'. Rename"),
        bad("few", MODEL, *TASK, "--samples", "5", message="of which 4 are for test, and 5 were"),
        bad("few shown", MODEL, *TASK, "--examples", "5", message="fewer with --examples"),
        bad("no steering", MODEL, *TASK, "--alpha", "1", message="alpha 1.0, which steers nothing"),
        bad("nothing", MODEL, *TASK, "--profile", "nothing.json", message="has 0 heads and alpha"),
        bad("regex", MODEL, "--task", "regex.jsonl", message="no answer that a worked example"),
        bad("another's", MODEL, *TASK, "--profile", "other.json", message="belongs to gpt-j-6b"),
        bad("no layer", MODEL, *TASK, "--profile", "layer.json", message="has layers 0 to 2"),
        bad("no profile", MODEL, *TASK, "--profile", "none.json", message="none.json cannot be r"),
        bad(
            "profiles", MODEL, *TASK, "--profile", "layer.json", "--profile", "a/layer.json",
            message="Two profiles have the name 'layer'. Give them names, as in --profile NAME=FI",
        ),
        bad(
            "conditions", MODEL, *TASK, "--profile", "Zero shot=heads.json",
            message="Two conditions would have the name 'Zero shot'. Give the profile another",
        ),
        bad("alpha", MODEL, *TASK, "--alpha", "2", message="alpha is 2"),
        bad("no heads", "bare", *TASK, message="has no head profile. Pass one with --profile FILE"),
        bad("no model", "nowhere", *TASK, message="The model 'nowhere' cannot be loaded"),
        bad("no dtype", MODEL, *TASK, "--dtype", "bfloat17", message="cannot be loaded"),
        bad("other run", MODEL, *TASK, "--out", "old", message="the work of another run: its"),
        bad("out", MODEL, *TASK, "--out", "plain.jsonl", message="is a file"),
        bad("long", MODEL, "--task", "long.jsonl", message="task long, few-shot) (--examples 1 sh"),
        bad("no place", MODEL, *TASK, "--out", "file", message="cannot be kept in file/mayors"),
        bad(
            "its data", MODEL, "--task", "results.json", "--out", ".",
            message="results.json is data of a task, or would become some. Give another --out.",
        ),
        bad("no task", MODEL, message="Missing option '--task'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message_and_exit_status_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    model: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    mistakes(folder, model)
    named = [str(model) if word == MODEL else word for word in arguments]
    # All is told before the model is asked anything.
    monkeypatch.setattr(SteeredModel, "generate", None)
    monkeypatch.setattr(SteeredModel, "inputs_of", None)
    status, out, err = run(capsys, monkeypatch, *named)
    assert (status, out.strip()) == (2, "")
    assert message in err
    assert (
        len(re.findall("Error[: ]", err.replace("OSError", "").replace("AttributeError", ""))) == 1
    )
    assert "Traceback" not in err


def mistakes(folder: Path, model: Path) -> None:
    plain = {name: value for name, value in OWN[1].items() if name != "emphasize"}
    long = [{**row, "prompt": f"{row['prompt']}{' Tarn' * 250}"} for row in OWN]
    lines(folder / "plain.jsonl", [OWN[0], plain])
    lines(folder / "results.json", OWN)
    lines(folder / "regex.jsonl", [{**row, "metric": "regex"} for row in OWN])
    lines(folder / "long.jsonl", long)
    (folder / "cut.jsonl").write_text("\n".join([*map(json.dumps, OWN[:2]), '{"id":']))
    (folder / "a").mkdir()
    (folder / "file").mkdir()
    (folder / "file" / "mayors").write_text("")
    for name, content in {
        "heads": {"0": [0]},
        "layer": {"9": [0]},
        "nothing": {"heads": {}},
        "a/layer": {"0": [0]},
        "other": {"heads": {"0": [0]}, "model": "EleutherAI/gpt-j-6b"},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(content).replace("EleutherAI/", ""))
    shutil.copytree(model, folder / "bare")
    (folder / "bare" / FILE_NAME).unlink()
    (folder / "old" / "mayors").mkdir(parents=True)
    (folder / "old" / "mayors" / "zero-shot.jsonl").write_text('{"about": {"task": "x"}}\n')
