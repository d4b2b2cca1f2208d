"""Engines of LlamaIndex around our synthesizer, and those that need their own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
import tiny
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import CondenseQuestionChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen.types import BaseQuestionGenerator, SubQuestion
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from llama_index.core.tools import QueryEngineTool
from spy import SpyModel

from pasta_chains import HeadProfile, SpanStr, emphasize
from pasta_chains.errors import EmphasisError, PromptError
from pasta_chains.llama_index import (
    EmphasisCitationQueryEngine,
    EmphasisCondensePlusContextChatEngine,
    EmphasisContextChatEngine,
    EmphasisPromptTemplate,
    EmphasisSynthesizer,
    FactEmphasis,
    PastaLLM,
    emphasized_message,
)

# LlamaIndex's synchronous engines leave event loops open.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

QUESTION = "Who is the mayor of Tarn?"
FACTS = ["The mayor of Tarn is Ada Lowe.", "The mayor of Tarn is Bo Marsh."]
TEXTS = [f"Tarn lies in the hills. {FACTS[0]} It rains often.", f"The bridge is old. {FACTS[1]}"]


class Fixed(BaseRetriever):
    """Finds the same nodes for every question."""

    def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
        return [
            NodeWithScore(
                node=TextNode(
                    text=text,
                    metadata={"trusted": i == 1},
                    excluded_llm_metadata_keys=["trusted"],
                ),
                score=1.0,
            )
            for i, text in enumerate(TEXTS)
        ]


@pytest.fixture(autouse=True)
def _loops_are_collected_here() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def model() -> SpyModel:
    return SpyModel(tiny.llama(context=3000), tiny.tokenizer(), HeadProfile({1: [0, 3], 2: [1]}))


@pytest.fixture(params=["completion", "chat"])
def llm(request: pytest.FixtureRequest, model: SpyModel) -> PastaLLM:
    return PastaLLM(model, max_new_tokens=4, use_chat_template=request.param == "chat")


def emphasized(text: SpanStr) -> list[str]:
    return [text.text[span.start : span.end] for span in text.spans]


CHAT_ENGINES: list[Any] = [EmphasisContextChatEngine, EmphasisCondensePlusContextChatEngine]


async def _answer(engine: Any, way: str) -> str:
    if way == "async":
        return str(await engine.achat(QUESTION))
    streamed = await engine.astream_chat(QUESTION)
    return "".join([piece async for piece in streamed.async_response_gen()])


def answer(engine: Any, way: str) -> str:
    if way == "sync":
        return str(engine.chat(QUESTION))
    if way == "streaming":
        return "".join(engine.stream_chat(QUESTION).response_gen)
    return asyncio.run(_answer(engine, way))


@pytest.mark.parametrize("engine_class", CHAT_ENGINES)
@pytest.mark.parametrize("way", ["sync", "streaming", "async", "async streaming"])
def test_chat_engines_emphasize_what_they_retrieve(
    llm: PastaLLM, model: SpyModel, engine_class: Any, way: str
) -> None:
    engine = engine_class.from_defaults(
        Fixed(), memory=ChatMemoryBuffer.from_defaults(), llm=llm, emphasis="trusted"
    )
    ours = answer(engine, way)
    assert emphasized(model.seen[-1]) == [TEXTS[1]]
    core = engine_class.__mro__[2].from_defaults(
        Fixed(), memory=ChatMemoryBuffer.from_defaults(), llm=llm
    )
    answer(core, way)
    assert model.seen[-1].text == model.seen[-2].text  # the prompt is LlamaIndex's
    assert not model.seen[-1].spans
    assert [message.role.value for message in engine.chat_history] == ["user", "assistant"]
    assert engine.chat_history[-1].content.strip() == ours.strip()


def test_a_policy_chooses_facts(llm: PastaLLM, model: SpyModel) -> None:
    engine = EmphasisContextChatEngine.from_defaults(
        Fixed(),
        memory=ChatMemoryBuffer.from_defaults(),
        llm=llm,
        emphasis="facts",
        prefix_messages=[ChatMessage("Hello."), _rule("user")],
    )
    engine.chat(QUESTION)
    found = emphasized(model.seen[-1])
    assert FACTS[1] in found
    if llm.metadata.is_chat_model:
        assert "guess" in found  # of the messages before the question


def _rule(role: str) -> ChatMessage:
    return emphasized_message("Never " + emphasize("guess") + ".", role)


def test_history_keeps_its_emphasis(model: SpyModel) -> None:
    llm = PastaLLM(model, max_new_tokens=4, use_chat_template=True)
    engine = EmphasisContextChatEngine.from_defaults(
        Fixed(), memory=ChatMemoryBuffer.from_defaults(chat_history=[_rule("user")]), llm=llm
    )
    engine.chat(QUESTION)
    assert emphasized(model.seen[-1]) == [*TEXTS, "guess"]


def test_what_llama_index_would_print_as_it_is_is_refused(llm: PastaLLM) -> None:
    with pytest.raises(EmphasisError, match="system prompt and the templates"):
        EmphasisContextChatEngine.from_defaults(
            Fixed(),
            memory=ChatMemoryBuffer.from_defaults(),
            llm=llm,
            prefix_messages=[_rule("system")],
        )
    with pytest.raises(EmphasisError, match="system prompt and the templates"):
        EmphasisCondensePlusContextChatEngine.from_defaults(
            Fixed(),
            llm=llm,
            memory=ChatMemoryBuffer.from_defaults(),
            system_prompt="Never " + emphasize("guess"),
        )
    with pytest.raises(EmphasisError, match="system prompt and the templates"):
        EmphasisContextChatEngine.from_defaults(
            Fixed(), llm=llm, system_prompt="Never " + emphasize("guess")
        )
    with pytest.raises(EmphasisError, match="system prompt and the templates"):
        EmphasisContextChatEngine.from_defaults(
            Fixed(), llm=llm, context_template=emphasize("Use this:") + " {context_str}"
        )
    with pytest.raises(EmphasisError, match="source of context_template"):
        EmphasisContextChatEngine.from_defaults(
            Fixed(),
            llm=llm,
            memory=ChatMemoryBuffer.from_defaults(),
            context_template=EmphasisPromptTemplate("{{ context_str }}"),
        )
    with pytest.raises(EmphasisError, match="must be one of 'context'"):
        EmphasisContextChatEngine.from_defaults(
            Fixed(), memory=ChatMemoryBuffer.from_defaults(), llm=llm, emphasis="fact"
        )


def test_a_condensing_chat_engine_takes_our_query_engine(llm: PastaLLM, model: SpyModel) -> None:
    synthesizer = EmphasisSynthesizer(llm, "trusted")
    engine = CondenseQuestionChatEngine.from_defaults(
        RetrieverQueryEngine(Fixed(), synthesizer),
        llm=llm,
        memory=ChatMemoryBuffer.from_defaults(),
    )
    engine.chat(QUESTION)
    assert emphasized(model.seen[-1]) == [TEXTS[1]]


class Asking(BaseQuestionGenerator):
    """Asks the question itself, of the only tool."""

    def _get_prompts(self) -> Any:
        return {}

    def _update_prompts(self, prompts: Any) -> None:
        pass

    def generate(self, tools: Any, query: Any) -> list[SubQuestion]:
        return [SubQuestion(sub_question=query.query_str, tool_name=tools[0].name)]

    async def agenerate(self, tools: Any, query: Any) -> list[SubQuestion]:
        return self.generate(tools, query)


def test_sub_questions_are_answered_with_emphasis(llm: PastaLLM, model: SpyModel) -> None:
    inner = RetrieverQueryEngine(Fixed(), EmphasisSynthesizer(llm, "trusted"))
    tool = QueryEngineTool.from_defaults(inner, name="minutes", description="Of the club.")
    engine = SubQuestionQueryEngine(
        Asking(), EmphasisSynthesizer(llm, "context"), [tool], verbose=False, use_async=False
    )
    asyncio.run(engine.aquery(QUESTION))
    sub, whole = model.seen
    assert emphasized(sub) == [TEXTS[1]]
    (shown,) = emphasized(whole)
    assert shown.startswith(f"Sub question: {QUESTION}\nResponse: ")


def citations(llm: PastaLLM, **arguments: Any) -> BaseQueryEngine:
    return EmphasisCitationQueryEngine(
        Fixed(),
        llm=llm,
        response_synthesizer=EmphasisSynthesizer(llm, "metadata", response_mode="compact"),
        text_splitter=SentenceSplitter(chunk_size=12, chunk_overlap=0),
        **{"node_postprocessors": [FactEmphasis()], **arguments},
    )


@pytest.mark.parametrize("is_async", [True, False])
def test_numbered_sources_keep_emphasis(llm: PastaLLM, model: SpyModel, is_async: bool) -> None:
    engine = citations(llm)
    response: Any = asyncio.run(engine.aquery(QUESTION)) if is_async else engine.query(QUESTION)
    read = model.seen[-1]
    assert emphasized(read) == FACTS[1:]  # the other node says trusted=False
    assert f"Source 2:\n{FACTS[0]}" in read.text
    assert len(response.source_nodes) > 3
    told = response.metadata["emphasis"].values()
    assert sum(map(len, told)) == 1


def test_the_number_of_a_source_is_never_emphasized(llm: PastaLLM, model: SpyModel) -> None:
    class Short(BaseRetriever):
        def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
            return [
                NodeWithScore(
                    node=TextNode(text=text, metadata={"emphasis": [[0, 1]] if text else []}),
                    score=1.0,
                )
                for text in ("1", "ou", "")
            ]

    engine = EmphasisCitationQueryEngine(
        Short(),
        llm=llm,
        response_synthesizer=EmphasisSynthesizer(llm, "metadata", response_mode="compact"),
    )
    engine.query(QUESTION)
    read = model.seen[-1]
    for span in read.spans:
        assert read.text[: span.start].endswith(":\n")
    assert emphasized(read) == ["1", "o"]


def test_pictures_are_no_sources(llm: PastaLLM) -> None:
    with pytest.raises(PromptError, match="cannot be multimodal"):
        citations(llm, multimodal=True)


def test_sources_that_show_metadata_are_refused(llm: PastaLLM) -> None:
    with pytest.raises(EmphasisError, match=r"metadata_mode at MetadataMode\.NONE"):
        citations(llm, metadata_mode=MetadataMode.LLM).query(QUESTION)


def test_sources_without_recorded_emphasis_are_emphasized_as_a_whole(
    llm: PastaLLM, model: SpyModel
) -> None:
    citations(llm, node_postprocessors=[]).query(QUESTION)
    assert [text.split("\n")[0] for text in emphasized(model.seen[-1])] == [
        "Source 4:",
        "Source 5:",
    ]
