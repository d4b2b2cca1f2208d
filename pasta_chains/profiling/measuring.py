"""How well some samples of a task go with any heads steered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..engine import SteeredModel
from ..evaluation.choosing import choose, options_after
from ..evaluation.task import Sample, Task
from ..profile import HeadProfile
from ..prompts import TokenizedPrompt, tokenize
from .beginnings import read
from .drafts import Writing
from .upper_layers import Reading

Heads = Mapping[int, Sequence[int]]


class Batch:
    """Samples that are asked again and again, each time with other heads steered.

    Args:
        model: The model.
        path: Where its layers are, from `upper_layers.path_of_layers`.
        task: What the samples are of.
        samples: All with options, or all without.
        alpha: Coefficient for text outside the emphasis.
    """

    def __init__(
        self,
        model: SteeredModel,
        path: str | None,
        task: Task,
        samples: Sequence[Sample],
        alpha: float,
    ) -> None:
        self._task, self._samples, self._alpha = task, samples, alpha
        prompts = [
            tokenize(prompt, model.tokenizer, alpha, model.control_tokens)
            for sample in samples
            for prompt in sample.prompts
        ]
        every = HeadProfile(all_heads(model), alpha)
        if samples[0].options:
            self._answering: _Choosing | Writing = _Choosing(model, path, samples, prompts, every)
        else:
            self._answering = Writing(model, path, prompts, every, task.max_new_tokens)

    def scores(self, heads: Heads) -> list[float]:
        """For each sample the mean of its metrics, 0 to 1, with heads steered."""
        answers = iter(self._answering.answers(HeadProfile(heads, self._alpha)))
        return [
            self._task.mean_score(sample, [next(answers) for _ in sample.prompts])
            for sample in self._samples
        ]


class _Choosing:
    """Prompts with options, of which the likeliest is wanted for many heads."""

    def __init__(
        self,
        model: SteeredModel,
        path: str | None,
        samples: Sequence[Sample],
        prompts: Sequence[TokenizedPrompt],
        every: HeadProfile,
    ) -> None:
        self._model, self._path, self._every = model, path, every
        self._prompts = prompts
        self._options = [sample.options for sample in samples for _ in sample.prompts]
        self._tokens = options_after(model.tokenizer, prompts, self._options)
        self._first: tuple[list[list[int]], Reading] | None = None

    def answers(self, profile: HeadProfile) -> list[str]:
        """The likeliest option after each prompt, with a profile's heads steered."""

        def next_logits(prompts: Sequence[TokenizedPrompt]) -> Tensor:
            return self._reading(prompts).logits(profile.heads)[:, 0]

        chosen = choose(self._prompts, self._tokens, next_logits)
        return [options[number] for number, options in zip(chosen, self._options, strict=True)]

    def _reading(self, prompts: Sequence[TokenizedPrompt]) -> Reading:
        """What is read first is the same for all heads, and is read unsteered only once."""
        ids = [prompt.ids for prompt in prompts]
        if self._first is not None and self._first[0] == ids:
            return self._first[1]
        path = self._path if self._first is None else None
        reading = read(self._model, path, prompts, self._every, list(map(len, ids)), 1)
        if self._first is None:
            self._first = (ids, reading)
        return reading


def all_heads(model: SteeredModel) -> dict[int, range]:
    """Every head that can be steered, by its layer."""
    return {layer: range(count) for layer, count in model.head_counts.items()}
