"""Pieces of the search that can be measured apart, in this process or in others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from ..engine import SteeredModel
from ..errors import TaskError
from ..evaluation.splits import Split
from ..evaluation.task import Sample, Task
from ..prompts import Prompt
from ..spans import Span, SpanStr
from .measuring import Batch
from .ranking import Head, by_layer
from .upper_layers import path_of_layers

FEWEST = 20
"""Samples in a split; heads cannot be told apart by fewer."""

Tasks = Mapping[str, Mapping[Split, Task]]
"""For each task by name its splits "train" and "validation"."""


@dataclass(frozen=True)
class Unit:
    """Samples of one batch, to be asked with each of some lists of heads.

    Attributes:
        split: Of the task.
        task: Its name.
        alpha: Coefficient for text outside the emphasis.
        batch: Number of the batch.
        lists: Lists of heads, each as `label` writes it.
    """

    split: Split
    task: str
    alpha: float
    batch: int
    lists: tuple[str, ...]


def label(heads: Iterable[Head]) -> str:
    """Writes a list of heads as `"3:1,7 4:0"`; none at all is `""`."""
    layers = by_layer(heads).items()
    return " ".join(f"{layer}:{','.join(map(str, some))}" for layer, some in layers)


def heads_of(label: str) -> dict[int, list[int]]:
    """Reads what `label` wrote, by layers."""
    parts = (part.split(":") for part in label.split())
    return {int(layer): [int(head) for head in some.split(",")] for layer, some in parts}


def batches(task: Task, size: int) -> list[list[Sample]]:
    """Samples of similar length after the first emphasis, all with options or all without.

    Batches are in an order of chance, so that those measured when time runs out stand for all.

    Args:
        task: Of the samples.
        size: Most prompts in a batch; a sample with more is alone.
    """
    order = sorted(
        task.samples, key=lambda one: (bool(one.options), sum(map(_length_changed, one.prompts)))
    )
    found: list[list[Sample]] = []
    for sample in order:
        last = found[-1] if found else []
        count = sum(len(one.prompts) for one in last) + len(sample.prompts)
        if last and count <= size and bool(last[0].options) == bool(sample.options):
            last.append(sample)
        else:
            found.append([sample])
    Random(0).shuffle(found)
    return found


def _length_changed(prompt: Prompt) -> int:
    """Number of characters from the first emphasized one on, which steering may change."""
    texts = [prompt] if isinstance(prompt, str) else [one["content"] for one in prompt]
    whole = SpanStr().join(texts)
    return len(whole) - min((span.start for span in whole.spans), default=0)


def check_tasks(tasks: Tasks) -> None:
    """Refuse tasks from which no heads can be found.

    Raises:
        TaskError: There is none, a split is missing, or has too few samples.
    """
    if not tasks:
        raise TaskError("There is no task to find heads for. Name one with --task.")
    for name, splits in tasks.items():
        for split in ("train", "validation"):
            task = splits.get(split)
            if task is None or len(task.samples) < FEWEST:
                count = 0 if task is None else len(task.samples)
                raise TaskError(
                    f"The task {name!r} has {count} samples for {split}; to tell heads apart it "
                    f"needs {FEWEST} or more, better 200."
                )
            for sample in task.samples:
                if any(span.alpha is not None for span in _spans(sample)):
                    raise TaskError(
                        f"The sample {sample.id!r} of the task {name!r} has a span with an alpha "
                        "of its own, which the alphas of the search would not change. Leave it out."
                    )


def _spans(sample: Sample) -> Iterator[Span]:
    for prompt in sample.prompts:
        texts = [prompt] if isinstance(prompt, str) else [one["content"] for one in prompt]
        for text in texts:
            yield from SpanStr(text).spans


class Bench:
    """Measures units on one model.

    Args:
        model: The model.
        tasks: All that units may be of.
        batch_size: Prompts in a batch.
    """

    def __init__(self, model: SteeredModel, tasks: Tasks, batch_size: int) -> None:
        self._model, self._tasks, self._size = model, tasks, batch_size
        self._path = path_of_layers(model.model)

    def measure(self, unit: Unit) -> Iterator[tuple[str, list[float]]]:
        """For each list of heads the score of each sample of the batch, as soon as it is known."""
        task = self._tasks[unit.task][unit.split]
        samples: Sequence[Sample] = batches(task, self._size)[unit.batch]
        batch = Batch(self._model, self._path, task, samples, unit.alpha)
        for one in unit.lists:
            yield one, batch.scores(heads_of(one))
