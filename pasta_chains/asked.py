"""What one call asks of a model, its prompts read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from .errors import PromptError
from .profile import HeadProfile
from .prompts import TokenizedPrompt
from .structured import Structure

ProfileLike = HeadProfile | str | Path


@dataclass(frozen=True)
class Asked:
    """What one call asks, its prompts read.

    Attributes:
        prompts: As the model reads them.
        profile: The heads to steer, if there are any.
        alpha: Of spans that have none of their own.
        max_new_tokens: Longest answer; None for the default.
        stop: Texts that end an answer.
        seed: Of sampling; None for any.
        structure: A form that every answer must have.
        special_tokens: Those that stay in the text.
        logprobs: Whether log-probabilities are wanted, or of how many of the likeliest tokens.
        arguments: Further ones, named as transformers' `generate` names them.
    """

    prompts: list[TokenizedPrompt]
    profile: HeadProfile | None
    alpha: float
    max_new_tokens: int | None
    stop: list[str]
    seed: int | None
    structure: Structure | None
    special_tokens: Collection[str]
    logprobs: bool | int
    arguments: dict[str, Any]


def check_streamable(asked: Asked, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse to stream several texts, and stop strings that cannot be cut off while streaming.

    Raises:
        PromptError: One of them is asked for.
    """
    for name in ("num_beams", "num_return_sequences"):
        if asked.arguments.get(name, 1) != 1:
            raise PromptError(f"{name} cannot be streamed: there is one text only. Use run.")
    for word in asked.stop:
        if any(token in word and token != word for token in tokenizer.all_special_tokens):
            raise PromptError(
                f"The stop string {word!r} holds a special token and other text, so what is "
                "before it cannot be streamed. Use run."
            )
