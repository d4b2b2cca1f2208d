"""Requests of all kinds, mixed as a server's are, and what `SteeredModel` answers to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from pasta_chains.engine import SteeredModel
from pasta_chains.prompts import TokenizedPrompt, tokenize
from pasta_chains.tokens import token_bias
from pasta_chains.wire import KEY, Emphasis, Mark, marked

_WORDS = (
    "The mayor of Tarn is Ada Lowe and Bo Marsh keeps the lighthouse. Only emphasized words are "
    "read with full attention; others with less. Question: Who is it? Answer: it was not said, 42"
).split()


@dataclass(frozen=True)
class Ask:
    """One request for a completion.

    Attributes:
        prompt: A text, or its token ids.
        spans: Of its characters, or its tokens.
        alpha: Instead of the profile's.
        most: Longest answer, in tokens.
    """

    prompt: str | list[int]
    spans: tuple[Mark, ...]
    alpha: float | None
    most: int

    def body(self) -> dict[str, Any]:
        """What is sent to /v1/completions."""
        unit = "characters" if isinstance(self.prompt, str) else "tokens"
        emphasis = Emphasis(version=1, unit=unit, spans=[*self.spans], alpha=self.alpha)
        return {
            "model": "served",
            "prompt": self.prompt,
            "max_tokens": self.most,
            "temperature": 0,
            "logprobs": 0,
            "return_token_ids": True,
            "vllm_xargs": {KEY: emphasis.dump()} if self.spans else None,
        }

    def read(self, steered: SteeredModel) -> TokenizedPrompt:
        """The prompt as the model reads it."""
        assert steered.profile is not None
        alpha = steered.profile.alpha if self.alpha is None else self.alpha
        if isinstance(self.prompt, str):
            return tokenize(marked(self.prompt, self.spans), steered.tokenizer, alpha)
        text = marked("-" * len(self.prompt), self.spans)  # a character stands for a token
        bias = token_bias(text, [(place, place + 1) for place in range(len(text))], alpha)
        return TokenizedPrompt(text, self.prompt, bias)


@dataclass(frozen=True)
class Answer:
    """The tokens of an answer, and their log-probabilities."""

    ids: list[int]
    logprobs: list[float]

    @classmethod
    def of_server(cls, completion: dict[str, Any]) -> Answer:
        """What the server wrote."""
        (choice,) = completion["choices"]
        return cls(choice["token_ids"], choice["logprobs"]["token_logprobs"])

    @classmethod
    def of_model(cls, steered: SteeredModel, ask: Ask) -> Answer:
        """What `SteeredModel` writes, one prompt at a time."""
        inputs = steered.inputs_of([ask.read(steered)], left=True)
        made = steered.model.generate(
            **inputs, do_sample=False, max_new_tokens=ask.most,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        ids = made.sequences[0, inputs["input_ids"].shape[1] :]
        logs = torch.stack(made.logits, 1)[0].log_softmax(-1)
        return cls(ids.tolist(), logs.gather(-1, ids[:, None])[:, 0].tolist())

    def distance(self, other: Answer) -> float:
        """Largest difference of the log-probabilities of tokens that both have in one place."""
        pairs = zip(self.logprobs, other.logprobs, strict=False)
        return max(abs(first - second) for first, second in pairs)


def traffic(tokenizer: PreTrainedTokenizerBase, count: int, seed: int = 0) -> list[Ask]:
    """Requests, about half of them with emphasis.

    Some begin with the same long text, some are the same text with the same or another emphasis.
    """
    random = Random(seed)
    stems = [_text(random, 120) for _ in range(4)]
    asks: list[Ask] = []
    while len(asks) < count:
        kind = random.random()
        if asks and kind < 0.2:
            asks.append(_again(random, random.choice(asks)))
        elif kind < 0.5:
            stem = random.choice(stems)
            asks.append(_new(random, f"{stem} {_text(random, random.randint(1, 40))}", tokenizer))
        else:
            asks.append(_new(random, _text(random, random.randint(8, 160)), tokenizer))
    return asks


def _text(random: Random, words: int) -> str:
    return " ".join(random.choices(_WORDS, k=words))


def _new(random: Random, text: str, tokenizer: PreTrainedTokenizerBase) -> Ask:
    ids: list[int] = tokenizer(text)["input_ids"][: random.randint(20, 300)]
    prompt: str | list[int] = tokenizer.decode(ids[1:]) if random.random() < 0.2 else ids
    ask = Ask(prompt, (), None, random.randint(8, 24))
    return _emphasized(random, ask) if random.random() < 0.5 else ask


def _again(random: Random, ask: Ask) -> Ask:
    """The same prompt: as it was, with another emphasis, or without."""
    chosen = random.choice([ask, _emphasized(random, ask), replace(ask, spans=())])
    return replace(chosen, most=random.randint(8, 24))


def _emphasized(random: Random, ask: Ask) -> Ask:
    visible = [
        place
        for place in range(len(ask.prompt))
        if not isinstance(ask.prompt, str) or ask.prompt[place].isalnum()
    ]
    cuts = sorted(random.sample(visible, 2 * random.randint(1, 3)))
    spans: list[Mark] = []
    for start, end in zip(cuts[::2], cuts[1::2], strict=True):
        spans.append([start, end, _alpha(random), None, random.random() < 0.25])
        if end - start > 8 and random.random() < 0.4:
            third = (end - start) // 3
            inner = [start + third, end - third, _alpha(random), None, random.random() < 0.5]
            spans.append(inner)
    return replace(ask, spans=tuple(spans[:3]), alpha=_alpha(random))


def _alpha(random: Random) -> float | None:
    return random.choice([None, 0.001, 0.003, 0.01, 0.05, 0.2, 0.5])
