"""What is measured: a random model of a given shape, and prompts of a given length."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pasta_chains import SpanStr, emphasize

SHARE_EMPHASIZED = 0.05
ALPHA = 0.01
_PAD = "pad"


@dataclass(frozen=True)
class Shape:
    """A model like Llama: grouped-query attention, gated MLP, rotary positions."""

    layers: int = 8
    hidden: int = 896
    heads: int = 14
    kv_heads: int = 2
    intermediate: int = 2432
    vocabulary: int = 8192
    dtype: str = "float32"
    device: str = "cpu"

    def describe(self) -> str:
        """In words."""
        return (
            f"{self.layers} layers, hidden size {self.hidden}, {self.heads} heads of "
            f"{self.hidden // self.heads} with {self.kv_heads} key-value heads, intermediate size "
            f"{self.intermediate}, vocabulary {self.vocabulary}, {self.dtype} on {self.device}"
        )

    @property
    def weight_bytes(self) -> int:
        """Size of the model's weights."""
        attention = 2 * self.hidden * (self.hidden + self.hidden // self.heads * self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        count = self.layers * layer + self.vocabulary * self.hidden + self.hidden
        return count * getattr(torch, self.dtype).itemsize


QWEN3_8B = Shape(36, 4096, 32, 8, 12288, 151936, "bfloat16", "cuda")
"""The shape that SEKA's paper measures time and memory with."""


@dataclass(frozen=True)
class Work:
    """A batch of random prompts, of which one span each is emphasized.

    Attributes:
        tokens: Length of the longest prompt.
        rows: Number of prompts.
        padded: Whether the other prompts are shorter, down to half as long.
        decode: Number of tokens to write.
    """

    tokens: int
    rows: int = 1
    padded: bool = False
    decode: int = 1

    def describe(self) -> str:
        """In words."""
        if self.rows == 1:
            return f"{self.tokens:,} tokens"
        lengths = f"{self.tokens // 2:,} to {self.tokens:,}" if self.padded else f"{self.tokens:,}"
        return f"{self.rows} prompts of {lengths} tokens{', left-padded' if self.padded else ''}"

    def lengths(self) -> list[int]:
        """Number of tokens of each prompt."""
        if not self.padded or self.rows == 1:
            return [self.tokens] * self.rows
        step = self.tokens // 2 / (self.rows - 1)
        return [self.tokens - round(row * step) for row in range(self.rows)]


@dataclass(frozen=True)
class Batch:
    """The prompts of some work, for each who reads them in their own way.

    Attributes:
        prompts: Texts that know their emphasis.
        inputs: `input_ids` and `attention_mask`, left-padded.
        offsets: For each token its characters; (0, 0) for padding.
        emphasized: For each token whether it is; (rows, tokens) of booleans.
    """

    prompts: list[SpanStr]
    inputs: dict[str, Tensor]
    offsets: list[list[tuple[int, int]]]
    emphasized: Tensor


def make_model(shape: Shape) -> LlamaForCausalLM:
    """A model of random weights, the same each time."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=1 << 17,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        dtype=getattr(torch, shape.dtype),
        # Attention as sharp as a trained model's, so that steering moves the logits.
        initializer_range=3 / shape.hidden**0.5,
    )
    with torch.device(shape.device):
        model = LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    return model.eval()


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token for each word: "pad", "w1", "w2", …."""
    words = {_PAD: 0, **{f"w{number}": number for number in range(1, vocabulary)}}
    made = Tokenizer(models.WordLevel(words, unk_token=_PAD))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=_PAD, padding_side="left")


def make_batch(work: Work, tokenizer: PreTrainedTokenizerFast, device: str) -> Batch:
    """The prompts of some work, the same each time."""
    chance = random.Random(0)
    prompts, first_tokens = [], []
    for length in work.lengths():
        words = [f"w{chance.randrange(1, len(tokenizer))}" for _ in range(length)]
        count = max(1, round(length * SHARE_EMPHASIZED))
        first = (length - count) // 2
        parts = (words[:first], words[first : first + count], words[first + count :])
        before, marked, after = (" ".join(part) for part in parts)
        prompts.append(SpanStr(f"{before} ") + emphasize(marked) + f" {after}")
        first_tokens.append((work.tokens - length + first, count))
    read: Any = tokenizer(
        [str(prompt) for prompt in prompts],
        return_tensors="pt",
        padding=True,
        return_offsets_mapping=True,
    )
    assert read["input_ids"].shape == (work.rows, work.tokens)
    inputs = {name: read[name].to(device) for name in ("input_ids", "attention_mask")}
    offsets = [[(start, end) for start, end in row] for row in read["offset_mapping"].tolist()]
    return Batch(prompts, inputs, offsets, _marked(first_tokens, inputs["input_ids"]))


def _marked(spans: Sequence[tuple[int, int]], ids: Tensor) -> Tensor:
    marked = torch.zeros_like(ids, dtype=torch.bool)
    for row, (first, count) in enumerate(spans):
        marked[row, first : first + count] = True
    return marked


def choose_heads(shape: Shape, share: float) -> dict[int, tuple[int, ...]]:
    """A share of all heads, drawn by chance over all layers, as a profile might have them."""
    every = [(layer, head) for layer in range(shape.layers) for head in range(shape.heads)]
    count = max(round(share * len(every)), 1 if share else 0)
    chosen = random.Random(0).sample(every, count)
    layers = sorted({layer for layer, _ in chosen})
    return {layer: tuple(sorted(h for at, h in chosen if at == layer)) for layer in layers}
