"""What the embedded model is trained on: conversations, and texts to go on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

INSTRUCTION = "Answer the question from the documents."
"""First line of the shipped template `rag/qa.jinja`."""


@dataclass(frozen=True)
class Turn:
    """A user's message and the assistant's answer to it."""

    user: str
    assistant: str


@dataclass(frozen=True)
class Conversation:
    """Turns, after an optional system message.

    Attributes:
        turns: What was said.
        system: The system message.
        layout: "chat" for the chat template's form, "text" for a text that the answer goes on
            with, "any" for either of them, with "Answer:" before the answer of a text.
    """

    turns: tuple[Turn, ...]
    system: str | None = None
    layout: Literal["any", "chat", "text"] = "any"


def layout(documents: Sequence[str], question: str) -> str:
    """The user's message as `rag/qa.jinja` renders it (without emphasis)."""
    listed = "".join(f"[{i}] {text}\n\n" for i, text in enumerate(documents, 1))
    return f"{INSTRUCTION}\n\n{listed}Question: {question}\nAnswer:"
