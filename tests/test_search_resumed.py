"""A search that was cut off, however that came, goes on and ends as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import searching
from searching import OPTIONS_FOR_SEARCH, load, tasks

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import TaskError
from pasta_chains.evaluation.task import Sample
from pasta_chains.profiling import search, units
from pasta_chains.profiling.findings import Findings
from pasta_chains.profiling.measuring import Batch
from pasta_chains.profiling.search import find_heads
from pasta_chains.profiling.units import batches


@pytest.fixture(scope="module")
def model() -> SteeredModel:
    return load()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def found(model: SteeredModel, folder: Path) -> Findings:
    """A search that nothing disturbed, and that left what it measured in the folder."""
    return find_heads(model, tasks("choices", "texts"), folder, OPTIONS_FOR_SEARCH)


def count_of(folder: Path) -> int:
    """How many pieces of work a folder keeps."""
    return (folder / search.FILE_NAME).read_bytes().count(b"\n") - 1


class KilledError(Exception):
    """What a test raises in a search."""


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A list with an item for each time that a batch was measured."""
    calls: list[object] = []
    scores = Batch.scores

    def counted(self: Batch, heads: Any) -> list[float]:
        calls.append(heads)
        return scores(self, heads)

    monkeypatch.setattr(Batch, "scores", counted)
    return calls


@pytest.mark.parametrize("seed", range(2))
def test_a_search_that_was_cut_off_goes_on(
    model: SteeredModel,
    found: Findings,
    folder: Path,
    tmp_path: Path,
    measured: list[object],
    seed: int,
) -> None:
    given, total = tasks("choices", "texts"), count_of(folder)
    moment = random.Random(seed).randrange(1, total)

    def stop_at(stage: str, done: int, of: int) -> None:
        if len(measured) >= moment:
            raise KilledError

    with pytest.raises(KilledError):
        find_heads(model, given, tmp_path / "cut", OPTIONS_FOR_SEARCH, progress=stop_at)
    assert len(measured) == moment
    again = find_heads(model, given, tmp_path / "cut", OPTIONS_FOR_SEARCH)
    assert again == found
    assert len(measured) == total  # nothing twice


def test_a_search_that_is_finished_measures_nothing(
    model: SteeredModel, found: Findings, folder: Path, measured: list[object]
) -> None:
    given = tasks("choices", "texts")
    assert find_heads(model, given, folder, OPTIONS_FOR_SEARCH) == found
    assert not measured


def test_a_process_that_was_killed_leaves_what_it_measured(
    model: SteeredModel, found: Findings, tmp_path: Path, measured: list[object]
) -> None:
    file = tmp_path / search.FILE_NAME
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, searching.__file__, str(tmp_path)]
    with subprocess.Popen(command, env=environment) as process:
        until = time.monotonic() + 120
        while not file.exists() or file.read_bytes().count(b"\n") < 12:
            assert process.poll() is None, "the search ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = file.read_bytes().count(b"\n") - 1
    file.write_bytes(file.read_bytes() + b'{"key": "train|texts|0.0')  # cut off in writing
    assert find_heads(model, tasks("choices", "texts"), tmp_path, OPTIONS_FOR_SEARCH) == found
    lines = file.read_bytes().splitlines()
    assert len(measured) == len(lines) - 1 - kept


def test_several_processes_find_the_same(
    model: SteeredModel, found: Findings, tmp_path: Path
) -> None:
    given = tasks("choices", "texts")
    together = find_heads(model, given, tmp_path, OPTIONS_FOR_SEARCH, processes=2, load=load)
    assert together == found


class Clock:
    """Time that goes on by a second with each measured batch."""

    def __init__(self, measured: Sequence[object]) -> None:
        self.measured = measured

    def monotonic(self) -> float:
        return float(len(self.measured))


@pytest.mark.parametrize("minutes", [0.8, 1.2, 1.4])
def test_when_the_time_is_up_it_ends_with_the_best_so_far(
    model: SteeredModel,
    found: Findings,
    tmp_path: Path,
    measured: list[object],
    monkeypatch: pytest.MonkeyPatch,
    minutes: float,
) -> None:
    monkeypatch.setattr(search, "time", Clock(measured))
    options = replace(OPTIONS_FOR_SEARCH, minutes=minutes)
    given = tasks("choices", "texts")
    early = find_heads(model, given, tmp_path, options)
    assert not early.complete
    assert not early.profile().details["complete"]
    assert len(early.profile()) > 0
    assert bool(early.alphas) == (minutes == 1.4)
    if early.alphas:  # these are of all samples, and so must be what they are compared with
        assert early.before == found.before
    assert len(measured) <= minutes * 60 + 3  # at most one more for each stage
    assert early.perplexity.keys() == {"unsteered", "steered"}
    assert find_heads(model, given, tmp_path, OPTIONS_FOR_SEARCH) == found


def test_a_first_batch_is_not_taken_for_the_whole_task(
    model: SteeredModel, tmp_path: Path, measured: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tasks("texts")
    first = {sample.id for sample in batches(given["texts"]["train"], 7)[0]}

    def score(sample: Sample, answers: Sequence[str]) -> dict[str, float]:
        return dict.fromkeys("AB", float(sample.id in first))

    given["texts"] = {split: replace(task, score=score) for split, task in given["texts"].items()}
    monkeypatch.setattr(search, "time", Clock(measured))
    options = replace(OPTIONS_FOR_SEARCH, batch_size=7, minutes=10 / 60)
    early = find_heads(model, given, tmp_path, options)
    assert early.unsteered == {"texts": 1.0}
    assert not early.complete


def test_too_little_time_for_anything_is_an_error(model: SteeredModel, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"time was up before .* 'layers'.* with more minutes"):
        find_heads(model, tasks("texts"), tmp_path, replace(OPTIONS_FOR_SEARCH, minutes=0.0))


def test_no_task_waits_for_another_one_on_the_validation_split(
    model: SteeredModel,
    found: Findings,
    folder: Path,
    tmp_path: Path,
    measured: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When the time is up during validation, both tasks have been measured alike."""
    lines = (folder / search.FILE_NAME).read_text().splitlines(keepends=True)
    trained = [line for line in lines if '"validation|' not in line]
    (tmp_path / search.FILE_NAME).write_text("".join(trained))
    monkeypatch.setattr(search, "time", Clock(measured))
    some = replace(OPTIONS_FOR_SEARCH, minutes=12 / 60 / 0.9)
    early = find_heads(model, tasks("choices", "texts"), tmp_path, some)
    assert not early.complete
    assert early.alone == found.alone
    assert early.before.keys() == {"choices", "texts"}
    common = [one for one in early.lists if one.strategy == "multi-task"]
    assert all(one.scores.keys() == {"choices", "texts"} for one in common)


def journal_of(folder: Path) -> Path:
    return folder / search.FILE_NAME


@pytest.fixture
def cut(model: SteeredModel, tmp_path: Path, measured: list[object]) -> Path:
    """The folder of a search that was cut off."""

    def stop(*_: object) -> None:
        if len(measured) == 5:
            raise KilledError

    with pytest.raises(KilledError):
        find_heads(model, tasks("texts"), tmp_path, OPTIONS_FOR_SEARCH, progress=stop)
    return tmp_path


def test_another_searchs_folder_is_refused(model: SteeredModel, cut: Path) -> None:
    for given, options in (
        (tasks("choices"), OPTIONS_FOR_SEARCH),
        (tasks("texts"), replace(OPTIONS_FOR_SEARCH, batch_size=7)),
    ):
        with pytest.raises(TaskError, match="holds the work of another run"):
            find_heads(model, given, cut, options)
    other = SteeredModel(searching.tiny.llama(seed=4), searching.tiny.tokenizer())
    with pytest.raises(TaskError, match="its weights is"):
        find_heads(other, tasks("texts"), cut, OPTIONS_FOR_SEARCH)


@pytest.mark.parametrize("what", ["wanted", "expected", "score"])
def test_scores_of_other_answers_are_refused(model: SteeredModel, cut: Path, what: str) -> None:
    """The prompts are the same, but what was measured would not be."""
    given = tasks("texts")
    train = given["texts"]["train"]
    if what == "score":
        given["texts"]["train"] = replace(train, score=searching.score_mixed)
    else:
        changed = replace(train.samples[3], **{what: "something else"})
        samples = (*train.samples[:3], changed, *train.samples[4:])
        given["texts"]["train"] = replace(train, samples=samples)
    with pytest.raises(TaskError, match="holds the work of another run: its tasks"):
        find_heads(model, given, cut, OPTIONS_FOR_SEARCH)


def test_other_options_of_the_search_use_what_was_measured(
    model: SteeredModel, cut: Path, measured: list[object]
) -> None:
    find_heads(model, tasks("texts"), cut, replace(OPTIONS_FOR_SEARCH, alphas=(), sizes=(2,)))
    lines = journal_of(cut).read_text().splitlines()
    assert len(measured) == len(lines) - 1  # the five are not measured again
    keys = [json.loads(line)["key"] for line in lines[1:]]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "Line 7 of .* is not what was written there"),
        ('{"key": "train|texts|0.01|0|0:0"}', "Line 7 of"),
        ('{"key": "train|texts|0.01|0|0:0", "value": "high"}', "'train.texts.0.01.0.0:0' is not"),
        ('{"key": "train|texts|0.01|0|0:0", "value": [0.5]}', "is not what was written there"),
        (
            f'{{"key": "train|texts|0.01|0|0:0", "value": {[7] + [0] * 13}}}',
            "is not what was written there",
        ),
        ('{"key": "train|texts|0.01|99|0:0", "value": [0, 0, 0, 0, 0, 0]}', "is not what was"),
        ('{"key": "elsewhere", "value": [0, 0, 0, 0, 0, 0]}', "is not what was written there"),
    ],
)
def test_a_broken_file_is_told(model: SteeredModel, cut: Path, line: str, message: str) -> None:
    with journal_of(cut).open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(TaskError, match=message):
        find_heads(model, tasks("texts"), cut, OPTIONS_FOR_SEARCH)


def test_work_in_other_batches_is_refused(
    model: SteeredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measurements are kept by the number of the batch: another order would mix samples."""
    given = tasks("texts")
    find_heads(model, given, tmp_path, OPTIONS_FOR_SEARCH)
    monkeypatch.setattr(units, "_length_changed", lambda prompt: -len(prompt))
    with pytest.raises(TaskError, match="batches"):
        find_heads(model, given, tmp_path, OPTIONS_FOR_SEARCH)
