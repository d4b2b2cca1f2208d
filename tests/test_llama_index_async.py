"""LlamaIndex's asynchronous calls do not hold up the loop, and stop when nobody waits."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
import tiny
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import EmphasisError
from pasta_chains.llama_index import EmphasisSynthesizer, EmphasisTextBlock, PastaLLM
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. Or Bo Marsh. Answer:"
PROMPTS = [SpanStr(TEXT, [Span(n, n + 6)]) for n in range(20)]


@pytest.fixture
def llm() -> PastaLLM:
    profile = HeadProfile({0: [2], 1: [0, 3], 2: [0, 1, 2, 3]}, alpha=0.02)
    return PastaLLM(
        SteeredModel(tiny.llama(context=2048), tiny.tokenizer(), profile), max_new_tokens=6
    )


def message(text: SpanStr) -> list[ChatMessage]:
    return [ChatMessage(role="user", blocks=[EmphasisTextBlock.from_text(text)])]


async def streamed(stream: Any) -> tuple[str, str]:
    """The last text of a stream, and its deltas together."""
    text, deltas = "", ""
    async for response in await stream:
        text = response.text if hasattr(response, "text") else response.message.content
        deltas += response.delta
    return text, deltas


async def test_every_way_gives_the_same_text(llm: PastaLLM) -> None:
    for prompt in PROMPTS[:3]:
        text = llm.complete(prompt).text
        assert (await llm.acomplete(prompt)).text == text
        assert await streamed(llm.astream_complete(prompt)) == (text, text)
        answer = llm.chat(message(prompt))
        assert await llm.achat(message(prompt)) == answer
        said = answer.message.content
        assert await streamed(llm.astream_chat(message(prompt))) == (said, said)
    assert len({llm.complete(prompt).text for prompt in PROMPTS}) > 3, "emphasis decides"


async def test_the_loop_goes_on_while_the_model_writes(llm: PastaLLM) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    await llm.acomplete(TEXT, max_new_tokens=100)
    ticking.cancel()
    assert ticks > 5


async def test_cancelling_stops_the_model(llm: PastaLLM) -> None:
    asked = asyncio.create_task(llm.acomplete(TEXT, max_new_tokens=1900))
    await asyncio.sleep(0.05)
    asked.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await asked
    stream = await llm.astream_complete(TEXT, max_new_tokens=1900)
    await anext(stream)
    await stream.aclose()
    del stream  # LlamaIndex wraps it, and so ends the model's once nobody has it
    while [one for one in threading.enumerate() if one.name == "pasta-stream"]:
        await asyncio.sleep(0.01)
    assert time.monotonic() - began < 5


class Emphasized(BaseRetriever):
    """Finds one text, in which the query says what to emphasize."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        start = int(query_bundle.query_str.split()[-1])
        node = TextNode(text=TEXT, metadata={"emphasis": [[start, start + 6]]})
        return [NodeWithScore(node=node, score=1.0)]


async def test_20_queries_at_once_equal_serial_ones(llm: PastaLLM) -> None:
    engine = RetrieverQueryEngine(Emphasized(), EmphasisSynthesizer(llm, "metadata"))
    queries = [f"Who? {number}" for number in range(20)]
    serial = [str(engine.query(query)) for query in queries]
    at_once = await asyncio.gather(*map(engine.aquery, queries))
    assert [str(response) for response in at_once] == serial
    assert len(set(serial)) > 3


async def test_errors_are_raised_where_the_call_is(llm: PastaLLM) -> None:
    far = SpanStr(TEXT, [Span(0, 6, 0.1)])
    with pytest.raises(EmphasisError, match="alpha"):
        await llm.acomplete(far, alpha=0)
    with pytest.raises(EmphasisError, match="alpha"):
        await llm.astream_complete(far, alpha=0)
