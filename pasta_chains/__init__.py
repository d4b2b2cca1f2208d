"""Bold for prompts: emphasize text in a template, and a local language model is steered toward it.

The names below are all that most programs need; LangChain's and LlamaIndex's classes are in
`pasta_chains.langchain` and `pasta_chains.llama_index`.
"""

from __future__ import annotations

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
    TaskError,
    UnsupportedModelError,
)
from .profile import HeadProfile
from .spans import STRENGTHS, Span, SpanStr, emphasize
from .substitute import sub
from .template import EmphasizeExtension, Environment, render

if TYPE_CHECKING:
    from .engine import SteeredModel
    from .generation import Generation
    from .shares import AttentionShares

__version__ = "0.1.0"

__all__ = [
    "STRENGTHS",
    "AttentionShares",
    "DocumentError",
    "EmphasisDroppedWarning",
    "EmphasisError",
    "EmphasizeExtension",
    "Environment",
    "Generation",
    "HeadProfile",
    "MissingExtraError",
    "PastaError",
    "ProfileError",
    "PromptError",
    "PromptTooLongError",
    "Span",
    "SpanStr",
    "SteeredModel",
    "TaskError",
    "UnsupportedModelError",
    "emphasize",
    "render",
    "sub",
]


def __getattr__(name: str) -> Any:
    # These need torch and transformers, which take seconds to import.
    if name == "SteeredModel":
        from .engine import SteeredModel

        return SteeredModel
    if name == "Generation":
        from .generation import Generation

        return Generation
    if name == "AttentionShares":
        from .shares import AttentionShares

        return AttentionShares
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
