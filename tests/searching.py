"""A tiny model and small tasks for the search; processes that are started anew import it, too."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import tiny

from pasta_chains.engine import SteeredModel
from pasta_chains.evaluation.splits import Split
from pasta_chains.evaluation.task import Sample, Task
from pasta_chains.profiling.options import Options
from pasta_chains.profiling.search import find_heads
from pasta_chains.spans import SpanStr, emphasize

COUNT = 20
LAYERS = 2
NAMES = ("Ada Lowe", "Bo Marsh", "the mayor", "Tarn")
OPTIONS = ("mayor", "Tarn", "is")
OPTIONS_FOR_SEARCH = Options(alpha=0.01, alphas=(0.2,), sizes=(2, 5), batch_size=14)


def load(number: int = 0) -> SteeredModel:
    """The same model at each call."""
    return SteeredModel(tiny.llama(seed=3, num_hidden_layers=LAYERS), tiny.tokenizer())


def score_choice(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    """Whether it is the wanted one."""
    return {"Acc": sum(answer == sample.wanted for answer in answers) / len(answers)}


def score_text(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    """Any rule will do that random texts follow now and then."""
    total = sum(map(ord, answers[0]))
    return {"A": float(total % 2 == 0), "B": float(total % 3 == 0)}


def score_nothing(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    return {"Acc": 0.0}


def score_everything(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    return {"Acc": 1.0}


def prompts(number: int) -> tuple[SpanStr, SpanStr]:
    one, other = NAMES[number % 4], NAMES[(number // 4 + 1) % 4]
    marked = emphasize(f"{one} number {number}")
    return (
        SpanStr("Previously ") + marked + SpanStr(f", then {other}. Who"),
        SpanStr("Answer: ") + marked + SpanStr(f" of {other} or not? It was"),
    )


def choices(first: int) -> Task:
    samples = [
        Sample(f"c{number}", prompts(number), OPTIONS[number % 3], OPTIONS)
        for number in range(first, first + COUNT)
    ]
    return Task("choices", tuple(samples), ("Acc",), score_choice)


def texts(first: int) -> Task:
    samples = [
        Sample(f"t{number}", prompts(number)[:1], "") for number in range(first, first + COUNT)
    ]
    return Task("texts", tuple(samples), ("A", "B"), score_text, max_new_tokens=2)


def mixed(first: int) -> Task:
    """Some samples with options, and some without."""
    half = (*choices(first).samples[::2], *texts(first).samples[1::2])
    return Task("mixed", half, ("Acc",), score_mixed, max_new_tokens=2)


def score_mixed(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    score = score_choice if sample.options else score_text
    return {"Acc": next(iter(score(sample, answers).values()))}


def tasks(*names: str) -> dict[str, dict[Split, Task]]:
    make = {"choices": choices, "texts": texts, "mixed": mixed}
    return {name: {"train": make[name](0), "validation": make[name](100)} for name in names}


if __name__ == "__main__":  # a search that another process kills
    find_heads(
        load(),
        tasks("choices", "texts"),
        Path(sys.argv[1]),
        OPTIONS_FOR_SEARCH,
        progress=lambda *_: time.sleep(0.05),
    )
