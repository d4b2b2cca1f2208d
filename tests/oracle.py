"""PASTA by its definition, to compare with: eager attention, one explicit mask for each head.

Written from the definition alone: softmax(s + b) v, with b = log w - max(log w) for each prompt
token and 0 for generated ones. It shares no code with the package.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

Marks = Sequence[tuple[int, int, float]]
"""Emphasized ranges (start, end, alpha), outer before inner; a negative alpha deemphasizes."""


def bias_of(text: str, marks: Marks, offsets: Sequence[tuple[int, int]]) -> list[float]:
    """The bias of each token, from a weight for each character."""
    weights: list[float] = []
    for start, end in offsets:
        weight = 1.0
        for first, last, alpha in marks:
            if any(first <= i < last and not text[i].isspace() for i in range(start, end)):
                weight = 1 / alpha if alpha > 0 else -alpha
        weights.append(weight)
    strongest = max(weights)
    return [math.log(weight) - math.log(strongest) for weight in weights]


def as_defined(
    model: PreTrainedModel, heads: Mapping[int, Sequence[int]], biases: Sequence[Sequence[float]]
) -> PreTrainedModel:
    """A copy of a model that reads each row of a batch with a bias on its first tokens."""
    plain = copy.deepcopy(model)
    for inherited in ("_validate_model_kwargs", "_get_candidate_generator"):
        vars(plain).pop(inherited, None)
    plain._forward_pre_hooks.clear()
    bias = torch.tensor(biases)
    seen: list[int] = []

    def count(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("cache", kwargs.get("past_key_values"))
        ids = args[0] if args else kwargs["input_ids"]
        # Layers without attention may count nothing.
        layers = [one for one in getattr(cache, "layers", ()) if hasattr(one, "get_seq_length")]
        counts = [
            int(one.get_seq_length()) for one in (*layers, *([] if cache is None else [cache]))
        ]
        seen[:] = [ids.shape[1] + max(counts, default=0)]

    def attend(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = query @ key.transpose(-1, -2) * kwargs["scaling"]
        if kwargs.get("softcap"):
            scores = (scores / kwargs["softcap"]).tanh() * kwargs["softcap"]
        if kwargs.get("position_bias") is not None:
            scores = scores + kwargs["position_bias"]
        keys = key.shape[2]
        if attention_mask is not None:
            scores = scores + attention_mask[..., :keys]
        # Guidance also runs the model on what was written alone, which is to be read as it is.
        if seen[0] >= bias.shape[1]:
            first = max(seen[0] - keys, 0)  # a window has lost the first ones
            # Attention without a layer number reads no tokens: Inkling 2's, over its own layers.
            for head in heads.get(getattr(module, "layer_idx", None), ()):
                own = bias[:, None, first : first + keys]
                scores[:, head, :, : own.shape[2]] += own
        sinks = kwargs.get("s_aux") if kwargs.get("s_aux") is not None else kwargs.get("sinks")
        if sinks is not None:  # one more key for each head, which has no value
            sinks = sinks.reshape(1, -1, 1, 1) if sinks.dim() == 1 else sinks
            scores = torch.cat([scores, sinks.expand(*scores.shape[:-1], 1)], -1)
        weights = nn.functional.softmax(scores, -1)[..., :keys]
        return (weights @ value).transpose(1, 2).contiguous(), None

    plain.register_forward_pre_hook(count, with_kwargs=True)
    AttentionMaskInterface.register("oracle", eager_mask)
    AttentionInterface.register("oracle", attend)
    plain.set_attn_implementation("oracle")
    return plain


def logits(
    model: PreTrainedModel,
    heads: Mapping[int, Sequence[int]],
    rows: Sequence[Sequence[int]],
    biases: Sequence[Sequence[float]],
) -> list[Tensor]:
    """The logits after each token of each row, computed for one row at a time, without cache."""
    results = []
    for ids, bias in zip(rows, biases, strict=True):
        plain = as_defined(model, heads, [bias])
        with torch.no_grad():
            results.append(plain(torch.tensor([list(ids)]), use_cache=False).logits[0])
    return results


def sequences(
    model: PreTrainedModel,
    heads: Mapping[int, Sequence[int]],
    ids: Sequence[int],
    bias: Sequence[float],
    **arguments: Any,
) -> list[list[int]]:
    """What `generate` writes after one prompt, computed without cache or kernel."""
    plain = as_defined(model, heads, [bias])
    rows = torch.tensor([list(ids)])
    written = plain.generate(
        rows, attention_mask=torch.ones_like(rows), use_cache=False, **arguments
    )
    return written[:, len(ids) :].tolist()
