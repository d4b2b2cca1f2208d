"""A way to have a model write what a test wants, through the whole of the engine."""

from __future__ import annotations

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase


class Scripted(LogitsProcessor):
    """Lets a model write one text, token by token, and then its end token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, text: str) -> None:
        self._tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        self._tokens.append(tokenizer.eos_token_id)
        self._started: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._started is None:
            self._started = input_ids.shape[1]
        token = self._tokens[input_ids.shape[1] - self._started]
        only = torch.full_like(scores, float("-inf"))
        only[:, token] = 0.0
        return only
