"""Cached blocks of keys know the emphasis of their tokens, so that no other request gets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..wire import KEY
from .weights import Weights

_WEIGHTS = "pasta_chains_weights"

Keys = tuple[Any, ...] | None


def with_emphasis(original: Callable[..., tuple[Keys, int]]) -> Callable[..., tuple[Keys, int]]:
    """Wraps `generate_block_hash_extra_keys`.

    A block whose tokens all have weight 1 has no key more than in vLLM: what stands before the
    first emphasized token is shared with requests without emphasis. What stands after it is not,
    for a block's hash takes in those of the blocks before it.
    """

    def generate_block_hash_extra_keys(
        request: Any, start_token_idx: int, end_token_idx: int, start_mm_idx: int
    ) -> tuple[Keys, int]:
        keys, mm_idx = original(request, start_token_idx, end_token_idx, start_mm_idx)
        told = getattr(request.sampling_params, "extra_args", None)
        if told and KEY in told:
            weights = getattr(request, _WEIGHTS, None)
            if weights is None:  # read once for all blocks of a request
                weights = Weights.load(told[KEY])
                setattr(request, _WEIGHTS, weights)
            runs = weights.between(start_token_idx, end_token_idx)
            if runs:
                keys = (*(keys or ()), (KEY, (weights.profile, *runs)))
        return keys, mm_idx

    return generate_block_hash_extra_keys
