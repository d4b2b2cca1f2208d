"""A steered model that remembers what it was given to read."""

from __future__ import annotations

from typing import Any

from pasta_chains.engine import SteeredModel
from pasta_chains.spans import SpanStr


class SpyModel(SteeredModel):
    """Remembers the texts that it was given."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: list[SpanStr] = []

    def _tokenize(self, *arguments: Any) -> Any:
        tokenized = super()._tokenize(*arguments)
        self.seen.append(tokenized.text)
        return tokenized
