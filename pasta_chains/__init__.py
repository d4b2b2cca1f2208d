"""Bold for prompts: emphasize text in a template, and a local language model is steered toward it.

The names below are all that most programs need; LangChain's and LlamaIndex's classes are in
`pasta_chains.langchain` and `pasta_chains.llama_index`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    DocumentError,
    EmphasisDroppedWarning,
    EmphasisError,
    MissingExtraError,
    PastaError,
    ProfileError,
    PromptError,
    PromptTooLongError,
    ServerError,
    TaskError,
    UnsupportedModelError,
)
from .profile import HeadProfile
from .spans import STRENGTHS, Span, SpanStr, emphasize
from .substitute import sub
from .template import EmphasizeExtension, Environment, render

if TYPE_CHECKING:
    from .emphasis_model import EmphasisModel
    from .engine import SteeredModel
    from .generation import Generation
    from .remote import RemoteModel
    from .shares import AttentionShares

__version__ = "0.1.0"

__all__ = [
    "STRENGTHS",
    "AttentionShares",
    "DocumentError",
    "EmphasisDroppedWarning",
    "EmphasisError",
    "EmphasisModel",
    "EmphasizeExtension",
    "Environment",
    "Generation",
    "HeadProfile",
    "MissingExtraError",
    "PastaError",
    "ProfileError",
    "PromptError",
    "PromptTooLongError",
    "RemoteModel",
    "ServerError",
    "Span",
    "SpanStr",
    "SteeredModel",
    "TaskError",
    "UnsupportedModelError",
    "connect",
    "emphasize",
    "render",
    "sub",
]


# Where the names are that need torch and transformers, which take seconds to import.
_HEAVY = {
    "AttentionShares": "shares",
    "EmphasisModel": "emphasis_model",
    "Generation": "generation",
    "RemoteModel": "remote",
    "SteeredModel": "engine",
}


def connect(base_url: str, api_key: str | None = None, **arguments: Any) -> RemoteModel:
    """Connect to a model on a vLLM server that steers; see `RemoteModel.connect`."""
    from .remote import RemoteModel

    return RemoteModel.connect(base_url, api_key, **arguments)


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(import_module(f".{_HEAVY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
