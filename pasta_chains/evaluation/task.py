"""Tasks: prompts with emphasis, and what a good answer to each is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import TaskError
from ..prompts import Prompt
from ..spans import SpanStr

Score = Callable[["Sample", Sequence[str]], Mapping[str, float]]
"""From a sample and the answer to each of its prompts to a number from 0 to 1 for each metric."""


@dataclass(frozen=True)
class Sample:
    """What is asked, and what is wanted.

    Attributes:
        id: Tells the samples of a task apart.
        prompts: One prompt, or several that ask for the same. Their emphasis is what PASTA steers.
        wanted: The right answer, as worked examples show it.
        options: The texts of which the model finds one likeliest; without any it writes freely.
        expected: What else the metrics compare answers with.
    """

    id: str
    prompts: tuple[Prompt, ...]
    wanted: str
    options: tuple[str, ...] = ()
    expected: Any = None


@dataclass(frozen=True)
class Task:
    """Samples that are asked and scored alike.

    Attributes:
        name: Of the task.
        samples: What is asked.
        metrics: Names of the numbers that `score` gives, in the order of tables.
        score: Scores the answers to a sample.
        max_new_tokens: Longest answer; the paper's is 128.
        fluency_floor: Answers that are less fluent on average are not worth having: the paper
            discards such runs. None where answers are a few words, whose fluency says nothing.
        separator: What stands between a worked example and what follows it.
    """

    name: str
    samples: tuple[Sample, ...]
    metrics: tuple[str, ...]
    score: Score
    max_new_tokens: int = 128
    fluency_floor: float | None = None
    separator: str = "\n\n"

    def __post_init__(self) -> None:
        if not self.samples:
            raise TaskError(f"The task {self.name!r} has no samples.")
        seen: set[str] = set()
        for number, sample in enumerate(self.samples, 1):
            where = f"Sample {number} ({sample.id!r}) of the task {self.name!r}"
            if sample.id in seen:
                raise TaskError(f"{where} has the id of an earlier one.")
            seen.add(sample.id)
            if not sample.prompts or not all(map(is_emphasized, sample.prompts)):
                raise TaskError(
                    f"{where} emphasizes nothing, so there is nothing to steer. Mark what counts "
                    "in it."
                )
            if len(set(sample.options)) < len(sample.options) or len(sample.options) == 1:
                raise TaskError(f"{where} must have two or more different options, or none.")
            if not all(option.strip() for option in sample.options):
                raise TaskError(f"{where} has an option without any text.")

    def take(self, count: int) -> Task:
        """The same with the first samples only.

        Raises:
            TaskError: There are not as many.
        """
        if not 0 < count <= len(self.samples):
            raise TaskError(
                f"The task {self.name!r} has {len(self.samples)} samples here; {count} were asked "
                "for."
            )
        return replace(self, samples=self.samples[:count])

    def mean_score(self, sample: Sample, answers: Sequence[str]) -> float:
        """The mean of a sample's metrics, of which the paper's averages are made."""
        scores = self.score(sample, answers)
        return sum(scores[name] for name in self.metrics) / len(self.metrics)


def is_emphasized(prompt: Prompt) -> bool:
    """Whether any text of a prompt is emphasized; text that is only deemphasized is not."""
    texts = [prompt] if isinstance(prompt, str) else [message["content"] for message in prompt]
    return any(not span.deemphasized for text in texts for *_, span in SpanStr(text).runs())
