"""What of a node is emphasized, from the policy to the text that the model reads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tiny
from llama_index.core import Document, StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.node_parser import SentenceWindowNodeParser
from llama_index.core.postprocessor import MetadataReplacementPostProcessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode
from spy import SpyModel
from words import Words

from pasta_chains.errors import EmphasisError, NothingEmphasizedWarning, PromptError
from pasta_chains.llama_index import (
    EmphasisSynthesizer,
    FactEmphasis,
    PastaLLM,
    above_score,
    facts,
)
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span

QUESTION = "Who is the mayor of Tarn?"
TEXTS = [
    "Tarn lies in the hills. The mayor of Tarn is Ada Lowe. It rains often.",
    "The bridge is old. Nobody knows why. The mayor of Tarn is Bo Marsh.",
]
FACTS = ["The mayor of Tarn is Ada Lowe.", "The mayor of Tarn is Bo Marsh."]


@pytest.fixture
def model() -> SpyModel:
    return SpyModel(tiny.llama(context=2048), tiny.tokenizer(), HeadProfile({1: [0, 3], 2: [1]}))


@pytest.fixture
def llm(model: SpyModel) -> PastaLLM:
    return PastaLLM(model, max_new_tokens=4)


def nodes(*metadata: dict[str, Any]) -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(text=text, metadata=dict(own)), score=score)
        for text, own, score in zip(TEXTS, metadata or ({}, {}), (0.9, 0.4), strict=True)
    ]


def emphasized(llm: PastaLLM, policy: Any, given: list[NodeWithScore]) -> tuple[str, ...]:
    """What of the nodes the model is told to read, by one call."""
    EmphasisSynthesizer(llm, policy).synthesize(QUESTION, given)
    (*_, seen) = llm._model.seen  # type: ignore[attr-defined]  # a SpyModel
    return tuple(seen.emphasized())


def test_facts_are_the_sentences_that_answer(llm: PastaLLM) -> None:
    assert emphasized(llm, "facts", nodes()) == tuple(FACTS)
    assert emphasized(llm, facts(Words()), nodes()) == tuple(FACTS)
    assert emphasized(llm, facts(Words(), each=2), nodes()) != tuple(FACTS)


def test_facts_may_be_judged_by_any_function_and_by_the_model(
    llm: PastaLLM, model: SpyModel
) -> None:
    def last(query: str, sentences: list[str]) -> list[float]:
        assert query == QUESTION
        return [float(number) + 1 for number in range(len(sentences))]

    found = emphasized(llm, facts(last), nodes())
    assert found == ("It rains often.", FACTS[1])
    before = len(model.seen)
    scores = facts(llm)
    scores(nodes()[0], QUESTION)
    (asked,) = model.seen[before:]
    assert all(sentence in asked for sentence in ("Tarn lies in the hills.", FACTS[0], QUESTION))


def test_the_best_facts_of_all_nodes_are_chosen(llm: PastaLLM) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=1.0) for text in reversed(TEXTS)]
    response: Any = EmphasisSynthesizer(llm, facts(_mayors, count=1)).synthesize(QUESTION, nodes)
    start = TEXTS[0].index(FACTS[0])
    assert list(response.metadata["emphasis"].values()) == [[], [[start, start + len(FACTS[0])]]]
    recorded = FactEmphasis(facts(_mayors, count=1)).postprocess_nodes(nodes, query_str=QUESTION)
    assert [len(one.node.metadata["emphasis"]["spans"]) for one in recorded] == [0, 1]


def _mayors(question: str, sentences: Any) -> list[float]:
    return [("mayor" in sentence) + ("Ada" in sentence) for sentence in sentences]


def test_facts_of_a_node_that_is_not_trusted_are_none(llm: PastaLLM) -> None:
    given = nodes({"trusted": False}, {"trusted": True})
    assert emphasized(llm, "facts", given) == (FACTS[1],)


def test_nodes_may_be_chosen_by_their_score(llm: PastaLLM) -> None:
    assert emphasized(llm, above_score(0.5), nodes()) == (TEXTS[0],)
    assert emphasized(llm, above_score(0.4), nodes()) == tuple(TEXTS)
    unscored = [NodeWithScore(node=TextNode(text="Tarn."))]
    with pytest.raises(EmphasisError, match="has no score"):
        emphasized(llm, above_score(0.4), unscored)


def test_spans_in_the_metadata_are_used_and_are_no_text_for_the_model(llm: PastaLLM) -> None:
    start = TEXTS[1].index(FACTS[1])
    spans = [[start, start + len(FACTS[1])], {"start": 0, "end": 10, "alpha": 0.2}]
    given = nodes({"source": "rumor"}, {"source": "minutes", "emphasis": spans})
    assert emphasized(llm, "metadata", given) == ("The bridge", FACTS[1])
    seen = llm._model.seen[-1]  # type: ignore[attr-defined]  # a SpyModel
    assert "source: minutes" in seen
    assert "emphasis" not in seen
    trusted = nodes({"trusted": True}, {})
    assert emphasized(llm, "metadata", trusted) == (TEXTS[0],)


@pytest.mark.parametrize("spans", [5, [5], [[1]], [{"from": 1}], [[0, 999]]])
def test_malformed_spans_in_the_metadata_are_refused(llm: PastaLLM, spans: Any) -> None:
    given = nodes({}, {"emphasis": spans})
    with pytest.raises(EmphasisError, match=f"Node {given[1].node.node_id} cannot be emphasized"):
        EmphasisSynthesizer(llm, "metadata").synthesize(QUESTION, given)


def test_the_sentence_in_its_window(llm: PastaLLM) -> None:
    parser = SentenceWindowNodeParser.from_defaults(window_size=1)
    parsed = parser.get_nodes_from_documents([Document(text=TEXTS[1])])
    found = [NodeWithScore(node=node, score=1.0) for node in parsed[2:]]
    replaced = MetadataReplacementPostProcessor(target_metadata_key="window").postprocess_nodes(
        found
    )
    assert replaced[0].node.get_content().startswith("Nobody knows")
    assert emphasized(llm, "window", replaced) == (FACTS[1],)
    with pytest.raises(EmphasisError, match="no original_text"):
        emphasized(llm, "window", nodes())


def test_the_response_tells_what_was_emphasized(llm: PastaLLM) -> None:
    given = nodes({"source": "rumor", "trusted": False}, {"source": "minutes", "trusted": True})
    synthesizer = EmphasisSynthesizer(llm, "facts")
    start = TEXTS[1].index(FACTS[1])
    told = {given[0].node.node_id: [], given[1].node.node_id: [[start, start + len(FACTS[1])]]}
    for response in (
        synthesizer.synthesize(QUESTION, given),
        asyncio.run(synthesizer.asynthesize(QUESTION, given)),
        EmphasisSynthesizer(llm, "facts", streaming=True).synthesize(QUESTION, given),
    ):
        assert response.metadata["emphasis"] == told
        assert response.metadata[given[1].node.node_id]["source"] == "minutes"
    assert [*response.response_gen]


def test_nothing_emphasized_is_never_silent(llm: PastaLLM) -> None:
    with pytest.warns(NothingEmphasizedWarning, match="Nothing in 2 nodes"):
        EmphasisSynthesizer(llm, above_score(2.0)).synthesize(QUESTION, nodes())


class Fixed(BaseRetriever):
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return nodes()


def test_facts_are_recorded_in_nodes_without_rewriting_them(llm: PastaLLM) -> None:
    given = nodes({"source": "rumor"}, {"source": "minutes"})
    recorded = FactEmphasis(facts(alpha=0.3)).postprocess_nodes(given, query_str=QUESTION)
    assert [node.node.metadata["source"] for node in recorded] == ["rumor", "minutes"]
    assert "emphasis" not in given[0].node.metadata
    for before, after in zip(given, recorded, strict=True):
        for mode in ("llm", "embed", "none"):
            assert after.node.get_content(metadata_mode=mode) == before.node.get_content(
                metadata_mode=mode
            )
        assert after.score == before.score
    EmphasisSynthesizer(llm, "metadata").synthesize(QUESTION, recorded)
    seen = llm._model.seen[-1]  # type: ignore[attr-defined]  # a SpyModel
    assert tuple(seen.emphasized()) == tuple(FACTS)
    assert {span.alpha for span in seen.spans} == {0.3}
    engine = RetrieverQueryEngine(
        Fixed(),
        EmphasisSynthesizer(llm, "metadata"),
        node_postprocessors=[FactEmphasis()],
    )
    engine.query(QUESTION)
    seen = llm._model.seen[-1]  # type: ignore[attr-defined]  # a SpyModel
    assert tuple(seen.emphasized()) == tuple(FACTS)
    with pytest.raises(EmphasisError, match="Without a query"):
        FactEmphasis().postprocess_nodes(given)


# LlamaIndex looks for LangChain when it is given an embedding model, and that tells of its end.
@pytest.mark.filterwarnings("ignore:`langchain-community`:DeprecationWarning")
def test_recorded_spans_survive_a_store_on_disk(llm: PastaLLM, tmp_path: Any) -> None:
    made = TextNode(text=TEXTS[1], metadata={"emphasis": [[37, 67, 0.2, "facts"]]})
    index = VectorStoreIndex([made], embed_model=Words())
    index.storage_context.persist(str(tmp_path))
    loaded = load_index_from_storage(
        StorageContext.from_defaults(persist_dir=str(tmp_path)), embed_model=Words()
    )
    engine = RetrieverQueryEngine(
        loaded.as_retriever(), EmphasisSynthesizer(llm, emphasis="metadata")
    )
    engine.query(QUESTION)
    seen = llm._model.seen[-1]  # type: ignore[attr-defined]  # a SpyModel
    (span,) = seen.spans
    assert (seen[span.start : span.end], span.alpha, span.name) == (FACTS[1], 0.2, "facts")


def test_other_ways_to_judge_sentences_are_refused() -> None:
    with pytest.raises(EmphasisError, match="scores is 'cosine'"):
        facts("cosine")  # type: ignore[arg-type]  # wrong on purpose
    assert facts(lambda query, sentences: [0.0] * len(sentences))(nodes()[0], QUESTION) == []
    assert facts("bm25", alpha=0.5, name=None)(nodes()[0], QUESTION) == [Span(24, 54, 0.5)]


def test_images_cannot_be_emphasized(llm: PastaLLM) -> None:
    picture = NodeWithScore(node=ImageNode(image="aGVsbG8="), score=1.0)
    with pytest.raises(PromptError, match=r"image without text.*postprocessor"):
        EmphasisSynthesizer(llm, "context").synthesize(QUESTION, [picture])
    text = NodeWithScore(node=ImageNode(image="aGVsbG8=", text=FACTS[0]), score=1.0)
    EmphasisSynthesizer(llm, "context").synthesize(QUESTION, [text])


def test_a_node_without_text_is_passed_over(llm: PastaLLM) -> None:
    given = [NodeWithScore(node=TextNode(text=text), score=1.0) for text in ("", FACTS[0])]
    response: Any = EmphasisSynthesizer(llm, "context").synthesize(QUESTION, given)
    assert list(response.metadata["emphasis"].values()) == [[], [[0, len(FACTS[0])]]]
