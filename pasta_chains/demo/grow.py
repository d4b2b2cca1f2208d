"""Grows a trained model without changing what it computes: wider, deeper, heads twice as large.

Whatever is new reads at random and writes nothing at first, so training goes on from where the
smaller model was (as Net2Net does, Chen et al., arXiv 1511.05641).
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

_STD = 0.02


def grow(small: LlamaForCausalLM, large: LlamaForCausalLM, *, new_layer: int) -> None:
    """Give a new model the function of a trained one.

    Args:
        small: The trained model.
        large: A new model with as many heads, each twice as large, and one layer more; its
            weights are overwritten.
        new_layer: Which layer of the large model is the new one.
    """
    old, new = small.config, large.config
    head = old.head_dim or old.hidden_size // old.num_attention_heads
    if (new.num_hidden_layers, new.head_dim) != (old.num_hidden_layers + 1, 2 * head):
        raise ValueError("The large model must have one layer more, and heads twice as large.")
    source = small.state_dict()
    narrow = (old.hidden_size / new.hidden_size) ** 0.5
    with torch.no_grad():
        for name, weight in large.state_dict().items():
            torch.nn.init.normal_(weight, std=_STD)
            layer = int(name.split(".")[2]) if ".layers." in name else -1
            if layer == new_layer:
                _quiet(name, weight)
                continue
            was = name.replace(f".{layer}.", f".{layer - 1}.") if layer > new_layer else name
            _copy(name, source[was], weight, head, narrow)


def _quiet(name: str, weight: Tensor) -> None:
    """A layer that adds nothing yet."""
    if "norm" in name:
        weight.fill_(1.0)
    elif "o_proj" in name or "down_proj" in name:
        weight.zero_()


def _copy(name: str, source: Tensor, target: Tensor, head: int, narrow: float) -> None:
    """Put a trained weight into its place in a larger one.

    The new channels of the hidden state stay zero, so a norm sees a smaller mean square: its
    weights shrink by `narrow`.
    """
    if "norm" in name:
        target.fill_(narrow)
        target[: len(source)] = source * narrow
        return
    rows, columns = torch.arange(source.shape[0]), torch.arange(source.shape[1])
    if "q_proj" in name or "k_proj" in name:
        rows = _rotated(rows, head)
    elif "v_proj" in name:
        rows = _spread(rows, head)
    elif "o_proj" in name:
        columns = _spread(columns, head)
    if "q_proj" in name:
        source = source * 2**0.5  # scores are divided by the root of a head's size
    elif "gate_proj" not in name:
        target.index_fill_(0, _others(rows, len(target)), 0.0)
    if "embed" in name or "lm_head" in name:
        target.zero_()
    target[rows[:, None], columns] = source


def _spread(index: Tensor, head: int) -> Tensor:
    """Place of a channel when it is in the first half of a head twice as large."""
    return index // head * 2 * head + index % head


def _rotated(index: Tensor, head: int) -> Tensor:
    """Place of a channel that rotates as fast as before: speeds of new channels lie between."""
    return index // head * 2 * head + index % head * 2


def _others(index: Tensor, size: int) -> Tensor:
    return torch.tensor(sorted(set(range(size)) - set(index.tolist())), dtype=torch.long)
