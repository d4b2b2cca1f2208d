"""How likely a model found the tokens that it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedTokenizerBase

from .errors import PromptError


@dataclass(frozen=True)
class TokenLogprob:
    """One token of an answer.

    Attributes:
        token: Its text.
        logprob: Its log-probability as the model itself had it, in nats: steered, and before
            temperature or a structure changed it, but after what transformers itself does to
            logits, such as `repetition_penalty`.
        top: The likeliest tokens in its place with their log-probabilities, likeliest first.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


def recorded_logprobs(
    wanted: object, arguments: Mapping[str, Any], defaults: GenerationConfig
) -> RecordedLogprobs | None:
    """What keeps log-probabilities, if they are wanted.

    Args:
        wanted: Whether they are, or how many of the likeliest tokens are, too.
        arguments: Those of transformers' `generate`.
        defaults: The model's own.

    Raises:
        PromptError: It is neither True, False nor a number of tokens, or tokens are not chosen one
            after the other.
    """
    if wanted is None or wanted is False:
        return None
    if not isinstance(wanted, int) or wanted < 0:
        raise PromptError(
            f"logprobs is {wanted!r}; it must be True, False, or how many of the likeliest tokens "
            "to tell in each place."
        )
    for name in ("num_beams", "assistant_model", "prompt_lookup_num_tokens"):
        if arguments.get(name, getattr(defaults, name, None)) not in (None, 0, 1):
            raise PromptError(f"logprobs cannot be combined with {name}. Leave one of them out.")
    return RecordedLogprobs(0 if wanted is True else wanted)


class RecordedLogprobs(LogitsProcessor):
    """Keeps the log-probabilities of the tokens that are written.

    Args:
        top: How many of the likeliest tokens to keep in each place.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._last: Tensor | None = None
        self._chosen: list[Tensor] = []
        self._likeliest: list[tuple[Tensor, Tensor]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Returns scores, shape (rows, vocabulary), as they are."""
        if self._last is not None:
            self._choose(input_ids[:, -1])
        self._last = torch.log_softmax(scores.float(), -1)
        if self._top:
            values, tokens = self._last.topk(min(self._top, self._last.shape[-1]))
            self._likeliest.append((tokens, values))
        return scores

    def _choose(self, tokens: Tensor) -> None:
        assert self._last is not None
        self._chosen.append(self._last.gather(1, tokens[:, None].to(self._last.device))[:, 0])

    def of(
        self, row: int, new: list[int], length: int, tokenizer: PreTrainedTokenizerBase
    ) -> tuple[TokenLogprob, ...]:
        """The tokens of one row.

        Args:
            row: Its number in the batch.
            new: All that was written in it, padding included.
            length: How many of these are the answer's.
            tokenizer: The model's.
        """
        found = []
        for place, token in enumerate(new[:length]):
            if place < len(self._chosen):
                value = self._chosen[place][row]
            else:  # the last one, after which nothing was asked
                assert self._last is not None
                value = self._last[row, token]
            top: tuple[tuple[str, float], ...] = ()
            if self._top:
                tokens, values = (x[row].tolist() for x in self._likeliest[place])
                texts = [str(tokenizer.decode([one])) for one in tokens]
                top = tuple(zip(texts, values, strict=True))
            found.append(TokenLogprob(str(tokenizer.decode([token])), float(value), top))
        return tuple(found)
