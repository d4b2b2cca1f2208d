"""A model's key cache: transformers calls it `past_key_values`, and since 5.24 `cache`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

_NAMES = ("cache", "past_key_values")


def cache_name(model: Any) -> str:
    """What a model's forward calls the cache that it is given."""
    taken = inspect.signature(model.forward).parameters
    return next((name for name in _NAMES if name in taken), _NAMES[-1])


def given_cache(arguments: Mapping[str, Any]) -> Any:
    """The cache among the arguments of a forward, or in what it returned; None without."""
    return next((arguments[name] for name in _NAMES if arguments.get(name) is not None), None)
