"""Text files, found by BM25, for LangChain and for LlamaIndex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DocumentError, MissingExtraError

try:
    import bm25s
    from langchain_core.documents import Document as LangChainDocument
    from langchain_core.retrievers import BaseRetriever as LangChainRetriever
    from llama_index.core.base.base_retriever import BaseRetriever as LlamaIndexRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ImportError as error:
    raise MissingExtraError(error.name or "bm25s", "demo") from error

SUFFIXES = (".txt", ".md")


@dataclass(frozen=True)
class TextFile:
    """A document: the name of its file, and its text."""

    name: str
    text: str


def read_folder(folder: Path) -> list[TextFile]:
    """Read the text files of a folder, by name.

    Raises:
        DocumentError: The folder is missing or holds no text, or a file is not UTF-8.
    """
    if not folder.is_dir():
        raise DocumentError(f"There is no folder {folder}. Pass one with text files in it.")
    files = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            try:
                text = path.read_text(encoding="utf-8-sig").strip()
            except UnicodeDecodeError as error:
                raise DocumentError(
                    f"{path} is not UTF-8 text: byte {error.start} cannot be read. Save it as "
                    "UTF-8 or take it out of the folder."
                ) from error
            except OSError as error:
                raise DocumentError(f"{path} cannot be read: {error.strerror}.") from error
            if text:
                files.append(TextFile(path.name, text))
    if not files:
        raise DocumentError(
            f"The folder {folder} holds no text: it needs {' or '.join(SUFFIXES)} files that are "
            "not empty."
        )
    return files


class Bm25:
    """Finds the files that share the most telling words with a question."""

    def __init__(self, files: Sequence[TextFile]) -> None:
        self.files = list(files)
        words = _words([file.text for file in files])
        if not words.vocab:
            raise DocumentError(
                "The documents hold no words to search for, only such as 'the' and 'of'."
            )
        self._index = bm25s.BM25()
        self._index.index(words, show_progress=False)

    def search(self, question: str, count: int) -> list[tuple[TextFile, float]]:
        """The best files for a question with their scores, best first."""
        found, scores = self._index.retrieve(
            _words([question]), k=min(count, len(self.files)), show_progress=False
        )
        return [
            (self.files[number], float(score))
            for number, score in zip(found[0], scores[0], strict=True)
        ]


def _words(texts: list[str]) -> Any:
    return bm25s.tokenize(texts, stopwords="en", show_progress=False)


class FileRetriever(LangChainRetriever):
    """BM25 as a LangChain retriever; `source` in the metadata is the file's name."""

    index: Any
    count: int

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[LangChainDocument]:
        return [
            LangChainDocument(page_content=file.text, metadata={"source": file.name})
            for file, _ in self.index.search(query, self.count)
        ]


class NodeRetriever(LlamaIndexRetriever):
    """BM25 as a LlamaIndex retriever; nodes of the trusted file have `trusted=True`."""

    def __init__(self, index: Bm25, count: int, trusted: str) -> None:
        super().__init__()
        self._index, self._count, self._trusted = index, count, trusted

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [
            NodeWithScore(node=self._node(file), score=score)
            for file, score in self._index.search(query_bundle.query_str, self._count)
        ]

    def _node(self, file: TextFile) -> TextNode:
        metadata = {"source": file.name, "trusted": file.name == self._trusted}
        return TextNode(
            text=file.text, metadata=metadata, excluded_llm_metadata_keys=list(metadata)
        )
