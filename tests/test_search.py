"""The search finds what trying every head finds, and goes on where it was cut off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import searching
from searching import OPTIONS_FOR_SEARCH, load, tasks

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import ProfileError, PromptTooLongError, TaskError
from pasta_chains.evaluation.task import Sample, Task
from pasta_chains.profile import HeadProfile
from pasta_chains.profiling.findings import Findings
from pasta_chains.profiling.measuring import Batch
from pasta_chains.profiling.options import Options
from pasta_chains.profiling.search import find_heads
from pasta_chains.profiling.units import batches
from pasta_chains.profiling.upper_layers import Reading
from pasta_chains.spans import Span, SpanStr

HEADS = [(layer, head) for layer in range(searching.LAYERS) for head in range(4)]
ALL = {layer: list(range(4)) for layer in range(searching.LAYERS)}


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


# What trying everything finds, without any of the search's code.


def naive_answers(model: SteeredModel, task: Task, sample: Sample, profile: Any) -> list[str]:
    if not sample.options:
        prompts = list(sample.prompts)
        return model.generate(
            prompts, profile=profile, max_new_tokens=task.max_new_tokens, do_sample=False
        )
    answers = []
    for prompt in sample.prompts:
        likely = model.score(prompt, [f" {option}" for option in sample.options], profile=profile)
        answers.append(sample.options[max(range(len(likely)), key=likely.__getitem__)])
    return answers


def naive_mean(model: SteeredModel, task: Task, heads: Any, alpha: float = 0.01) -> float:
    return cached_mean(model, task, HeadProfile(heads, alpha))


@cache
def cached_mean(model: SteeredModel, task: Task, profile: HeadProfile) -> float:
    total = 0.0
    for sample in task.samples:
        scores = task.score(sample, naive_answers(model, task, sample, profile))
        total += sum(scores.values()) / len(scores)
    return total / len(task.samples)


def layers_of(heads: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    return {
        layer: sorted(head for at, head in heads if at == layer)
        for layer in sorted({at for at, _ in heads})
    }


def test_options_are_single_tokens(model: SteeredModel) -> None:
    """So that likelihoods of whole options are those of their first tokens."""
    for option in searching.OPTIONS:
        assert len(model.tokenizer(f" {option}", add_special_tokens=False)["input_ids"]) == 1


def test_it_finds_what_trying_everything_finds(model: SteeredModel, found: Findings) -> None:
    given = tasks("choices", "texts")
    rankings = {}
    for name, splits in given.items():
        train = splits["train"]
        alone = {head: naive_mean(model, train, {head[0]: [head[1]]}) for head in HEADS}
        for (layer, head), score in alone.items():
            assert found.alone[name][f"{layer}:{head}"] == pytest.approx(score), (name, layer, head)
        assert len(set(alone.values())) > 2  # there is something to rank
        rankings[name] = sorted(HEADS, key=lambda head: (-alone[head], head))
        assert found.unsteered[name] == pytest.approx(naive_mean(model, train, {}))
        assert found.every[name] == pytest.approx(naive_mean(model, train, ALL))
        for layer in range(searching.LAYERS):
            wanted = naive_mean(model, train, {layer: range(4)})
            assert found.layers[name][str(layer)] == pytest.approx(wanted)
    first, second = rankings.values()
    best: tuple[float, int, Any] = (-1.0, 0, None)
    for k in OPTIONS_FOR_SEARCH.sizes or ():
        common = layers_of(set(first[:k]) & set(second[:k]))
        if common:
            means = [naive_mean(model, splits["validation"], common) for splits in given.values()]
            best = max(best, (sum(means) / 2, -sum(map(len, common.values())), common),
                       key=lambda one: one[:2])  # fmt: skip
    _, _, heads = best
    by_alpha = {
        alpha: sum(naive_mean(model, one["validation"], heads, alpha) for one in given.values())
        for alpha in (0.2, 0.01)
    }
    profile = found.profile()
    assert {layer: list(some) for layer, some in profile.heads.items()} == heads
    assert profile.alpha == max(by_alpha, key=lambda alpha: (by_alpha[alpha], alpha))
    validated = profile.details["validation"]
    for name, splits in given.items():
        wanted = naive_mean(model, splits["validation"], heads, profile.alpha)
        assert validated["steered"][name] == pytest.approx(wanted)
        wanted = naive_mean(model, splits["validation"], {})
        assert validated["unsteered"][name] == pytest.approx(wanted)
    assert found.complete
    assert profile.model is None  # the model has no name
    for list_ in found.lists:
        for name in list_.scores:
            heads = {int(one.split(":")[0]): [int(n) for n in one.split(":")[1].split(",")]
                     for one in list_.heads.split()}  # fmt: skip
            wanted = naive_mean(model, given[name]["validation"], heads)
            assert list_.scores[name] == pytest.approx(wanted)


def test_samples_with_and_without_options_in_one_task(model: SteeredModel, tmp_path: Path) -> None:
    given = tasks("mixed")
    options = replace(OPTIONS_FOR_SEARCH, alphas=())
    mixed = find_heads(model, given, tmp_path, options)
    for layer, head in HEADS[::3]:
        wanted = naive_mean(model, given["mixed"]["train"], {layer: [head]})
        assert mixed.alone["mixed"][f"{layer}:{head}"] == pytest.approx(wanted)
    assert mixed.chosen.strategy == "task-specific"
    assert mixed.chosen_alpha == 0.01


@pytest.mark.parametrize("end", ["\n", " "])
def test_an_option_after_white_space_is_read_as_in_the_evaluation(
    model: SteeredModel, end: str
) -> None:
    """Where a chat template ends a prompt with a line break, no space stands before an option."""
    from pasta_chains.evaluation.asking import ask
    from pasta_chains.evaluation.rewriting import with_emphasis

    samples = tuple(
        replace(sample, prompts=tuple(prompt + SpanStr(end) for prompt in sample.prompts))
        for sample in searching.choices(0).samples
    )
    task = replace(searching.choices(0), samples=samples)
    for heads in ({}, {1: [0]}, {0: [2], 1: [1]}):
        batch = Batch(model, "model.layers", task, task.samples, 0.01)
        profile = HeadProfile(heads, 0.01)
        asked = ask(model, task, task.samples, with_emphasis, profile, batch_size=40)
        wanted = {sample.id: task.mean_score(sample, answers) for sample, answers in asked}
        assert batch.scores(heads) == [wanted[sample.id] for sample in task.samples]


def test_the_best_layers_alone_are_searched(
    model: SteeredModel, found: Findings, tmp_path: Path
) -> None:
    options = replace(OPTIONS_FOR_SEARCH, best_layers=1, sizes=None, strategy="union")
    coarse = find_heads(model, tasks("choices", "texts"), tmp_path, options)
    layers = {
        layer: sum(found.layers[task][str(layer)] for task in ("choices", "texts"))
        for layer in range(searching.LAYERS)
    }
    best = max(layers, key=lambda layer: (layers[layer], -layer))
    for task, alone in coarse.alone.items():
        assert alone.keys() == {f"{best}:{head}" for head in range(4)}
        assert all(score == found.alone[task][head] for head, score in alone.items())
    assert {*coarse.profile().heads} == {best}
    assert coarse.chosen.strategy == "union"


def test_a_weaker_alpha_that_is_as_good_is_taken(model: SteeredModel, tmp_path: Path) -> None:
    given = tasks("texts")
    alphas = (0.999, 0.9985)  # which change nothing
    one = find_heads(model, given, tmp_path, replace(OPTIONS_FOR_SEARCH, alpha=0.9995,
                                                     alphas=alphas))  # fmt: skip
    assert list(one.alphas) == ["0.9995", "0.999", "0.9985"]
    assert one.chosen_alpha == 0.9995
    assert one.before["texts"] == one.chosen.scores["texts"]


def with_score(task: Task, score: Any) -> dict[str, Any]:
    changed = replace(task, score=score, metrics=("Acc",))
    return {"texts": {"train": changed, "validation": changed}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "There is no task"),
        ({"a": {"train": searching.texts(0)}}, "'a' has 0 samples for validation; .* needs 20"),
        (
            {"a": dict.fromkeys(("train", "validation"), searching.texts(0).take(19))},
            "'a' has 19 samples for train; to tell heads apart it needs 20",
        ),
        (with_score(searching.texts(0), searching.score_everything), "'texts' right without"),
        (with_score(searching.texts(0), searching.score_nothing), "'texts' wrong, steered or not"),
    ],
)
def test_there_must_be_something_to_find(
    model: SteeredModel, tmp_path: Path, given: Any, message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        find_heads(model, given, tmp_path, OPTIONS_FOR_SEARCH)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(alpha=1.0), "alpha is 1.0; to steer, it must lie between 0 and 1"),
        (Options(alphas=(0.1, 0.0)), "alpha is 0.0"),
        (Options(sizes=(13,)), "best 13 heads; the model has 8"),
        (Options(sizes=(5,), best_layers=1), "best 5 heads; the layers searched have 4"),
        (Options(sizes=(0,)), "best 0 heads"),
        (Options(best_layers=0), "best_layers is 0"),
        (Options(batch_size=0), "batch_size is 0"),
        (Options(strategy="task-specific"), "'task-specific' is for one task, and there are 2"),
        (Options(strategy="task-agnostic"), "no strategy 'task-agnostic' for a profile"),
    ],
)
def test_options_are_checked_before_anything_is_measured(
    model: SteeredModel, tmp_path: Path, options: Options, message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        find_heads(model, tasks("choices", "texts"), tmp_path / "new", options)
    assert not (tmp_path / "new").exists()


def test_spans_with_an_alpha_of_their_own_are_refused(model: SteeredModel, tmp_path: Path) -> None:
    task = searching.texts(0)
    prompt = SpanStr("The mayor is Ada.", [Span(0, 9, alpha=0.5)])
    changed = replace(task.samples[3], prompts=(prompt,))
    task = replace(task, samples=(*task.samples[:3], changed, *task.samples[4:]))
    given = {"texts": dict.fromkeys(("train", "validation"), task)}
    with pytest.raises(TaskError, match=f"{changed.id!r} of the task 'texts' has a span with an"):
        find_heads(model, given, tmp_path, OPTIONS_FOR_SEARCH)


def test_prompts_that_are_too_long_are_told_before_anything_is_measured(
    model: SteeredModel, tmp_path: Path
) -> None:
    task = replace(searching.texts(0), max_new_tokens=10_000)
    given = {"texts": dict.fromkeys(("train", "validation"), task)}
    with pytest.raises(PromptTooLongError) as error:
        find_heads(model, given, tmp_path / "new", OPTIONS_FOR_SEARCH)
    assert error.value.__notes__ == [f"in the task texts, sample {task.samples[0].id!r}"]
    assert not (tmp_path / "new").exists()


def test_answers_that_lost_their_fluency_are_told(model: SteeredModel, tmp_path: Path) -> None:
    given = tasks("texts")
    given["texts"] = {
        split: replace(one, fluency_floor=3.0) for split, one in given["texts"].items()
    }
    found = find_heads(model, given, tmp_path, replace(OPTIONS_FOR_SEARCH, alphas=()))
    assert 0 <= found.less_fluent["texts"] < 3.0  # two tokens are never more fluent
    assert found.profile().details["less_fluent"] == found.less_fluent


def test_one_task_has_nothing_in_common(model: SteeredModel, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="'multi-task' is for two or more tasks, and there are 1"):
        find_heads(model, tasks("texts"), tmp_path, Options(strategy="multi-task"))


def test_several_processes_need_a_way_to_load_the_model(
    model: SteeredModel, tmp_path: Path
) -> None:
    with pytest.raises(TaskError, match="Several processes each load the model: pass load"):
        find_heads(model, tasks("texts"), tmp_path, OPTIONS_FOR_SEARCH, processes=2)


def test_no_common_head_says_what_else_there_is(model: SteeredModel, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"no head is among the best k of all tasks.*'union'"):
        find_heads(
            model, tasks("choices", "texts"), tmp_path, replace(OPTIONS_FOR_SEARCH, sizes=(1,))
        )


def test_a_task_agnostic_list_is_not_judged_by_its_own_task(
    model: SteeredModel, tmp_path: Path
) -> None:
    three = find_heads(
        model, tasks("choices", "texts", "mixed"), tmp_path, replace(OPTIONS_FOR_SEARCH, alphas=())
    )
    agnostic = [one for one in three.lists if one.strategy == "task-agnostic"]
    assert agnostic
    for one in agnostic:
        assert one.of not in one.scores
        assert len(one.scores) == 2
    best = three.best("task-agnostic", agnostic[0].of)
    assert best.mean() == max(one.mean() for one in agnostic if one.of == best.of)


def test_heads_are_read_from_their_layer_on(
    model: SteeredModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search is fast because it does so; the result would be the same otherwise."""
    paths = []
    init = Reading.__init__

    def noted(self: Reading, model: Any, path: str | None, *rest: Any) -> None:
        paths.append(path)
        init(self, model, path, *rest)

    monkeypatch.setattr(Reading, "__init__", noted)
    find_heads(model, tasks("choices"), tmp_path, replace(OPTIONS_FOR_SEARCH, alphas=()))
    assert "model.layers" in paths


def test_batches_have_similar_lengths_after_the_first_emphasis() -> None:
    """Which is what is read again for each head; what is before it is read once."""
    sample = searching.texts(0).samples[0]

    def made(before: int, after: int) -> Sample:
        text = f"{'a ' * before}bold{' b' * after}"
        start = 2 * before
        prompt = SpanStr(text, [Span(start, start + 4)])
        return replace(sample, id=f"{before} {after}", prompts=(prompt,))

    samples = tuple(made(before, after) for before, after in [(0, 20), (90, 1), (50, 21), (3, 2)])
    found = batches(replace(searching.texts(0), samples=samples), 2)
    assert {frozenset(one.id for one in some) for some in found} == {
        frozenset({"90 1", "3 2"}),
        frozenset({"0 20", "50 21"}),
    }
