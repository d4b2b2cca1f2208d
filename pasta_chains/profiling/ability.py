"""Whether a model still reads plain text as before while heads are steered."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from ..engine import SteeredModel
from ..evaluation.task import Task
from ..profile import HeadProfile
from ..prompts import Prompt, tokenize
from ..scoring import continued, log_probabilities
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
    """Perplexity of each text after the one before it, which is emphasized and says nothing of it.

    Steering that harms what a model can do anyway makes it rise.

    Args:
        model: The model.
        texts: Two or more.
        profile: The heads to steer.
    """
    total, count = 0.0, 0
    for emphasized, text in itertools.pairwise(texts):
        prompt = tokenize(
            emphasize(emphasized) + SpanStr("\n\n"),
            model.tokenizer,
            profile.alpha,
            model.control_tokens,
        )
        ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        room = (model.context_length or math.inf) - len(prompt.ids)
        ids = ids[: int(min(len(ids), room))]
        if ids:
            inputs = model.inputs_of(continued(prompt, [ids]), profile, left=False)
            total += log_probabilities(model.model, inputs, len(prompt.ids), [ids])[0]
            count += len(ids)
    return math.exp(-total / max(count, 1))


def _text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return SpanStr(prompt).text
    return "\n\n".join(SpanStr(message["content"]).text for message in prompt)
