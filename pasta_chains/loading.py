"""Loads a model and its tokenizer with transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .errors import UnsupportedModelError

_HUB_ARGUMENTS = (
    *("cache_dir", "local_files_only", "revision", "subfolder", "token", "trust_remote_code"),
)


def load_pretrained(
    name_or_path: str | Path, **arguments: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load what `AutoModelForCausalLM` and `AutoTokenizer` find.

    Args:
        name_or_path: A local folder or a name on the Hugging Face hub.
        **arguments: For the model; those that say where it comes from, for the tokenizer too.

    Raises:
        UnsupportedModelError: There is no such model, or it cannot have the attention asked for.
    """
    shared = {name: value for name, value in arguments.items() if name in _HUB_ARGUMENTS}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, **shared)
        model = AutoModelForCausalLM.from_pretrained(name_or_path, **arguments)
    except Exception as error:  # whatever is wrong with the files, the user must learn which
        raise UnsupportedModelError(
            f"The model {str(name_or_path)!r} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return model, tokenizer
