"""The unsteered model, ours and the peers', as things that run the same work."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from peers import has_pastalib, masked_steering, pastalib_steering, seka_steering
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from work import ALPHA, Batch, Shape, Work, choose_heads

from pasta_chains import HeadProfile, SteeredModel

UNSTEERED = "unsteered, sdpa"
SHARES = {f"pasta-chains, {share:.0%} of heads": share for share in (0.0, 0.05, 0.2, 1.0)}
NONE, FEW, SOME, ALL = SHARES
SEKA = "SEKA-like key editing"
MASKED = "masked sdpa, 5% of heads"
PASTALIB = "pastalib 0.1.3, 5% of heads"
NAMES = (UNSTEERED, NONE, FEW, SOME, ALL, SEKA, MASKED, PASTALIB)

JUDGED = (UNSTEERED, NONE, FEW, ALL)
"""Those that are measured as often as time allows; none at all shows the noise."""

# How many matrices of (rows, heads, tokens, tokens) exist at once: measured, rounded up.
MATRICES = {MASKED: 2, PASTALIB: 8}


@dataclass(frozen=True)
class Variant:
    """One way to run a model.

    Attributes:
        name: One of `NAMES`.
        model: Shares its weights with the others'.
        inputs: What `model.generate` takes for a batch.
        steering: While it is entered the model is steered.
    """

    name: str
    model: LlamaForCausalLM
    inputs: Callable[[Batch], dict[str, Any]]
    steering: Callable[[Batch], AbstractContextManager[Any]] = nullcontext


def make_variant(
    name: str, shape: Shape, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> Variant:
    """One of `NAMES` on the weights of a model, which is left as it is."""
    kept = {id(x): x for x in (*model.parameters(), *model.buffers())}
    own = copy.deepcopy(model, kept)
    if name in SHARES:
        profile = HeadProfile(choose_heads(shape, SHARES[name]), alpha=ALPHA)
        steered = SteeredModel(own, tokenizer, profile)
        return Variant(name, own, lambda batch: steered.inputs(batch.prompts))
    few = choose_heads(shape, SHARES[FEW])
    steering: Callable[[Batch], AbstractContextManager[Any]] = nullcontext
    if name == SEKA:
        steering = lambda batch: seka_steering(own, batch)  # noqa: E731  (a field's value)
    elif name == MASKED:
        steering = lambda batch: masked_steering(own, few, batch)  # noqa: E731  (a field's value)
    elif name == PASTALIB:
        own.set_attn_implementation("eager")
        steering = lambda batch: pastalib_steering(own, tokenizer, few, batch)  # noqa: E731  (a field's value)
    return Variant(name, own, lambda batch: dict(batch.inputs), steering)


def why_not(name: str, shape: Shape, work: Work, most_bytes: float) -> str | None:
    """Why a variant cannot run some work here; None when it can."""
    if name == PASTALIB and not has_pastalib():
        return "not measured: not installed"
    item = 2 if shape.dtype in ("bfloat16", "float16") else 4
    needed = MATRICES.get(name, 0) * work.rows * shape.heads * work.tokens**2 * item
    if shape.device == "cpu" and needed > most_bytes:
        return f"not measured: needs about {needed / 1e9:.0f} GB"
    return None
