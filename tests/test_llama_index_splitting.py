"""Emphasis in documents, through splitting, pipelines and stores."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
from llama_index.core.node_parser import (
    HierarchicalNodeParser,
    NodeParser,
    SentenceSplitter,
    SentenceWindowNodeParser,
    TokenTextSplitter,
)
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from words import Words

from pasta_chains import SpanStr, emphasize
from pasta_chains.errors import EmphasisError
from pasta_chains.llama_index import KeepEmphasis
from pasta_chains.llama_index.policies import policy_of
from pasta_chains.llama_index.recorded import KEY, recorded_spans
from pasta_chains.llama_index.splitting import split_spans

TEXT = "Tarn lies in the hills. The mayor of Tarn is Ada Lowe. It rains often. The bridge is old."
FACT = "The mayor of Tarn is Ada Lowe."
START = TEXT.index(FACT)
SPANS = [[START, START + len(FACT), 0.1, "fact"], [0, 4]]


def document(spans: Any = SPANS, text: str = TEXT) -> Document:
    return Document(text=text, metadata={KEY: spans, "source": "minutes"})


def emphasized(node: BaseNode) -> str:
    """The text of a node with brackets around what "metadata" emphasizes."""
    scored = NodeWithScore(node=node)
    text = SpanStr(node.get_content(metadata_mode=MetadataMode.NONE))
    spans = policy_of("metadata")(scored, "")
    for span in sorted(SpanStr(text.text, spans).spans, reverse=True):
        text = text[: span.start] + "[" + text[span.start : span.end] + "]" + text[span.end :]
    return text.text


PARSERS: dict[str, NodeParser] = {
    "sentences": SentenceSplitter(chunk_size=14, chunk_overlap=0, include_metadata=True),
    "overlapping": SentenceSplitter(chunk_size=14, chunk_overlap=8),
    "tokens": TokenTextSplitter(chunk_size=9, chunk_overlap=3),
    "windows": SentenceWindowNodeParser.from_defaults(window_size=1),
    "hierarchy": HierarchicalNodeParser.from_defaults(chunk_sizes=[64, 16], chunk_overlap=2),
}


@pytest.mark.parametrize("name", PARSERS)
def test_pieces_have_the_emphasis_that_lies_in_them(name: str) -> None:
    given = Document(text=TEXT, metadata={KEY: SPANS})
    nodes = KeepEmphasis(parser=PARSERS[name])([given])
    assert len(nodes) > 2
    marks = SpanStr(TEXT, [(START, START + len(FACT)), (0, 4)])
    for node in nodes:
        text = node.get_content(metadata_mode=MetadataMode.NONE)
        place = TEXT.index(text)
        wanted = marks[place : place + len(text)]
        found = [(span.start, span.end) for span in recorded_spans(node)]
        assert found == [(span.start, span.end) for span in wanted.spans]
    assert any("[The" in emphasized(node) for node in nodes)
    assert KEY not in nodes[0].get_metadata_str(mode=MetadataMode.LLM)
    assert KEY not in nodes[0].get_metadata_str(mode=MetadataMode.EMBED)


def test_spans_keep_their_strength_and_name() -> None:
    nodes = KeepEmphasis(parser=PARSERS["windows"])([document()])
    (span,) = recorded_spans(nodes[1])
    assert (span.start, span.end, span.alpha, span.name) == (0, len(FACT), 0.1, "fact")
    assert recorded_spans(nodes[2]) == []


def test_documents_without_emphasis_are_split_as_ever() -> None:
    plain = Document(text=TEXT, metadata={"source": "minutes"})
    ours = KeepEmphasis(parser=PARSERS["windows"])([plain])
    core = PARSERS["windows"]([plain])
    assert [node.get_content() for node in ours] == [node.get_content() for node in core]
    assert all(KEY not in node.metadata for node in ours)


def test_without_it_inherited_spans_are_refused() -> None:
    nodes = PARSERS["windows"]([document()])
    with pytest.raises(EmphasisError, match=r"document that it was split from.*KeepEmphasis"):
        emphasized(nodes[1])


def test_a_text_changed_afterwards_is_refused() -> None:
    node = KeepEmphasis(parser=PARSERS["windows"])([document()])[1]
    node.set_content("The mayor of Tarn is Bo Marsh.")
    with pytest.raises(EmphasisError, match="was changed after its emphasis was recorded"):
        emphasized(node)


@pytest.mark.parametrize("spans", [[[0]], "[[0, 4]", [[0, 4000]], 7, [[4, 0]]])
def test_malformed_spans_are_refused(spans: Any) -> None:
    with pytest.raises(EmphasisError):
        KeepEmphasis(parser=PARSERS["windows"])([document(spans)])


# LlamaIndex imports langchain-community when it loads an index, where that is installed.
@pytest.mark.filterwarnings("ignore:`langchain-community:DeprecationWarning")
def test_a_pipeline_keeps_emphasis(tmp_path: Path) -> None:
    pipeline = IngestionPipeline(
        transformations=[KeepEmphasis(parser=PARSERS["windows"]), Words()],
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.DUPLICATES_ONLY,
    )
    nodes = pipeline.run(documents=[document(json.dumps(SPANS))])
    assert isinstance(nodes[1].metadata[KEY], str)  # for stores that keep no lists
    assert emphasized(nodes[1]) == f"[{FACT}] "
    again = pipeline.run(documents=[document(json.dumps(SPANS))])
    assert again == []  # the docstore knows it

    index = VectorStoreIndex(list(nodes), embed_model=Words())
    index.storage_context.persist(str(tmp_path))
    storage = StorageContext.from_defaults(persist_dir=str(tmp_path))
    loaded: Any = load_index_from_storage(storage, embed_model=Words())
    for one in (index, loaded):
        (scored,) = one.as_retriever(similarity_top_k=1).retrieve("the mayor")
        assert emphasized(scored.node) == f"[{FACT}] "


def test_a_cached_pipeline_keeps_emphasis() -> None:
    pipeline = IngestionPipeline(transformations=[KeepEmphasis(parser=PARSERS["windows"])])
    first, second = (pipeline.run(documents=[document()]) for _ in range(2))
    assert emphasized(first[1]) == emphasized(second[1]) == f"[{FACT}] "


async def _arun(pipeline: IngestionPipeline) -> Any:
    return await pipeline.arun(documents=[document()])


def test_an_async_pipeline_keeps_emphasis() -> None:
    import asyncio

    pipeline = IngestionPipeline(transformations=[KeepEmphasis(parser=PARSERS["windows"])])
    assert emphasized(asyncio.run(_arun(pipeline))[1]) == f"[{FACT}] "


def test_a_parser_that_rewrites_text_is_refused() -> None:
    class Shouting(NodeParser):
        def _parse_nodes(self, nodes: Any, show_progress: bool = False, **kwargs: Any) -> Any:
            return [TextNode(text=node.get_content().upper()) for node in nodes]

    with pytest.raises(EmphasisError, match="not in it one after the other"):
        KeepEmphasis(parser=Shouting())([document()])


def test_a_piece_that_could_be_in_two_places_is_refused() -> None:
    whole = "x a b. " + emphasize("a b.") + " c"
    with pytest.raises(EmphasisError, match="several times"):
        split_spans(whole, ["a b."])
    (same,) = split_spans(emphasize("a b. a b."), ["a b."])
    assert same.spans == emphasize("a b.").spans


LINES = ["disk ok." for _ in range(40)] + ["disk failed."] + ["disk ok." for _ in range(40)]


@pytest.mark.parametrize("line", [0, 1, 38, 39, 40, 41, 79, 80])
@pytest.mark.parametrize("overlap", [0, 20])
def test_repeated_text_keeps_its_emphasis_or_says_so(line: int, overlap: int) -> None:
    text = "\n".join(LINES)
    start = len("\n".join([*LINES[:line], ""]))
    given = document([[start, start + len(LINES[line])]], text)
    parser = SentenceSplitter(chunk_size=64, chunk_overlap=overlap, include_metadata=False)
    try:
        nodes = KeepEmphasis(parser=parser)([given])
    except EmphasisError as error:
        assert "Split without overlap" in str(error)  # noqa: PT017  (it may well not be raised)
        assert overlap
        return
    marked = [node.get_content()[span.start : span.end] for node in nodes for span in _spans(node)]
    assert marked
    assert set(marked) == {LINES[line]}


def _spans(node: BaseNode) -> Any:
    recorded = node.metadata.get(KEY)
    return recorded_spans(node) if recorded else []


def test_a_pipelines_cache_sees_the_settings_of_the_parser() -> None:
    cache = IngestionCache()
    counts = []
    for size in (60, 300):
        parser = KeepEmphasis(parser=SentenceSplitter(chunk_size=size, chunk_overlap=0))
        pipeline = IngestionPipeline(transformations=[parser], cache=cache)
        counts.append(len(pipeline.run(documents=[document(text=TEXT * 5, spans=[[0, 4]])])))
    assert counts[0] > counts[1]


@given(st.data())
def test_cutting_anywhere_keeps_what_is_emphasized(data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet="ab .\n", min_size=1, max_size=40))
    ends = st.integers(0, len(text))
    spans = [s for s in data.draw(st.lists(st.tuples(ends, ends), max_size=3)) if s[0] < s[1]]
    whole = SpanStr(text, spans)
    cuts = sorted({0, len(text), *data.draw(st.lists(ends, max_size=4))})
    parts = [whole[a:b] for a, b in pairwise(cuts)]
    parts = [part for part in parts if part.text.strip()]
    found = split_spans(whole, [part.text for part in parts])
    assert [piece.spans for piece in found] == [part.spans for part in parts]


@given(st.data())
def test_overlapping_pieces_keep_what_is_emphasized_or_say_so(data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet="ab .", min_size=1, max_size=30))
    place = st.integers(0, len(text))
    start, end = sorted((data.draw(place), data.draw(place)))
    whole = SpanStr(text, [(start, end)] if start < end else [])
    edges = sorted(data.draw(st.sets(place, max_size=4)) | {0, len(text)})
    starts = [0] + [data.draw(st.integers(a + 1, b)) for a, b in pairwise(edges[:-1])]
    parts = [whole[a:b] for a, b in zip(starts, edges[1:], strict=True)]
    try:
        found = split_spans(whole, [part.text for part in parts])
    except EmphasisError as error:
        assert "several times" in str(error)  # noqa: PT017  (it may well not be raised)
        return
    assert [piece.spans for piece in found] == [part.spans for part in parts]
