"""Measures how much of its attention each head gives to the emphasized text.

The weights are computed from the queries and keys that each layer gives to its attention function,
for a few queries at a time: a matrix of all queries and keys is never made here. What takes them is
an argument of `forward`, like the steering itself, so nothing is stored on the model.

Models of the types in `adapters` do not call our attention function. They read the few queries that
matter after their cache of all others, and return the weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_mask
from transformers import PreTrainedTokenizerBase

from .adapters import adapter_of
from .arithmetic import Steering, biased_mask
from .attention import BIAS, HEADS, WATCH
from .cache import cache_name, given_cache
from .errors import PromptError, UnsupportedModelError
from .prompts import TokenizedPrompt
from .shares import AttentionShares
from .spans import Span
from .tokens import token_spans

_AT_ONCE = 16
"""Number of queries whose weights exist at a time."""

_ByLayer = dict[int, Tensor]
"""For each layer the shares of each span: (spans, heads, queries), on the CPU."""


@torch.no_grad()
def measure_shares(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompt: TokenizedPrompt,
    inputs: Mapping[str, Any],
    new_tokens: int,
    *,
    profiled: bool,
) -> AttentionShares:
    """Let a model answer a prompt, and measure what it reads for that with and without steering.

    Args:
        model: One that was made steerable.
        tokenizer: Its tokenizer.
        prompt: What it reads.
        inputs: The same as one row of tensors, with the steering if anything is steered.
        new_tokens: Longest answer, at least 1.
        profiled: Whether the model has a head profile; without one there is no steered share.

    Raises:
        PromptError: Nothing is emphasized.
        UnsupportedModelError: The model does not show its attention.
    """
    spans = _emphasized(prompt)
    owners = token_spans(prompt.text, prompt.offsets)
    marks = torch.tensor([[float(owner is span) for owner in owners] for span in spans])
    returns = _returns_weights(model)
    ids = model.generate(
        **inputs, max_new_tokens=new_tokens, do_sample=False, num_beams=1, num_return_sequences=1,
        return_dict_in_generate=False,
    )  # fmt: skip
    answer = ids[0, len(prompt.ids) :]
    text = str(tokenizer.decode(answer, skip_special_tokens=True))
    read = _returned if returns else _watched

    def shares(steering: dict[str, Any]) -> _ByLayer:
        # The last token that was written is not read any more.
        return read(model, ids[:, :-1], len(answer), marks, steering)

    plain = shares({})
    steered = plain if profiled else None
    if HEADS in inputs:
        steered = shares({name: inputs[name] for name in (BIAS, HEADS)})
    return AttentionShares.of_layers(prompt.text, spans, text, plain, steered)


def attention_weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | BlockMask | None,
    steering: Steering | None,
    arguments: Mapping[str, Any],
    wanted: slice,
) -> Tensor:
    """The attention weights of some queries, as the definition has them: softmax(s + b).

    Args:
        query: Shape (rows, heads, queries, head size); all queries of a call.
        key: Shape (rows, key-value heads, keys, head size).
        mask: What the mask function of any kernel made.
        steering: Bias and heads; None when no head is steered.
        arguments: What transformers passes to the kernel.
        wanted: Which queries.

    Returns:
        Shape (rows, heads, wanted queries, keys), in float32 at least. With an attention sink a
        row sums to less than 1: the sink has the rest.
    """
    mask = _of_queries(mask, query, key, arguments, wanted)
    bias = arguments.get("position_bias")
    sinks = arguments.get("s_aux") if arguments.get("s_aux") is not None else arguments.get("sinks")
    scaling = arguments.get("scaling") or query.shape[-1] ** -0.5
    keys, wide = key.shape[2], torch.promote_types(key.dtype, torch.float32)
    if steering is None:
        steering = Steering(key.new_zeros((query.shape[0], keys), dtype=wide), ())
    query = query[:, :, wanted]
    rows, heads, queries, size = query.shape
    # The query heads that share a key are queries of it, so keys are not repeated.
    together = (query.to(wide) * scaling).reshape(rows, key.shape[1], -1, size)
    logits = (together @ key.to(wide).transpose(-1, -2)).view(rows, heads, queries, keys)
    if arguments.get("softcap"):
        logits = (logits / arguments["softcap"]).tanh() * arguments["softcap"]
    if bias is not None:
        logits = logits + (bias[..., wanted, :keys] if bias.shape[-2] > 1 else bias[..., :keys])
    logits = logits + biased_mask(mask, steering, query, key)
    if sinks is not None:  # one more key of each head, which has no value
        sinks = sinks.view(1, -1, 1, 1) if sinks.dim() == 1 else sinks[:, :, wanted]
        logits = torch.cat([logits, sinks.to(wide).expand(rows, heads, queries, 1)], -1)
    weights: Tensor = logits.softmax(-1)
    return weights[..., :keys]


def _of_queries(
    mask: Tensor | BlockMask | None,
    query: Tensor,
    key: Tensor,
    arguments: Mapping[str, Any],
    wanted: slice,
) -> Tensor:
    """Some rows of a mask, (rows or 1, heads or 1, wanted queries, keys), whatever its kind."""
    queries, keys = query.shape[2], key.shape[2]
    if isinstance(mask, Tensor) and mask.dim() == 4:
        return mask[:, :, wanted] if mask.shape[2] > 1 else mask
    if isinstance(mask, BlockMask):
        first, count = wanted.start, wanted.stop - wanted.start
        sees = mask.mask_mod

        def from_first(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return sees(row, head, query + first, key)

        return create_mask(from_first, query.shape[0], 1, count, keys, device=str(key.device))
    # Kernels that have no such mask: causal, with a window and padding where there are any.
    numbers = torch.arange(keys, device=key.device)
    behind = numbers[keys - queries :][wanted, None] - numbers
    seen = behind >= 0
    if arguments.get("sliding_window"):
        seen &= behind < arguments["sliding_window"]
    return seen[None, None] if mask is None else seen & mask[:, None, None, :keys].bool()


class _Watch:
    """Takes the shares of the last queries of each layer, as the attention function shows it.

    Args:
        marks: Shape (spans, prompt tokens): 1 where a token belongs to a span, else 0.
        queries: How many are measured.
    """

    def __init__(self, marks: Tensor, queries: int) -> None:
        self.marks = marks
        self.queries = queries
        self.shares: _ByLayer = {}

    def __call__(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        mask: Tensor | BlockMask | None,
        steering: Steering | None,
        arguments: Mapping[str, Any],
    ) -> None:
        end = query.shape[2]
        parts = []
        for first in range(end - self.queries, end, _AT_ONCE):
            some = slice(first, min(first + _AT_ONCE, end))
            weights = attention_weights(query, key, mask, steering, arguments, some)
            parts.append(_shares(weights, self.marks))
        # A layer that a model goes through several times shows its last pass.
        self.shares[layer] = torch.cat(parts, -1)


def _shares(weights: Tensor, marks: Tensor, seen: int | None = None) -> Tensor:
    """The weights of one row, (1, heads, queries, keys), summed over each span."""
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    own = Steering.of_keys(marks, (), weights.transpose(2, 3), seen).bias
    return torch.einsum("hqk,sk->shq", weights[0], own).cpu()


def _watched(
    model: Any, ids: Tensor, queries: int, marks: Tensor, steering: Mapping[str, Any]
) -> _ByLayer:
    """Shares of the last queries, from one call without a cache."""
    if not steering:
        # Layers whose arguments a hook hands on get them only beside a bias.
        steering = {BIAS: torch.zeros((1, 1), device=ids.device), HEADS: defaultdict(tuple)}
    watch = _Watch(marks, queries)
    few = {"logits_to_keep": 1} if model._supports_logits_to_keep() else {}
    there = torch.ones_like(ids)
    model(ids, attention_mask=there, use_cache=False, **few, **steering, **{WATCH: watch})
    return dict(sorted(watch.shares.items()))


def _returned(
    model: Any, ids: Tensor, queries: int, marks: Tensor, steering: Mapping[str, Any]
) -> _ByLayer:
    """Shares of the last queries, from the weights that a model returns for a few at a time."""
    there = torch.ones_like(ids)
    first, end = ids.shape[1] - queries, ids.shape[1]
    cache = None
    if first:
        before = {"attention_mask": there[:, :first], "use_cache": True}
        cache = given_cache(model(ids[:, :first], **before, **steering))
    parts: defaultdict[int, list[Tensor]] = defaultdict(list)
    for start in range(first, end, _AT_ONCE):
        seen = min(start + _AT_ONCE, end)
        output = model(
            ids[:, start:seen], attention_mask=there[:, :seen], **{cache_name(model): cache},
            use_cache=True, output_attentions=True, **steering,
        )  # fmt: skip
        cache = given_cache(output)
        for layer, weights in enumerate(output.attentions):
            parts[layer].append(_shares(weights, marks, seen))
    return {layer: torch.cat(some, -1) for layer, some in parts.items()}


def _returns_weights(model: Any) -> bool:
    """Whether a model returns its weights rather than show its queries and keys.

    Raises:
        UnsupportedModelError: It does neither.
    """
    adapter = adapter_of(model)
    if adapter is None or adapter.way == "pass on":
        return False
    kernel = model.config.get_text_config()._attn_implementation
    if kernel == "eager":
        return True
    way_out = "Load it with attn_implementation='eager'." if "eager" in adapter.kernels else (
        "It can be steered, but not inspected."
    )  # fmt: skip
    raise UnsupportedModelError(
        f"{type(model).__name__} shows no attention weights on {kernel} attention. {way_out}"
    )


def _emphasized(prompt: TokenizedPrompt) -> list[Span]:
    spans = [span for span in prompt.text.spans if not span.deemphasized]
    if not spans:
        raise PromptError(
            "The prompt emphasizes no text, so there is no attention on it to measure. Emphasize "
            "the text in question; with alpha=1 a span is measured and not steered."
        )
    return spans
