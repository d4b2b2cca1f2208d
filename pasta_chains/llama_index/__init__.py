"""LlamaIndex: a response synthesizer that emphasizes retrieved text, and what it stands on.

    engine = RetrieverQueryEngine(retriever, EmphasisSynthesizer(llm=PastaLLM(model)))

Spans are computed from the nodes, where they are exact, and travel inside the prompt: as a
`SpanStr` to a completion, as an `EmphasisTextBlock` to a chat.
"""

from __future__ import annotations

from pasta_chains.errors import MissingExtraError

try:
    import llama_index.core  # noqa: F401  (only to say what is missing)
except ImportError as error:
    raise MissingExtraError("llama-index-core", "llama-index") from error

from .agents import EmphasisFunctionAgent
from .engines import (
    EmphasisCitationQueryEngine,
    EmphasisCondensePlusContextChatEngine,
    EmphasisContextChatEngine,
)
from .events import EmphasisEvent
from .llm import PastaLLM
from .messages import EmphasisTextBlock, emphasized_message
from .policies import above_score, facts
from .postprocessor import FactEmphasis
from .prompts import EmphasisPromptTemplate
from .splitting import KeepEmphasis
from .synthesizer import EmphasisSynthesizer

__all__ = [
    "EmphasisCitationQueryEngine",
    "EmphasisCondensePlusContextChatEngine",
    "EmphasisContextChatEngine",
    "EmphasisEvent",
    "EmphasisFunctionAgent",
    "EmphasisPromptTemplate",
    "EmphasisSynthesizer",
    "EmphasisTextBlock",
    "FactEmphasis",
    "KeepEmphasis",
    "PastaLLM",
    "above_score",
    "emphasized_message",
    "facts",
]
