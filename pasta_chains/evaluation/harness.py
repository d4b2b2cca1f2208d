"""Runs tasks under conditions, keeps every answer, and scores them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine import SteeredModel
from ..errors import PastaError, TaskError
from ..profile import HeadProfile
from ..prompts import Prompt
from ..spans import SpanStr
from .about import about_run
from .asking import NOTHING, ask
from .journal import Journal
from .metrics import fluency
from .rewriting import (
    Rewriting,
    marked,
    with_emphasis,
    with_examples,
    without_emphasis,
    wrong_emphasis,
)
from .task import Task

ZERO_SHOT = "zero-shot"
FEW_SHOT = "few-shot"


@dataclass(frozen=True)
class Condition:
    """What is done to prompts and to the model.

    Attributes:
        name: Of the condition.
        rewrite: What is done to each prompt.
        profile: The heads that are steered; nothing by default.
    """

    name: str
    rewrite: Rewriting
    profile: HeadProfile = NOTHING


@dataclass(frozen=True)
class Result:
    """How a task went under a condition.

    Attributes:
        task: Name of the task.
        condition: Name of the condition.
        scores: For each metric one number for each sample, from 0 to 1, in the task's order.
        answers: For each sample the answers to its prompts.
        fluency: Mean fluency of the answers; None where options are chosen.
        too_low: Whether that is below the task's floor, so that the paper would discard the run.
    """

    task: str
    condition: str
    scores: Mapping[str, tuple[float, ...]]
    answers: Mapping[str, tuple[str, ...]]
    fluency: float | None
    too_low: bool

    @property
    def means(self) -> tuple[float, ...]:
        """For each sample the mean of its metrics."""
        return tuple(sum(one) / len(one) for one in zip(*self.scores.values(), strict=True))

    @property
    def mean(self) -> float:
        """The mean over metrics and samples, of which the paper's averages are made."""
        return sum(self.means) / len(self.means)


def baselines(task: Task, examples: Task | None, count: int = 3) -> list[Condition]:
    """Zero-shot, marked and few-shot prompts, all unsteered.

    Args:
        task: What will be asked.
        examples: Where worked examples come from; without it there is no few-shot prompt.
        count: How many examples are shown.
    """
    found = [
        Condition(ZERO_SHOT, without_emphasis),
        Condition("*-marked", marked("*")),
        Condition('"-marked', marked('"')),
    ]
    if examples is not None:
        shown = examples.take(count).samples
        found.append(Condition(FEW_SHOT, with_examples(shown, task.separator)))
    return found


def steered(name: str, profile: HeadProfile) -> Condition:
    """Prompts as they are, steered."""
    return Condition(name, with_emphasis, profile)


def control(profile: HeadProfile) -> Condition:
    """The wrong text emphasized."""
    return Condition("wrong text emphasized", wrong_emphasis, profile)


def evaluate(
    model: SteeredModel,
    task: Task,
    condition: Condition,
    *,
    folder: Path | None = None,
    batch_size: int = 16,
    progress: Callable[[int], None] = lambda _: None,
) -> Result:
    """Ask all samples of a task under one condition.

    Args:
        model: The model.
        task: What to ask.
        condition: What is done to prompts and model.
        folder: Where answers are kept as they come; a run that was cut off goes on from there.
        batch_size: Prompts in a batch.
        progress: Called with the number of samples answered since the last call.

    Raises:
        PastaError: A prompt cannot be asked, or the folder holds another run's answers.
    """
    journal, known = None, {}
    if folder is not None:
        about = {**about_run(model), **_about(task, condition)}
        file = folder / task.name / f"{file_name(condition.name)}.jsonl"
        journal = Journal(file, about)
        known = _known(task, journal.known, file)
    progress(len(known))
    missing = [sample for sample in task.samples if sample.id not in known]
    asked = ask(model, task, missing, condition.rewrite, condition.profile, batch_size=batch_size)
    try:
        for sample, answers in asked:
            known[sample.id] = answers
            if journal is not None:
                journal.write(sample.id, answers)
            progress(1)
    except PastaError as error:
        error.add_note(f"in the task {task.name}, {condition.name}")
        raise
    return _result(task, condition.name, known)


def _known(task: Task, kept: Mapping[str, Any], file: Path) -> dict[str, tuple[str, ...]]:
    """The answers that a file keeps, of which each sample has one for each prompt."""
    counts = {sample.id: len(sample.prompts) for sample in task.samples}
    for key, answers in kept.items():
        texts = answers if isinstance(answers, list) else []
        if len(texts) != counts.get(key) or not all(isinstance(text, str) for text in texts):
            raise TaskError(
                f"The answers to the sample {key!r} in {file} are not what was written there. "
                "Remove their line to ask it again, or the file to ask all of them again."
            )
    return {key: tuple(answers) for key, answers in kept.items()}


def _result(task: Task, condition: str, answers: Mapping[str, tuple[str, ...]]) -> Result:
    rows = [task.score(sample, answers[sample.id]) for sample in task.samples]
    scores = {metric: tuple(row[metric] for row in rows) for metric in task.metrics}
    written = [answers[sample.id] for sample in task.samples if not sample.options]
    mean = None
    if written:
        texts = [text for some in written for text in some]
        mean = sum(map(fluency, texts)) / len(texts)
    floor = task.fluency_floor
    too_low = mean is not None and floor is not None and mean < floor
    return Result(task.name, condition, scores, answers, mean, too_low)


def _about(task: Task, condition: Condition) -> dict[str, Any]:
    profile = condition.profile
    return {
        "task": task.name,
        "condition": condition.name,
        "heads": {str(layer): heads for layer, heads in profile.heads.items()},
        "alpha": profile.alpha,
        "prompts": digest_of(task, condition.rewrite),
    }


def digest_of(task: Task, rewrite: Rewriting = with_emphasis) -> str:
    """A digest of all that a model is asked."""
    digest = hashlib.sha256(str(task.max_new_tokens).encode())
    for sample in task.samples:
        prompts = [_written(rewrite(prompt)) for prompt in sample.prompts]
        digest.update(repr((sample.id, prompts, sample.options)).encode())
    return digest.hexdigest()[:16]


def _written(prompt: Prompt) -> Any:
    if isinstance(prompt, str):
        return SpanStr(prompt).to_dict()
    return [{**message, "content": SpanStr(message["content"]).to_dict()} for message in prompt]


def file_name(condition: str) -> str:
    """A name for a file; conditions differ in letters and digits, but for the marks."""
    words = condition.replace("*", "asterisk").replace('"', "quote")
    name = re.sub(r"[^\w.]+", "-", words).strip("-").lower()
    if not name:
        raise TaskError(f"{condition!r} cannot name a condition; use letters.")
    return name
