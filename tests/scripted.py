"""A way to have a model write what a test wants, through the whole of the engine."""

from __future__ import annotations

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase


class Scripted(LogitsProcessor):
    """Lets a model write one text, token by token, and then its end token.

    With several texts it writes one in each call, the last one again and again.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *texts: str) -> None:
        self._texts = [
            [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            for text in texts
        ]
        self._call = -1
        self._started = self._length = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        length = input_ids.shape[1]
        if length != self._length + 1 or length - self._started >= len(self._tokens):
            self._call += 1
            self._started = length
        self._length = length
        token = self._tokens[length - self._started]
        only = torch.full_like(scores, float("-inf"))
        only[:, token] = 0.0
        return only

    @property
    def _tokens(self) -> list[int]:
        return self._texts[min(max(self._call, 0), len(self._texts) - 1)]
