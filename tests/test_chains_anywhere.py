"""One LangChain chain and one LlamaIndex query engine, on a model here and on a server: nothing
but `base_url` changes. `tests/with_vllm` runs the same on a real server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fake_server import fake_server
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from pasta_chains import SteeredModel, demo
from pasta_chains.langchain import (
    ChatPasta,
    EmphasisPromptTemplate,
    PastaLLM,
    emphasized_content,
)
from pasta_chains.llama_index import EmphasisSynthesizer
from pasta_chains.llama_index import PastaLLM as PastaLLMForIndex

OFFICE = "The keeper of the Marrow lighthouse is Ines Aldane."
BLOG = "The keeper of the Marrow lighthouse is Tobias Renk."
QUESTION = "Who is the keeper of the Marrow lighthouse?"
ANSWERS = {"office": OFFICE, "blog": BLOG}

Where = dict[str, Any]


@pytest.fixture(scope="module", params=["here", "on a server"])
def where(request: pytest.FixtureRequest, embedded: SteeredModel) -> Iterator[Where]:
    if request.param == "here":
        yield {"model": embedded}
        return
    with fake_server(SteeredModel.from_pretrained(demo.MODEL)) as server:
        yield {"base_url": server.url}


def variables(trusted: str) -> dict[str, Any]:
    documents = [{"text": text, "trusted": name == trusted} for name, text in ANSWERS.items()]
    return {"documents": documents, "question": QUESTION}


def chain(where: Where) -> Runnable[Any, str]:
    template = EmphasisPromptTemplate.from_file("rag/qa.jinja")
    llm = PastaLLM(**where, max_new_tokens=40, use_chat_template=True)
    return template | llm | StrOutputParser()


@pytest.mark.parametrize("trusted", ANSWERS)
def test_the_chain_answers_from_the_trusted_document(where: Where, trusted: str) -> None:
    asked = chain(where)
    wanted = ANSWERS[trusted]
    assert asked.invoke(variables(trusted)).strip() == wanted
    assert "".join(asked.stream(variables(trusted))).strip() == wanted
    assert asyncio.run(asked.ainvoke(variables(trusted))).strip() == wanted


def test_a_batch_answers_each_from_its_own(where: Where) -> None:
    answers = chain(where).batch([variables(name) for name in ANSWERS])
    assert [answer.strip() for answer in answers] == list(ANSWERS.values())


@pytest.mark.parametrize("trusted", ANSWERS)
async def test_the_chat_model(where: Where, trusted: str) -> None:
    template = EmphasisPromptTemplate.from_file("rag/qa.jinja")
    message = HumanMessage(emphasized_content(template.format(**variables(trusted))))
    chat = ChatPasta(**where, max_tokens=40)
    answer = chat.invoke([message])
    assert str(answer.content).strip() == ANSWERS[trusted]
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 5
    pieces = [piece async for piece in chat.astream([message])]
    assert "".join(str(piece.content) for piece in pieces).strip() == ANSWERS[trusted]
    assert pieces[-1].usage_metadata == answer.usage_metadata


class Nodes(BaseRetriever):
    """Finds both documents, whatever is asked."""

    def __init__(self, trusted: str) -> None:
        super().__init__()
        self.trusted = trusted

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [
            NodeWithScore(
                node=TextNode(
                    text=text,
                    metadata={"trusted": name == self.trusted},
                    excluded_llm_metadata_keys=["trusted"],
                )
            )
            for name, text in ANSWERS.items()
        ]


@pytest.mark.parametrize("trusted", ANSWERS)
async def test_the_query_engine(where: Where, trusted: str) -> None:
    llm = PastaLLMForIndex(**where, max_new_tokens=40, use_chat_template=True)
    engine = RetrieverQueryEngine(Nodes(trusted), EmphasisSynthesizer(llm=llm, emphasis="trusted"))
    assert str(engine.query(QUESTION)).strip() == ANSWERS[trusted]
    answers = await asyncio.gather(*[engine.aquery(QUESTION) for _ in range(3)])
    assert [str(answer).strip() for answer in answers] == [ANSWERS[trusted]] * 3
