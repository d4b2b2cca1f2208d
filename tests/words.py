"""An embedding model that needs no download."""

from __future__ import annotations

from llama_index.core.base.embeddings.base import BaseEmbedding


class Words(BaseEmbedding):
    """Counts a few words."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return [float(text.lower().count(word)) + 0.01 for word in ("mayor", "bridge", "rain")]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)
