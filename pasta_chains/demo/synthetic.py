"""The paper's tasks in the synthetic world, and two more: rules for an agent, and documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from ..errors import TaskError
from ..evaluation.paper import counterfact_task, json_task, occupation_task, pronouns_task
from ..evaluation.splits import Split
from ..evaluation.task import Sample, Task
from .biographies import OCCUPATIONS, with_note, with_two_occupations
from .changes import changed_fact
from .instructions import rule_case
from .questions import DISAGREEING, draw_cases, prompt_of, states
from .world import World

_SEEDS: Mapping[Split, int] = {"train": 1001, "validation": 1002, "test": 1003}

COUNT = 500
"""Samples that are drawn unless another number is asked for."""


def synthetic_task(name: str, split: Split, count: int) -> Task:
    """Draw a task. Its names are never those of the embedded model's training.

    Args:
        name: One of `SYNTHETIC`.
        split: What the samples are for; those of different splits are drawn apart.
        count: How many samples.

    Raises:
        TaskError: There is no such task.
    """
    if name not in SYNTHETIC:
        raise TaskError(f"There is no task {name!r}; the tasks are {', '.join(SYNTHETIC)}.")
    return replace(SYNTHETIC[name](split, count), name=name, fluency_floor=None)


def draw_synthetic(name: str, split: Split, count: int | None) -> Task:
    """Draw a task of the usual size unless another one is asked for."""
    return synthetic_task(name, split, COUNT if count is None else count)


def _json(split: Split, count: int) -> Task:
    rng = Random(_SEEDS[split])
    lives = [with_note(rng, held_out=True) for _ in range(count)]
    return json_task([life.biography for life in lives])


def _pronouns(split: Split, count: int) -> Task:
    rng = Random(_SEEDS[split])
    lives = [with_two_occupations(rng, held_out=True) for _ in range(count)]
    task = pronouns_task([life.biography for life in lives])
    samples = [
        replace(sample, wanted=life.with_they())
        for sample, life in zip(task.samples, lives, strict=True)
    ]
    return replace(task, samples=tuple(samples))


def _bias_in_bios(split: Split, count: int) -> Task:
    rng = Random(_SEEDS[split])
    lives = [with_two_occupations(rng, held_out=True) for _ in range(count)]
    return occupation_task([life.biography for life in lives], OCCUPATIONS)


def _counterfact(split: Split, count: int) -> Task:
    rng = Random(_SEEDS[split])
    return counterfact_task([changed_fact(rng, held_out=True) for _ in range(count)])


def _rules(split: Split, count: int) -> Task:
    """Rules for an agent: "Acc", the answer is right, and in the form that a rule asks for."""
    world = World(Random(_SEEDS[split]), held_out=True)
    samples = []
    for number in range(count):
        case = rule_case(world)
        messages = (
            {"role": "system", "content": case.system},
            {"role": "user", "content": case.user},
        )
        wanted = case.asked.put(case.fact, case.number)
        samples.append(Sample(str(number), (messages,), wanted))
    return Task("rules", tuple(samples), ("Acc",), _score_same, max_new_tokens=48)


def _score_same(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    return {"Acc": float(answers[0].strip().casefold() == sample.wanted.casefold())}


def _documents(split: Split, count: int) -> Task:
    """Documents that disagree: "Acc", the answer is that of the trusted one alone."""
    samples = []
    for number, case in enumerate(draw_cases(DISAGREEING, count, _SEEDS[split])):
        messages = ({"role": "user", "content": prompt_of(case, case.trusted)},)
        samples.append(Sample(str(number), (messages,), case.wanted or "", expected=case.other))
    return Task("documents", tuple(samples), ("Acc",), _score_trusted, max_new_tokens=64)


def _score_trusted(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    right, other = (states(answers[0], value) for value in (sample.wanted, sample.expected))
    return {"Acc": float(right and not other)}


SYNTHETIC: Mapping[str, Callable[[Split, int], Task]] = {
    "json": _json,
    "pronouns": _pronouns,
    "bias-in-bios": _bias_in_bios,
    "counterfact": _counterfact,
    "rules": _rules,
    "documents": _documents,
}
"""The tasks by name."""
