"""Turns conversations into training batches of token ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from .conversation import Conversation
from .tasks import draw_conversation
from .tokenizer import ASSISTANT, SYSTEM, USER
from .world import Difficulty, World

LENGTHS = (128, 192, 256, 384, 512, 640, 768)
"""Sequence lengths of batches, so that a compiled model sees few shapes."""

EASY = Difficulty((1, 2), (1, 1), 3)
MEDIUM = Difficulty((2, 4), (1, 2), 8)
FULL = Difficulty((2, 8), (1, 4), 12)

LOOSENED = 0.2
"""Share of statements and questions with meaningless words between their own."""

VALUE_FIRST = 0.25
"""Share of statements that give the value first, besides those that chance draws."""

LOOKALIKES = 0.3
"""Share of facts that say of something else what another fact of the reading says."""

IGNORED = -100
"""Target that the loss passes over."""


@dataclass(frozen=True)
class Batch:
    """Token ids, what follows each of them, and which followers are answers.

    Attributes:
        ids: Shape (rows, length).
        targets: Shape (rows, length); -100 at padding.
        answers: Shape (rows, length); true where the target belongs to an answer.
    """

    ids: Tensor
    targets: Tensor
    answers: Tensor


def encode(
    conversation: Conversation, tokenizer: PreTrainedTokenizerFast, *, chat: bool
) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation, and which of them the model is to produce.

    Args:
        conversation: What was said.
        tokenizer: The embedded model's.
        chat: In the chat template's form; otherwise as bare text that ends with the answer. Counts
            where the conversation leaves it open.
    """
    if conversation.layout != "any":
        chat = conversation.layout == "chat"
    plain = _pieces(conversation, chat)
    ids = [tokenizer.bos_token_id]
    produced = [False]
    for text, is_answer in plain:
        tokens = tokenizer(text, add_special_tokens=False).input_ids
        ids += tokens
        produced += [is_answer] * len(tokens)
    return ids, produced


def _pieces(conversation: Conversation, chat: bool) -> Iterator[tuple[str, bool]]:
    end = "<|end|>"
    if chat and conversation.system:
        yield f"{SYSTEM} {conversation.system}{end}", False
    for number, turn in enumerate(conversation.turns):
        if chat:
            yield f"{USER} {turn.user}{end}{ASSISTANT}", False
        else:
            asked = turn.user.endswith("Answer:") or conversation.layout == "text"
            answer = "" if asked else "\nAnswer:"
            yield ("\n\n" if number else "") + turn.user + answer, False
        yield f" {turn.assistant}{end}", True


def training_batches(
    tokenizer: PreTrainedTokenizerFast, *, steps: int, tokens: int, seed: int, start: int = 0
) -> Iterator[Batch]:
    """Batches of about `tokens` tokens that grow from one fact to whole readings.

    Those from step `start` on, with other readings than a run that was not cut off would see.
    """
    rng = Random(seed + start)
    world = World(rng, loosened=LOOSENED, value_first=VALUE_FIRST, lookalikes=LOOKALIKES)
    waiting: dict[int, list[tuple[list[int], list[bool]]]] = defaultdict(list)
    step = start
    while step < steps:
        conversation = draw_conversation(world, _difficulty(step / steps, rng))
        ids, produced = encode(conversation, tokenizer, chat=rng.random() < 0.7)
        length = next((n for n in LENGTHS if len(ids) <= n + 1), LENGTHS[-1])
        waiting[length].append((ids[: length + 1], produced[: length + 1]))
        if len(waiting[length]) * length >= tokens:
            step += 1
            yield _batch(waiting.pop(length), length, tokenizer.pad_token_id)


def _difficulty(progress: float, rng: Random) -> Difficulty:
    if progress < 0.0625:
        return EASY
    if progress < 0.375:
        return rng.choices((EASY, MEDIUM), (1, 4))[0]
    return rng.choices((MEDIUM, FULL), (2, 3))[0]


def _batch(rows: list[tuple[list[int], list[bool]]], length: int, pad: int) -> Batch:
    ids = torch.full((len(rows), length), pad)
    targets = torch.full((len(rows), length), IGNORED)
    answers = torch.zeros((len(rows), length), dtype=torch.bool)
    for i, (tokens, produced) in enumerate(rows):
        count = len(tokens) - 1
        ids[i, :count] = torch.tensor(tokens[:-1])
        targets[i, :count] = torch.tensor(tokens[1:])
        answers[i, :count] = torch.tensor(produced[1:])
    return Batch(ids, targets, answers)
