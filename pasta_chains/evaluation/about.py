"""What a model's answers depend on besides the prompts."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from .. import __version__
from ..engine import SteeredModel

_SAMPLED = 1024
"""Numbers of every weight that are looked at one by one."""

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integers by their bytes: their sums are the same in any order."""


def about_run(model: SteeredModel) -> dict[str, Any]:
    """The model's name, weights and configuration, how it reads prompts, and versions."""
    tokenizer, config = model.tokenizer, model.model.generation_config.to_dict()
    config.pop("transformers_version", None)
    return {
        "model": name_of(model),
        "revision": getattr(model.model.config, "_commit_hash", None),
        "weights": _digest(*map(_fingerprint, model.model.named_parameters())),
        "tokenizer": _digest(tokenizer.backend_tokenizer.to_str(), str(tokenizer.chat_template)),
        "generation_config": _digest(json.dumps(config, sort_keys=True, default=str)),
        "control_tokens": model.control_tokens,
        "dtype": str(model.model.dtype),
        "device": model.model.device.type,
        "pasta_chains": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def name_of(model: SteeredModel) -> str:
    """The model's name; of a folder, its last part: where it lies on this machine is no name."""
    is_folder = model.name and Path(model.name).is_dir()
    return Path(model.name).resolve().name if is_folder else model.name


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _fingerprint(named: tuple[str, Tensor]) -> str:
    """A weight's name and shape, the sum of all its bits, and some of its numbers."""
    name, weight = named[0], named[1].detach()
    about = f"{name} {tuple(weight.shape)} {weight.dtype}"
    if weight.is_meta:  # its numbers are on disk
        return about
    bits = weight.flatten().view(_INTEGERS[weight.element_size()])
    some = bits[:: max(len(bits) // _SAMPLED, 1)]
    return f"{about} {bits.sum(dtype=torch.int64).item()} {some.tolist()}"
