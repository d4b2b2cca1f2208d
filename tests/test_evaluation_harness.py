"""Tasks under conditions: what is asked, what is kept, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import PastaError, TaskError
from pasta_chains.evaluation.asking import NOTHING
from pasta_chains.evaluation.harness import (
    Condition,
    Result,
    baselines,
    control,
    digest_of,
    evaluate,
    file_name,
    steered,
)
from pasta_chains.evaluation.metrics import fluency
from pasta_chains.evaluation.rewriting import with_emphasis, without_emphasis
from pasta_chains.evaluation.task import Sample, Task
from pasta_chains.profile import HeadProfile
from pasta_chains.prompts import Prompt
from pasta_chains.spans import SpanStr, emphasize

PROFILE = HeadProfile({0: [2], 1: [0, 3], 2: [0, 1, 2, 3]}, alpha=0.02)
OTHER = HeadProfile({0: [0]}, alpha=0.5)
FACTS = ["Ada Lowe is the mayor.", "Bo is.", "The mayor of Tarn is Bo Marsh now.", "Who?", "Tarn"]


@pytest.fixture(scope="module")
def model() -> SteeredModel:
    """It has no profile of its own: each condition brings one."""
    return SteeredModel(tiny.llama(context=512), tiny.tokenizer(), HeadProfile({}))


def prompt(fact: str) -> SpanStr:
    return SpanStr("Question: ") + emphasize(fact) + " Answer:"


def score(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    return {"A": float("a" in answers[0]), "B": float(answers[0] > "m")}


WRITING = Task(
    "writing",
    tuple(Sample(str(i), (prompt(fact),), f"w{i}") for i, fact in enumerate(FACTS)),
    ("A", "B"),
    score,
    max_new_tokens=6,
    separator="\n",
)
CHOOSING = replace(
    WRITING,
    name="choosing",
    samples=tuple(replace(one, options=("Ada", "Bo", "Tarn")) for one in WRITING.samples),
)


class Spy:
    """Counts what a model is asked, and can stop it."""

    def __init__(self, model: SteeredModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Prompt] = []
        self.stop_after: int | None = None
        self._generate = model.generate
        monkeypatch.setattr(model, "generate", self.generate)

    def generate(self, prompts: Any, **arguments: Any) -> Any:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked += prompts
        return self._generate(prompts, **arguments)


@pytest.mark.parametrize("condition", [steered("s", PROFILE), *baselines(WRITING, None)])
def test_answers_are_those_of_the_model(model: SteeredModel, condition: Condition) -> None:
    result = evaluate(model, WRITING, condition)
    for sample in WRITING.samples:
        asked = condition.rewrite(sample.prompts[0])
        by_hand = model.generate(
            asked, max_new_tokens=6, do_sample=False, profile=condition.profile
        )
        assert result.answers[sample.id] == (by_hand,)
    rows = [score(sample, result.answers[sample.id]) for sample in WRITING.samples]
    assert result.scores == {name: tuple(row[name] for row in rows) for name in ("A", "B")}
    assert result.means == tuple((row["A"] + row["B"]) / 2 for row in rows)
    assert result.mean == pytest.approx(sum(result.means) / 5)
    assert (result.task, result.condition, result.too_low) == ("writing", condition.name, False)


def test_choices_are_those_of_scores(model: SteeredModel) -> None:
    result = evaluate(model, CHOOSING, steered("s", PROFILE))
    for sample in CHOOSING.samples:
        options = [f" {option}" for option in sample.options]
        scores = model.score(sample.prompts[0], options, profile=PROFILE)
        assert result.answers[sample.id] == (sample.options[scores.index(max(scores))],)
    assert (result.fluency, result.too_low) == (None, False)


def test_steering_is_what_a_condition_says(model: SteeredModel) -> None:
    answers = [
        evaluate(model, WRITING, one).answers
        for one in (steered("s", PROFILE), steered("s", OTHER), *baselines(WRITING, None)[:1])
    ]
    assert answers[0] != answers[1] != answers[2] != answers[0]
    nothing = evaluate(model, WRITING, Condition("emphasis, no heads", with_emphasis)).answers
    assert nothing == answers[2], "NOTHING steers nothing"
    assert len(NOTHING) == 0


@pytest.mark.parametrize("task", [WRITING, CHOOSING], ids=lambda task: task.name)
def test_the_batch_size_does_not_matter(model: SteeredModel, task: Task) -> None:
    results = [evaluate(model, task, steered("s", PROFILE), batch_size=n) for n in (1, 2, 16)]
    assert results[0] == results[1] == results[2]


def test_the_models_own_way_to_write_does_not_matter(model: SteeredModel) -> None:
    expected = evaluate(model, WRITING, steered("s", PROFILE))
    config = model.model.generation_config
    before = (config.do_sample, config.num_beams, config.repetition_penalty)
    config.do_sample, config.num_beams, config.repetition_penalty = True, 2, 5.0
    try:
        assert evaluate(model, WRITING, steered("s", PROFILE)) == expected
    finally:
        config.do_sample, config.num_beams, config.repetition_penalty = before


@pytest.mark.parametrize("after", [0, 2, 4])
def test_a_run_that_was_cut_off_asks_only_what_is_missing(
    model: SteeredModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: int
) -> None:
    whole = evaluate(model, WRITING, steered("s", PROFILE))
    spy = Spy(model, monkeypatch)
    spy.stop_after = after
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, WRITING, steered("s", PROFILE), folder=tmp_path, batch_size=2)
    first, spy.asked, spy.stop_after = list(spy.asked), [], None
    told: list[int] = []
    result = evaluate(
        model, WRITING, steered("s", PROFILE), folder=tmp_path, batch_size=3, progress=told.append
    )
    assert result == whole
    assert len(first) == after
    assert sorted(first + spy.asked) == sorted(one.prompts[0] for one in WRITING.samples)
    assert told == [after, *[1] * (5 - after)]
    spy.asked = []
    assert evaluate(model, WRITING, steered("s", PROFILE), folder=tmp_path) == whole
    assert spy.asked == []


def test_answers_are_kept_as_they_come(model: SteeredModel, tmp_path: Path) -> None:
    file = tmp_path / "writing" / "wrong-text-emphasized.jsonl"
    seen: list[int] = []

    def progress(count: int) -> None:
        seen.append(file.read_bytes().count(b"\n") - 1)

    result = evaluate(
        model, WRITING, control(PROFILE), folder=tmp_path, batch_size=1, progress=progress
    )
    assert seen == [0, 1, 2, 3, 4, 5]
    about, *pieces = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert {piece["key"]: tuple(piece["value"]) for piece in pieces} == result.answers
    assert about["about"]["heads"] == {"0": [2], "1": [0, 3], "2": [0, 1, 2, 3]}
    assert about["about"]["condition"] == "wrong text emphasized"


def other_runs() -> Iterator[Any]:
    more = replace(WRITING, samples=(*WRITING.samples, Sample("5", (prompt("One?"),), "")))
    renamed = (replace(WRITING.samples[0], id="x"), *WRITING.samples[1:])
    elsewhere = SpanStr("Question: " + FACTS[0]) + emphasize(" Answer:")
    moved = (replace(WRITING.samples[0], prompts=(elsewhere,)), *WRITING.samples[1:])
    for name, task, profile in [
        ("prompts", more, PROFILE),
        ("prompts", WRITING.take(4), PROFILE),
        ("prompts", replace(WRITING, samples=renamed), PROFILE),
        ("prompts", replace(WRITING, samples=moved), PROFILE),
        ("prompts", replace(WRITING, max_new_tokens=7), PROFILE),
        ("prompts", replace(CHOOSING, name="writing"), PROFILE),
        ("alpha", WRITING, replace(PROFILE, alpha=0.03)),
        ("heads", WRITING, HeadProfile({0: [2]}, alpha=0.02)),
    ]:
        yield pytest.param(name, task, profile, id=f"{name} {len(task.samples)} {profile.alpha}")


@pytest.mark.parametrize(("name", "task", "profile"), [*other_runs()])
def test_answers_of_another_run_are_not_used(
    model: SteeredModel, tmp_path: Path, name: str, task: Task, profile: HeadProfile
) -> None:
    evaluate(model, WRITING.take(5), steered("s", PROFILE), folder=tmp_path)
    with pytest.raises(TaskError, match=f"holds the work of another run: its {name} is"):
        evaluate(model, task, steered("s", profile), folder=tmp_path)


def test_answers_of_other_weights_are_not_used(model: SteeredModel, tmp_path: Path) -> None:
    evaluate(model, WRITING.take(1), steered("s", PROFILE), folder=tmp_path)
    other = SteeredModel(tiny.llama(seed=1, context=512), tiny.tokenizer(), PROFILE)
    with pytest.raises(TaskError, match="another run: its weights is"):
        evaluate(other, WRITING.take(1), steered("s", PROFILE), folder=tmp_path)


def test_a_digest_is_of_all_that_is_asked() -> None:
    assert digest_of(WRITING) == digest_of(replace(WRITING, name="other", metrics=("A",)))
    assert digest_of(WRITING) != digest_of(WRITING, without_emphasis)
    chat = replace(WRITING.samples[0], prompts=([{"role": "user", "content": prompt(FACTS[0])}],))
    said = replace(WRITING.samples[0], prompts=([{"role": "system", "content": prompt(FACTS[0])}],))
    digests = {digest_of(replace(WRITING, samples=(one,))) for one in (chat, said)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    "piece",
    [
        {"key": "1", "value": None},
        {"key": "1", "value": "Ada"},
        {"key": "1", "value": []},
        {"key": "1", "value": ["a", "b"]},
        {"key": "1", "value": [3]},
        {"key": "unknown", "value": ["a"]},
    ],
)
def test_answers_that_are_none_are_told(
    model: SteeredModel, tmp_path: Path, piece: dict[str, Any]
) -> None:
    evaluate(model, WRITING.take(2), steered("s", PROFILE), folder=tmp_path)
    with (tmp_path / "writing" / "s.jsonl").open("a") as file:
        file.write(json.dumps(piece) + "\n")
    with pytest.raises(TaskError, match=rf"sample '{piece['key']}' in .*s\.jsonl are not what was"):
        evaluate(model, WRITING.take(2), steered("s", PROFILE), folder=tmp_path)


def test_an_error_says_under_which_condition(model: SteeredModel) -> None:
    few_shot = baselines(WRITING, WRITING)[-1]
    long = replace(WRITING, max_new_tokens=480)
    with pytest.raises(PastaError) as told:
        evaluate(model, long, few_shot)
    assert told.value.__notes__ == ["in the task writing, few-shot"]


def test_the_baselines_and_the_control() -> None:
    made = {one.name: one for one in [*baselines(WRITING, CHOOSING, 2), control(PROFILE)]}
    first = WRITING.samples[2].prompts[0]
    assert list(made) == [
        "zero-shot", "*-marked", '"-marked', "few-shot", "wrong text emphasized",
    ]  # fmt: skip
    fact = FACTS[2]
    assert {name: str(one.rewrite(first)) for name, one in made.items()} == {
        "zero-shot": f"Question: {fact} Answer:",
        "*-marked": f"Question: *{fact}* Answer:",
        '"-marked': f'Question: "{fact}" Answer:',
        "few-shot": (
            f"Question: {FACTS[0]} Answer: w0\nQuestion: {FACTS[1]} Answer: w1\n"
            f"Question: {fact} Answer:"
        ),
        "wrong text emphasized": f"Question: {fact} Answer:",
    }
    wrong = made.pop("wrong text emphasized")
    assert wrong.profile == PROFILE
    assert wrong.rewrite(first).emphasized() == ("Question: ", " Answer:")
    for one in made.values():
        assert one.profile == NOTHING
        assert SpanStr(one.rewrite(first)).spans == ()
    with pytest.raises(TaskError, match="has 5 samples here; 6 were asked for"):
        baselines(WRITING, WRITING, 6)


def test_worked_examples_are_of_another_split() -> None:
    names = [one.name for one in baselines(WRITING, None)]
    assert names == ["zero-shot", "*-marked", '"-marked']


@pytest.mark.parametrize(("floor", "too_low"), [(None, False), (0.0, False), (99.0, True)])
def test_runs_below_the_fluency_floor_are_told(
    model: SteeredModel, floor: float | None, too_low: bool
) -> None:
    result = evaluate(model, replace(WRITING, fluency_floor=floor), steered("s", PROFILE))
    values = [fluency(answer) for (answer,) in result.answers.values()]
    assert result.fluency == pytest.approx(sum(values) / 5)
    assert result.too_low is too_low
    exact = replace(WRITING, fluency_floor=result.fluency)
    assert not evaluate(model, exact, steered("s", PROFILE)).too_low


def test_means() -> None:
    result = Result("t", "c", {"A": (1.0, 0.0, 1.0), "B": (0.0, 0.0, 1.0)}, {}, None, False)
    assert result.means == (0.5, 0.0, 1.0)
    assert result.mean == 0.5


def test_names_of_files() -> None:
    names = ["zero-shot", "*-marked", '"-marked', "wrong text emphasized", "é/../b", "v1.5"]
    assert list(map(file_name, names)) == [
        "zero-shot", "asterisk-marked", "quote-marked", "wrong-text-emphasized", "é-..-b", "v1.5",
    ]  # fmt: skip
    with pytest.raises(TaskError, match="'/ ' cannot name a condition"):
        file_name("/ ")
