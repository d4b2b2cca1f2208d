"""What LlamaIndex's instrumentation is told of emphasis."""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher

from pasta_chains.prompts import Prompt
from pasta_chains.spans import SpanStr

_events = get_dispatcher(__name__)


class EmphasisEvent(BaseEvent):
    """A model is asked something with emphasis.

    LlamaIndex's own event of a completion holds the prompt's characters alone; this one follows it,
    under the same span id.

    Attributes:
        texts: Those of the prompt that have emphasis, each `{"role", "text", "spans"}`; the role is
            None where the prompt is no chat.
    """

    texts: list[dict[str, Any]]

    @classmethod
    def class_name(cls) -> str:
        """Name of this class in serialized form."""
        return "EmphasisEvent"


def tell_emphasis(prompt: Prompt) -> None:
    """Tell of the emphasis of a prompt, if it has some."""
    parts: list[tuple[Any, Any]]
    if isinstance(prompt, str):
        parts = [(None, prompt)]
    else:
        parts = [(message.get("role"), message.get("content")) for message in prompt]
    texts = [
        {"role": role, **text.to_dict()}
        for role, text in parts
        if isinstance(text, SpanStr) and text.spans
    ]
    if texts:
        _events.event(EmphasisEvent(texts=texts))
