"""How likely a model finds texts after a prompt."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from .errors import PromptError
from .prompts import TokenizedPrompt


def continuation_ids(
    tokenizer: PreTrainedTokenizerBase, continuations: Sequence[str]
) -> list[list[int]]:
    """Tokens of texts that may come after a prompt.

    Raises:
        PromptError: They are no list, or one of them has no token.
    """
    if isinstance(continuations, str):
        raise PromptError("continuations is one text; it must be a list of texts.")
    answers: list[list[int]] = []
    for text in continuations:
        answers.append(tokenizer(str(text), add_special_tokens=False)["input_ids"])
        if not answers[-1]:
            raise PromptError(f"The continuation {text!r} has no token to score.")
    return answers


def continued(prompt: TokenizedPrompt, answers: Sequence[list[int]]) -> list[TokenizedPrompt]:
    """The prompt with each answer after it, which is read in full."""
    return [
        replace(prompt, ids=prompt.ids + ids, bias=prompt.bias + [0.0] * len(ids))
        for ids in answers
    ]


@torch.no_grad()
def log_probabilities(
    model: Any, inputs: Mapping[str, Any], first: int, answers: Sequence[list[int]]
) -> list[float]:
    """Log-probability of each row's answer, in nats.

    Args:
        model: The model.
        inputs: Of prompt and answer, padded on the right: no token reads the padding, whatever the
            model makes of positions.
        first: Number of tokens of the prompt.
        answers: The tokens after it, row by row.
    """
    logits = model(**inputs, use_cache=False).logits[:, first - 1 : -1]
    logs = logits.float().log_softmax(-1)
    chosen = logs.gather(-1, inputs["input_ids"][:, first:, None])[..., 0]
    return [float(log[: len(ids)].sum()) for log, ids in zip(chosen, answers, strict=True)]


@torch.no_grad()
def next_logits(model: Any, inputs: Mapping[str, Any], lengths: Sequence[int]) -> Tensor:
    """Logits of the token after each row, in float32, of shape (rows, vocabulary).

    Args:
        model: The model.
        inputs: Of the rows, padded on the right.
        lengths: Number of tokens of each row.
    """
    last = torch.tensor(lengths, device=model.device) - 1
    kept = last.unique()
    # Logits of all positions of a long batch can take more memory than the model.
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        logits = model(**inputs, use_cache=False, logits_to_keep=kept).logits
        last = torch.searchsorted(kept, last)
    else:
        logits = model(**inputs, use_cache=False).logits
    rows = torch.arange(len(lengths), device=logits.device)
    found: Tensor = logits[rows, last.to(logits.device)].float()
    return found
