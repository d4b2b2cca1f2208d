"""Whether a model still reads plain text, and writes fluently, while heads are steered."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..engine import SteeredModel
from ..errors import TaskError
from ..evaluation.harness import evaluate, steered
from ..evaluation.task import Task
from ..profile import HeadProfile
from ..prompts import Prompt, tokenize
from ..scoring import log_probabilities
from ..spans import SpanStr, emphasize

PAIRS = 50
"""Pairs of texts that are read."""


def neutral_texts(tasks: Sequence[Task]) -> list[str]:
    """Plain texts to read: the prompts of tasks, in turn."""
    found = []
    for samples in zip(*(task.samples for task in tasks), strict=False):
        for sample in samples:
            found.append(_text(sample.prompts[0]))
    return found[: PAIRS + 1]


def perplexity(model: SteeredModel, texts: Sequence[str], profile: HeadProfile) -> float:
    """Perplexity of each text in a prompt in which the one before it is emphasized.

    The emphasized one says nothing of it. Steering that harms how a model reads plain text makes it
    rise.

    Args:
        model: The model.
        texts: Two or more.
        profile: The heads to steer.
    """
    total, count = 0.0, 0
    for emphasized, text in itertools.pairwise(texts):
        before = emphasize(emphasized) + SpanStr("\n\n")
        prompt = tokenize(
            before + SpanStr(text), model.tokenizer, profile.alpha, model.control_tokens
        )
        first = next(n for n, (start, _) in enumerate(prompt.offsets) if start >= len(before))
        most = model.context_length
        prompt = replace(prompt, ids=prompt.ids[:most], bias=prompt.bias[:most])
        ids = prompt.ids[first:]
        if ids:
            inputs = model.inputs_of([prompt], profile, left=False)
            total += log_probabilities(model.model, inputs, first, [ids])[0]
            count += len(ids)
    if not count:
        raise TaskError("No text is left to read: prompts fill the context. Take shorter ones.")
    return math.exp(-total / count)


def less_fluent(
    model: SteeredModel, tasks: Mapping[str, Task], profile: HeadProfile, batch_size: int
) -> dict[str, float]:
    """Tasks whose answers have become less fluent than the task allows, and how fluent they are.

    A broken model does some tasks well: what it writes has no pronouns, for example.

    Args:
        model: The model.
        tasks: What it is asked; those without a floor are passed over.
        profile: The heads to steer.
        batch_size: Prompts in a batch.
    """
    found = {}
    for name, task in tasks.items():
        if task.fluency_floor is not None:
            result = evaluate(model, task, steered("steered", profile), batch_size=batch_size)
            if result.too_low and result.fluency is not None:
                found[name] = result.fluency
    return found


def _text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return SpanStr(prompt).text
    return "\n\n".join(SpanStr(message["content"]).text for message in prompt)
