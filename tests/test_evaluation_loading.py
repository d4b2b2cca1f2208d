"""From what a user names to a task: published rows in files and folders, and files of one's own."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import datasets
import pytest

from pasta_chains.errors import TaskError
from pasta_chains.evaluation.loading import open_source

BIOGRAPHIES = [
    {
        "raw": f"{name} Lowe is a {title} in Tarn. She works in the old hospital at night.",
        "name": [name, "", "Lowe"],
        "title": title,
    }
    for name, title in zip("Ada Bo Cy Di Ed Flo".split(), ["nurse", "judge"] * 3, strict=True)
]
LEFT_OUT = {"raw": "Too short.", "name": ["Ada", "", "Lowe"], "title": "poet"}
FACTS: list[dict[str, Any]] = [
    {
        "case_id": number,
        "requested_rewrite": {
            "prompt": "The capital of {} is",
            "relation_id": "P36",
            "target_new": {"str": "Oslo", "id": "Q585"},
            "target_true": {"str": "Reykjavik", "id": "Q1764"},
            "subject": f"Land{number}",
        },
        "paraphrase_prompts": [f"He died. Land{number}'s seat is", f"Land{number} is ruled from"],
    }
    for number in range(9)
]
OWN = [
    {"prompt": f"Be brief. Who leads {town}?", "emphasize": ["Be brief."], "answer": "Ada"}
    for town in "abcdef"
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` keeps, it keeps there."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def written(file: Path, rows: list[Any], *, lines: bool = False) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    file.write_text(text, encoding="utf-8")
    return file


def subjects(named: str, split: Any, count: int | None = None) -> list[str]:
    samples = open_source(named).task(split, count).samples
    return [str(sample.prompts[0]).split()[4] for sample in samples]


def test_counterfact_from_a_file(tmp_path: Path) -> None:
    file = written(tmp_path / "counterfact.json", FACTS)
    assert open_source(f"counterfact={file}").name == "counterfact"
    assert subjects(f"counterfact={file}", "train") == ["Land0", "Land1", "Land2"]
    assert subjects(f"counterfact={file}", "test") == ["Land6", "Land7", "Land8"]
    assert subjects(f"counterfact={file}", "validation", 1) == ["Land3"]
    sample = open_source(f"counterfact={file}").task("test", 1).samples[0]
    assert sample.prompts[0] == (
        "Previously The capital of Land6 is Reykjavik. Currently The capital of Land6 is Oslo. "
        "Land6's seat is"
    )
    assert (sample.options, len(sample.prompts)) == (("Oslo", "Reykjavik"), 3)


@pytest.mark.parametrize("lines", [True, False])
def test_counterfact_from_a_folder(tmp_path: Path, lines: bool) -> None:
    file = written(tmp_path / "data" / f"facts.json{'l' * lines}", FACTS, lines=lines)
    assert subjects(f"counterfact={file.parent}", "test") == ["Land6", "Land7", "Land8"]


def test_all_splits_of_a_folder_are_one(tmp_path: Path) -> None:
    written(tmp_path / "data" / "train.jsonl", FACTS[:6], lines=True)
    written(tmp_path / "data" / "test.jsonl", FACTS[6:], lines=True)
    assert subjects(f"counterfact={tmp_path / 'data'}", "test") == ["Land6", "Land7", "Land8"]


@pytest.mark.parametrize("name", ["json", "pronouns", "bias-in-bios"])
def test_tasks_of_biographies(tmp_path: Path, name: str) -> None:
    file = written(
        tmp_path / "bios.jsonl", [*BIOGRAPHIES[:3], LEFT_OUT, *BIOGRAPHIES[3:]], lines=True
    )
    source = open_source(f"{name}={file}")
    names = {
        split: [str(sample.prompts[0]).split()[0] for sample in source.task(split).samples]
        for split in ("train", "validation", "test")
    }
    assert names == {"train": ["Ada", "Bo"], "validation": ["Cy", "Di"], "test": ["Ed", "Flo"]}
    assert source.task("test").name == name


def test_all_occupations_can_be_chosen(tmp_path: Path) -> None:
    """Those of other splits too, but not those of rows that are left out."""
    rows = [*BIOGRAPHIES[:-2], LEFT_OUT, *({**one, "title": "poet_"} for one in BIOGRAPHIES[-2:])]
    file = written(tmp_path / "bios.json", rows[:4] + rows[5:])
    for sample in open_source(f"bias-in-bios={file}").task("train").samples:
        assert sample.options == ("judge", "nurse", "poet ")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    source = open_source(str(written(tmp_path / "towns.jsonl", OWN, lines=True)))
    assert source.name == "towns"
    for split, ids in {"train": ["1", "2"], "validation": ["3", "4"], "test": ["5", "6"]}.items():
        task = source.task(split)
        assert ([one.id for one in task.samples], task.name) == (ids, "towns")
    assert len(source.task("test", 1).samples) == 1


@pytest.mark.parametrize("name", ["json.jsonl", "counterfact.json", "a=b.jsonl", "json=x.jsonl"])
def test_the_name_of_ones_own_file_says_nothing(tmp_path: Path, name: str) -> None:
    source = open_source(str(written(tmp_path / name, OWN, lines=True)))
    assert source.name == name.rpartition(".")[0]
    assert source.task("test").metrics == ("Acc",)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("nothing", "There is no task 'nothing': it is no file. The paper's tasks are json, pron"),
        ("missing.jsonl", "There is no task 'missing.jsonl': it is no file"),
        ("jsn=DATA.json", "There is no task 'jsn'; those with data are json, pronouns, bias-in"),
        ("json=", "'json=' names no data after '='"),
        ("json=missing.json", "There is no file missing.json that can be read: No such file"),
        ("json=no/missing.jsonl", "There is no file no/missing.jsonl that can be read"),
        ("json=missing.pkl", "missing.pkl is a pickle, which can run any program"),
        ("json=some/dataset", "The data 'some/dataset' cannot be loaded: "),
        ("json=FOLDER", "The data '.*' cannot be loaded: "),
        ("json=BAD", "Row 1 of .* is no JSON"),
        ("BAD", "Row 1 of .*bad.json is no JSON"),
        ("PICKLE", "is a pickle"),
    ],
)
def test_what_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(OWN))
    for word, file in {"FOLDER": "empty", "BAD": "bad.json", "PICKLE": "bad.pkl"}.items():
        named = named.replace(word, str(tmp_path / file))
    with pytest.raises(TaskError, match=message):
        open_source(named)


def test_what_is_wrong_in_it_is_told(tmp_path: Path) -> None:
    source = open_source(f"counterfact={written(tmp_path / 'f.json', FACTS)}")
    with pytest.raises(TaskError, match="9 samples, of which 3 are for test, and 4 were asked"):
        source.task("test", 4)
    mixed = open_source(f"json={written(tmp_path / 'g.json', FACTS)}")
    with pytest.raises(TaskError, match="Row 1 is no biography"):
        mixed.task("test")
    own = open_source(str(written(tmp_path / "h.json", [*OWN, {**OWN[0], "emphasize": ["x"]}])))
    with pytest.raises(TaskError, match="Row 7 emphasizes 'x', which its prompt has 0 times"):
        own.task("train")
