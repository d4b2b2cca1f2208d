"""Asks a model the samples of a task, steered or not, and collects the answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ..context import Context
from ..engine import SteeredModel
from ..errors import PromptTooLongError
from ..profile import HeadProfile
from ..prompts import Prompt, TokenizedPrompt, tokenize
from ..scoring import next_logits
from .choosing import choose, options_after
from .rewriting import Rewriting
from .task import Sample, Task

NOTHING = HeadProfile({}, alpha=1.0)
"""Steers nothing."""

GREEDY: Mapping[str, Any] = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}
"""How answers are written, whatever the model's own configuration says."""


def ask(
    model: SteeredModel,
    task: Task,
    samples: Sequence[Sample],
    rewrite: Rewriting,
    profile: HeadProfile,
    *,
    batch_size: int,
) -> Iterator[tuple[Sample, tuple[str, ...]]]:
    """Ask every prompt of some samples.

    Args:
        model: The model.
        task: What the samples are of.
        samples: Those to ask, which are asked in batches of similar length.
        rewrite: What is done to each prompt.
        profile: The heads to steer, and how strongly.
        batch_size: Prompts in a batch.

    Yields:
        Each sample with the answer to each of its prompts, as soon as it is known.

    Raises:
        PastaError: A prompt cannot be asked.
    """
    prompts = {sample.id: [rewrite(prompt) for prompt in sample.prompts] for sample in samples}
    lengths = {sample.id: sum(map(_length, prompts[sample.id])) for sample in samples}
    order = sorted(samples, key=lambda sample: (bool(sample.options), lengths[sample.id]))
    for batch in _batches(order, batch_size):
        asked = [prompt for sample in batch for prompt in prompts[sample.id]]
        if batch[0].options:
            answers = _chosen(model, batch, asked, profile)
        else:
            answers = model.generate(
                asked, max_new_tokens=task.max_new_tokens, profile=profile, **GREEDY
            )
        given = iter(answers)
        for sample in batch:
            yield sample, tuple(next(given) for _ in sample.prompts)


def check_lengths(model: SteeredModel, task: Task, rewrite: Rewriting) -> None:
    """Refuse a task of which a prompt and its answer do not fit the context, before any is asked.

    Raises:
        PromptTooLongError: A prompt is too long; the error names the sample.
    """
    context = Context(model.context_length, model.name)
    for sample in task.samples:
        answer = 0 if sample.options else task.max_new_tokens
        for prompt in sample.prompts:
            try:
                context.check_fits(model.count_tokens(rewrite(prompt)), answer)
            except PromptTooLongError as error:
                error.add_note(f"in the task {task.name}, sample {sample.id!r}")
                raise


def _batches(samples: Sequence[Sample], size: int) -> Iterator[list[Sample]]:
    """Samples of one kind with at most so many prompts, but at least one sample."""
    batch: list[Sample] = []
    for sample in samples:
        count = sum(len(one.prompts) for one in [*batch, sample])
        if batch and (count > size or bool(batch[0].options) != bool(sample.options)):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def _chosen(
    model: SteeredModel, samples: Sequence[Sample], asked: Sequence[Prompt], profile: HeadProfile
) -> list[str]:
    tokenized = [
        tokenize(prompt, model.tokenizer, profile.alpha, model.control_tokens) for prompt in asked
    ]
    options = [sample.options for sample in samples for _ in sample.prompts]

    def ask_next(prompts: Sequence[TokenizedPrompt]) -> Tensor:
        inputs = model.inputs_of(prompts, profile, left=False)
        return next_logits(model.model, inputs, [len(prompt.ids) for prompt in prompts])

    numbers = choose(tokenized, options_after(model.tokenizer, tokenized, options), ask_next)
    return [some[number] for some, number in zip(options, numbers, strict=True)]


def _length(prompt: Prompt) -> int:
    if isinstance(prompt, str):
        return len(prompt)
    return sum(len(message["content"]) for message in prompt)
