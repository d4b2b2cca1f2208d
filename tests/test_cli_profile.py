"""`pasta-chains profile` as a person meets it: a profile that steers, or one clear message."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import tiny
import torch
from rich.console import Console
from stage import PATTERN, fact, mine
from transformers import LlamaForCausalLM

from pasta_chains import cli
from pasta_chains.engine import SteeredModel
from pasta_chains.profile import HeadProfile
from pasta_chains.profiling import run as profiling
from pasta_chains.profiling.findings import Findings, HeadList
from pasta_chains.spans import SpanStr, emphasize

FACTS = [fact(number) for number in range(60)]
OWN = [mine(number) for number in range(60)]
QUICK = ("--samples", "20", "--k", "2", "--k", "4")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny-model"
    made = tiny.llama(context=256, num_hidden_layers=2)
    made.generation_config.eos_token_id = [2, *range(60, 110)]  # answers are a few tokens long
    made.save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the data of two tasks."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "facts").mkdir()
    (tmp_path / "facts" / "counterfact.json").write_text(json.dumps(FACTS), encoding="utf-8")
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, OWN)), encoding="utf-8")
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, OWN[:30])), encoding="utf-8")
    hard = [{**row, "metric": "exact", "answer": "Ada Lowe, of course"} for row in OWN]
    (tmp_path / "hard.jsonl").write_text("\n".join(map(json.dumps, hard)), encoding="utf-8")
    easy = [{**row, "answer": ""} | {"answer": "^"} for row in OWN]
    (tmp_path / "easy.jsonl").write_text("\n".join(map(json.dumps, easy)), encoding="utf-8")
    return tmp_path


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    """Run the command in this process: exit status, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["pasta-chains", "profile", *arguments])
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    printed = capsys.readouterr()
    return int(exit_info.value.code or 0), printed.out, printed.err


def test_the_papers_task_and_ones_own_end_in_a_profile_that_steers(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    model: Path,
) -> None:
    arguments = (
        str(model), "--task", "counterfact=facts", "--task", "own.jsonl",
        "--out", "heads.json", *QUICK, "--plots", "figures",
    )  # fmt: skip
    status, out, err = run(capsys, monkeypatch, *arguments)
    assert status == 0, err
    assert "counterfact: " in out
    assert "own: " in out
    assert "Wrote heads.json." in out
    profile = HeadProfile.load("heads.json")
    assert profile.model == "tiny-model"  # and not where it lies
    assert str(model.parent) not in Path("heads.json").read_text()
    assert profile.details is not None
    assert profile.details["strategy"] == "multi-task"
    assert profile.details["complete"]
    assert profile.details["validation"]["steered"].keys() == {"counterfact", "own"}
    steered = SteeredModel.from_pretrained(model, "heads.json")
    text = SpanStr("Tarn has a mayor. ") + emphasize("Answer in words.") + SpanStr(" Who is it?")
    steering = steered.score(text, [" Ada"])
    assert steering != steered.score(text, [" Ada"], profile=HeadProfile({}))
    found = Findings.load("heads.work/findings.json")
    assert found.profile().heads == profile.heads
    assert {len(alone) for alone in found.alone.values()} == {8}
    assert len([*Path("figures").glob("*.svg")]) == 6
    # The same command again finds everything measured.
    before = Path("heads.work/measured.jsonl").read_bytes()
    assert run(capsys, monkeypatch, *arguments)[0] == 0
    assert Path("heads.work/measured.jsonl").read_bytes() == before
    assert HeadProfile.load("heads.json") == profile


@pytest.mark.parametrize("pattern", [PATTERN, "^(?!.*[aeiou].*[aeiou])"])
def test_it_tells_whether_steering_helps(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    model: Path,
    pattern: str,
) -> None:
    rows = [{**row, "answer": pattern} for row in OWN]
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = (*QUICK, "--work", "elsewhere")
    status, out, err = run(
        capsys, monkeypatch, str(model), "--task", "own.jsonl", "--out", "h.json", *arguments
    )
    assert status == 0, err
    details = HeadProfile.load("h.json").details
    assert details is not None
    validated = details["validation"]
    before, after = validated["unsteered"]["own"], validated["steered"]["own"]
    assert f"own: {before:.1%} unsteered, {after:.1%} steered" in out
    assert ("do not use them" in out) == (after <= before)
    assert (folder / "elsewhere" / "measured.jsonl").is_file()


@pytest.mark.parametrize(
    ("before", "after", "complete", "told"),
    [
        ({"a": 0.5, "b": 0.5}, {"a": 0.75, "b": 0.5}, True, ["a: 50.0% unsteered, 75.0% steered"]),
        ({"a": 0.5, "b": 0.5}, {"a": 0.75, "b": 0.25}, True, ["do not use them"]),
        ({"a": 0.5}, {}, False, ["b: 20.0% unsteered; no time was", "run it again to go on"]),
    ],
)
def test_what_was_found_is_told(
    capsys: pytest.CaptureFixture[str],
    before: dict[str, float],
    after: dict[str, float],
    complete: bool,
    told: list[str],
) -> None:
    chosen = HeadList("multi-task", None, 2, "1:0,3", after)
    found = Findings(
        "m", {}, 0.01, {"a": 0.1, "b": 0.2}, {}, {}, {}, (), before, chosen=chosen,
        chosen_alpha=0.1, perplexity={"unsteered": 3.0, "steered": 3.1}, complete=complete,
    )  # fmt: skip
    profiling._tell(Console(), found, Path("heads.json"))
    out = capsys.readouterr().out
    assert all(line in out for line in told)
    assert ("do not use them" in out) == ("do not use them" in told)
    assert ("The time was up" in out) != complete
    assert "2 heads, alpha 0.1. " in out
    assert "3.00 unsteered, 3.10 steered" in out


def test_lost_fluency_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = Findings(
        "m", {}, 0.01, {"a": 0.1}, {}, {}, {}, (),
        perplexity={"unsteered": 3.0, "steered": 3.1}, less_fluent={"a": 1.25},
    )  # fmt: skip
    profiling._tell(Console(), found, Path("heads.json"))
    assert "a: with these heads answers have a fluency of 1.25, which is" in capsys.readouterr().out


@pytest.mark.parametrize(("loading", "device"), [({}, "cuda:1"), ({"device_map": "cpu"}, None)])
def test_processes_take_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, model: Path, loading: dict[str, Any], device: str | None
) -> None:
    moved: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(LlamaForCausalLM, "to", lambda self, place: moved.append(str(place)))
    profiling.load_model(str(model), loading, 3)
    assert moved == ([device] if device else [])


def bad(name: str, *arguments: str, message: str) -> Any:
    return pytest.param(arguments, message, id=name)


TASK = ("--task", "own.jsonl")
OUT = ("--out", "h.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        bad("no such task", "{model}", "--task", "jsn", *OUT, message="There is no task 'jsn'"),
        bad("no data", "{model}", "--task", "json=nowhere.json", *OUT, message="no file nowhere"),
        bad("twice", "{model}", *TASK, *TASK, *OUT, message="Two tasks have the name 'own'"),
        bad("too many", "{model}", *TASK, *OUT, message="20 are for train, and 200 were asked"),
        bad(
            "too few", "{model}", "--task", "few.jsonl", *OUT, "--samples", "10",
            message="has 10 samples for train; to tell heads apart it needs 20 or more",
        ),
        bad("no model", "no/such", *TASK, *OUT, *QUICK, message="'no/such' cannot be loaded"),
        bad("no place", "{model}", *TASK, "--out", "a/b.json", *QUICK, message="no folder a to"),
        bad("its data", "{model}", *TASK, "--out", "own.jsonl", message="own.jsonl is data of a"),
        bad(
            "in its data", "{model}", "--task", "counterfact=facts", "--out", "facts/heads.json",
            message="heads.json is data of a task, or would become some. Give another --out.",
        ),
        bad("a folder", "{model}", *TASK, "--out", "facts", *QUICK, message="facts is a folder"),
        bad(
            "work in a file", "{model}", *TASK, *OUT, *QUICK, "--work", "own.jsonl",
            message="own.jsonl is a file, and a folder is to be there",
        ),
        bad(
            "figures in a file", "{model}", *TASK, *OUT, *QUICK, "--plots", "own.jsonl",
            message="own.jsonl is a file",
        ),
        bad("alpha", "{model}", *TASK, *OUT, *QUICK, "--alpha", "1", message="alpha is 1.0; to"),
        bad(
            "strategy", "{model}", *TASK, *OUT, *QUICK, "--strategy", "best",
            message="no strategy 'best'; there are multi-task, union, task-specific",
        ),
        bad(
            "strategy for several", "{model}", *TASK, *OUT, *QUICK, "--strategy", "union",
            message="'union' is for two or more tasks, and there are 1",
        ),
        bad("k", "{model}", *TASK, *OUT, "--samples", "20", "--k", "9", message="the model has 8"),
        bad("no time", "{model}", *TASK, *OUT, *QUICK, "--minutes", "0", message="with more min"),
        bad(
            "all wrong", "{model}", "--task", "hard.jsonl", *OUT, *QUICK,
            message="'hard' wrong, steered or not",
        ),
        bad(
            "all right", "{model}", "--task", "easy.jsonl", *OUT, *QUICK,
            message="'easy' right without steering",
        ),
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
    filled = [argument.format(model=model) for argument in arguments]
    status, _, err = run(capsys, monkeypatch, *filled)
    assert status == 2
    assert err.startswith("Error: ")
    assert message in err
    assert "Traceback" not in err
    assert not Path("h.json").exists()


def test_another_searchs_folder_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path, model: Path
) -> None:
    asked = (str(model), *TASK, *OUT, *QUICK, "--minutes", "0")
    assert run(capsys, monkeypatch, *asked)[0] == 2  # no time, but the folder is made
    status, _, err = run(capsys, monkeypatch, *asked, "--batch-size", "5")
    assert status == 2
    assert "holds the work of another run: its batch_size is 16, and now it is 5" in err
