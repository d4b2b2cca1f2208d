"""Other ways to steer, to compare with: pastalib, a masked sdpa, and SEKA's editing of keys."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from work import ALPHA, Batch

from pasta_chains.cache import given_cache

Heads = Mapping[int, tuple[int, ...]]


def has_pastalib() -> bool:
    """Whether pastalib is installed."""
    return importlib.util.find_spec("pastalib") is not None


def import_pastalib() -> Any:
    """Import pastalib 0.1.3, which needs `datasets` for its type hints but does not ask for it."""
    assert has_pastalib(), "pip install --no-deps pastalib==0.1.3"
    stands_in = importlib.util.find_spec("datasets") is None
    if stands_in:
        module = ModuleType("datasets")
        module.__spec__ = ModuleSpec("datasets", None)
        module.arrow_dataset = SimpleNamespace(Dataset=type("Dataset", (), {}))  # type: ignore[attr-defined]  # a stand-in
        module.dataset_dict = SimpleNamespace(DatasetDict=type("DatasetDict", (), {}))  # type: ignore[attr-defined]  # a stand-in
        sys.modules["datasets"] = module
    try:
        from pastalib import pasta
    finally:
        if stands_in:
            del sys.modules["datasets"]
    return pasta


@contextmanager
def pastalib_steering(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, heads: Heads, batch: Batch
) -> Iterator[None]:
    """pastalib, called as its README calls it. The model's attention must be eager."""
    steerer = import_pastalib().PASTA(
        model,
        tokenizer,
        head_config={layer: list(chosen) for layer, chosen in heads.items()},
        alpha=ALPHA,
        scale_position="exclude",
    )
    texts = [str(prompt) for prompt in batch.prompts]
    marked = [
        str(prompt)[span.start : span.end] for prompt in batch.prompts for span in prompt.spans
    ]
    with steerer.apply_steering(model, texts, marked, batch.inputs, batch.offsets):
        yield


@contextmanager
def masked_steering(model: LlamaForCausalLM, heads: Heads, batch: Batch) -> Iterator[None]:
    """A float mask of each head in each steered layer, on the sdpa kernel.

    What AISteer360 does before each layer (its `PASTA._attention_pre_hook`), with two corrections:
    a mask of booleans keeps its meaning, and decoding is steered, too.
    """
    prompt = batch.inputs["input_ids"].shape[1]
    count = model.config.num_attention_heads

    def give_mask(
        module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden = kwargs["hidden_states"]
        seen = given_cache(kwargs).get_seq_length(module.layer_idx)
        mask = _mask_to_add(kwargs["attention_mask"], hidden, seen)
        mask = mask.expand(len(hidden), count, -1, -1).clone()
        outside = torch.where(batch.emphasized, 0.0, math.log(ALPHA)).to(mask.dtype)
        for head in heads[module.layer_idx]:
            mask[:, head, :, :prompt] += outside[:, None]
        return args, {**kwargs, "attention_mask": mask}

    with ExitStack() as hooks:
        for layer in heads:
            attention = model.model.layers[layer].self_attn
            hook = attention.register_forward_pre_hook(give_mask, with_kwargs=True)
            hooks.callback(hook.remove)
        yield


def _mask_to_add(mask: Tensor | None, hidden: Tensor, seen: int) -> Tensor:
    """A mask of booleans, or causality, as a float mask: (rows or 1, 1, queries, keys)."""
    queries = hidden.shape[1]
    if mask is None:
        shape = (1, 1, queries, seen + queries)
        mask = torch.ones(shape, dtype=torch.bool, device=hidden.device).tril(seen)
    # Not -inf: rows of padding would become NaN.
    return torch.where(mask, 0.0, torch.finfo(hidden.dtype).min).to(hidden.dtype)


@contextmanager
def seka_steering(model: LlamaForCausalLM, batch: Batch) -> Iterator[None]:
    """Key editing like SEKA's (arXiv 2603.01281): k' = k + g P k for the emphasized tokens.

    Written for this benchmark: all layers and key-value heads, vectorized, with random projections
    of a quarter of the rank. It is other steering than PASTA's; its cost is what is compared.
    """
    config = model.config
    size = config.head_dim
    shape = (config.num_key_value_heads, size, max(1, size // 4))
    marked = batch.emphasized

    def edit_keys(projection: Tensor) -> Any:
        def edit(module: nn.Module, args: tuple[Any, ...], keys: Tensor) -> Tensor | None:
            if keys.shape[:2] != marked.shape:
                return None  # decoding
            edited = keys.clone()
            chosen = keys[marked].float().view(-1, shape[0], size)
            chosen = chosen + torch.einsum("nhd,hde->nhe", chosen, projection)
            edited[marked] = chosen.flatten(1).to(keys.dtype)
            return edited

        return edit

    generator = torch.Generator().manual_seed(0)
    with ExitStack() as hooks:
        for layer in model.model.layers:
            basis = torch.linalg.qr(torch.randn(shape, generator=generator)).Q.to(marked.device)
            hook = layer.self_attn.k_proj.register_forward_hook(
                edit_keys(basis @ basis.transpose(-1, -2))
            )
            hooks.callback(hook.remove)
        yield
