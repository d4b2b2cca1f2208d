"""How much each token of one steered request counts, as the engine and its workers know it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self, TypeAlias

Run: TypeAlias = tuple[int, int, float]
"""Tokens from one place to before another, and the logarithm of their weight."""


@dataclass(frozen=True)
class Weights:
    """Logarithms of the weights of all tokens of a request.

    Adding one number to all of them changes nothing (softmax), so plain text has 0: then what
    stands before the first emphasized token reads as in a request without emphasis, and shares its
    cached blocks. Attention sinks are keys of their own, to which nothing is added; for models with
    them the strongest tokens have 0, as in the paper.

    Attributes:
        runs: Of the tokens of the prompt that have another weight than 0, in order and apart.
        prompt_tokens: Number of tokens of the prompt.
        generated: Of the tokens after the prompt, which are read like the strongest ones.
        profile: Digest of the profile whose heads are steered.
    """

    runs: tuple[Run, ...]
    prompt_tokens: int
    generated: float
    profile: str

    @classmethod
    def of(cls, logs: Sequence[float], profile: str, *, shifted: bool) -> Self | None:
        """The weights of a request; None if all are the same, so that nothing is steered.

        Args:
            logs: From `token_log_weights`.
            profile: Digest of the profile.
            shifted: Whether plain text has 0, otherwise the strongest tokens have.
        """
        strongest = max(logs, default=0.0)
        if min(logs, default=0.0) == strongest:
            return None
        zero = 0.0 if shifted else strongest
        runs, position = [], 0
        for log, same in groupby(logs):
            end = position + len(list(same))
            if log != zero:
                runs.append((position, end, log - zero))
            position = end
        return cls(tuple(runs), len(logs), strongest - zero, profile)

    def dump(self) -> dict[str, Any]:
        """What is sent from process to process."""
        return {
            "runs": [list(run) for run in self.runs],
            "prompt_tokens": self.prompt_tokens,
            "generated": self.generated,
            "profile": self.profile,
        }

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Self:
        """Read what `dump` returned."""
        runs = tuple((start, end, log) for start, end, log in data["runs"])
        return cls(runs, data["prompt_tokens"], data["generated"], data["profile"])

    def between(self, start: int, end: int) -> list[Run]:
        """The runs among some tokens, counted from the first of them; also of generated ones."""
        first = bisect_right(self.runs, start, key=lambda run: run[1])
        last = bisect_left(self.runs, end, key=lambda run: run[0])
        runs = [*self.runs[first:last], (self.prompt_tokens, end, self.generated)]
        cut = [(max(first, start), min(last, end), log) for first, last, log in runs if log]
        return [(first - start, last - start, log) for first, last, log in cut if first < last]
