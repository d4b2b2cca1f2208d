"""PASTA by its definition, for models that take no attention function from outside.

A model runs its own code, one row at a time and without cache, while the test stands in for
torch's softmax and scaled dot-product attention: they add the bias to the logits of the heads, and
nothing else changes. It shares no code with the package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Heads = Mapping[int, Sequence[int]]


def logits(
    model: PreTrainedModel,
    heads: Heads,
    rows: Sequence[Sequence[int]],
    biases: Sequence[Sequence[float]],
) -> list[Tensor]:
    """The logits after each token of each row.

    Args:
        model: One that was never steered.
        heads: For each layer, the steered heads.
        rows: Tokens of each row.
        biases: Bias of the first tokens of each row.
    """
    results = []
    for ids, bias in zip(rows, biases, strict=True):
        with torch.no_grad(), _biased(heads, bias) as layers:
            results.append(model(torch.tensor([list(ids)]), use_cache=False).logits[0])
        assert len(layers) == model.config.get_text_config().num_hidden_layers
    return results


def sequences(
    model: PreTrainedModel,
    heads: Heads,
    ids: Sequence[int],
    bias: Sequence[float],
    **arguments: Any,
) -> list[list[int]]:
    """What `generate` writes after one prompt, without cache.

    Guidance also runs the model on what was written alone: it is shorter than the prompt, and read
    as it is.
    """
    rows = torch.tensor([list(ids)])
    with torch.no_grad(), _biased(heads, bias, model.config.num_hidden_layers):
        written = model.generate(
            rows, attention_mask=torch.ones_like(rows), use_cache=False, **arguments
        )
    return written[:, len(ids) :].tolist()


def weights(
    model: PreTrainedModel, heads: Heads, ids: Sequence[int], bias: Sequence[float]
) -> list[Tensor]:
    """What each layer of a model with eager attention reads: (heads, queries, keys)."""
    with torch.no_grad(), _biased(heads, bias) as layers:
        output = model(torch.tensor([list(ids)]), use_cache=False, output_attentions=True)
    assert len(layers) == len(output.attentions)
    return [one[0] for one in output.attentions]


@contextmanager
def _biased(heads: Heads, bias: Sequence[float], depth: int = 10**9) -> Iterator[list[int]]:
    """While it lasts, the n-th attention is that of layer n, modulo the depth of the model.

    Yields the layers that had theirs.
    """
    layers: list[int] = []
    softmax, attend = nn.functional.softmax, nn.functional.scaled_dot_product_attention

    def biased(scores: Tensor) -> Tensor:
        layer = len(layers) % depth
        layers.append(layer)
        scores = scores.clone()
        rows = len(scores) if scores.dim() > 3 else 1
        by_head = scores.view(rows, -1, *scores.shape[-2:])
        if scores.shape[-1] >= len(bias):
            for head in heads.get(layer, ()):
                by_head[:, head, :, : len(bias)] += torch.tensor(bias, dtype=scores.dtype)
        return scores

    def our_softmax(scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        is_attention = scores.dim() > 2 and scores.shape[-1] - scores.shape[-2] in (0, 1)  # a sink
        return softmax(biased(scores) if is_attention else scores, *args, **kwargs)

    def our_attention(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = query @ key.transpose(-1, -2) * (kwargs.get("scale") or query.shape[-1] ** -0.5)
        if kwargs.get("is_causal"):
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        elif attn_mask is not None:
            scores = scores + attn_mask
        return softmax(biased(scores), -1) @ value

    nn.functional.softmax = our_softmax
    nn.functional.scaled_dot_product_attention = our_attention
    try:
        yield layers
    finally:
        nn.functional.softmax = softmax
        nn.functional.scaled_dot_product_attention = attend
