"""Packing makes LlamaIndex's own chunks, and keeps the emphasis at its characters."""

from __future__ import annotations

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import NodeWithScore, TextNode

from pasta_chains import HeadProfile, SteeredModel
from pasta_chains.errors import PromptTooLongError
from pasta_chains.llama_index import EmphasisSynthesizer, PastaLLM
from pasta_chains.llama_index.packing import EmphasisPromptHelper, split_text
from pasta_chains.spans import Span, SpanStr

WORDS = st.text(st.sampled_from("ab é\n .,🙂"), max_size=40)


def letters(text: str) -> list[str]:
    return [*text]


@st.composite
def marked(draw: st.DrawFn) -> SpanStr:
    text = draw(WORDS)
    if not text:
        return SpanStr(text)
    start = draw(st.integers(0, len(text) - 1))
    return SpanStr(text, [Span(start, draw(st.integers(start + 1, len(text))), 0.5, "a")])


@given(marked(), st.integers(1, 12), st.data())
def test_the_chunks_are_those_of_the_splitter(
    text: SpanStr, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size))
    splitter = TokenTextSplitter(
        chunk_size=size, chunk_overlap=overlap, tokenizer=letters, separator=" "
    )
    assert [chunk.text for chunk in split_text(text, splitter)] == splitter.split_text(text.text)


@given(marked(), st.integers(1, 12), st.data())
def test_each_character_stays_emphasized_or_not(
    text: SpanStr, size: int, data: st.DataObject
) -> None:
    # Each character is its own kind, so that where it is from is known.
    distinct = SpanStr(
        "".join(
            character if character.isspace() else chr(0x4E00 + number)
            for number, character in enumerate(text.text)
        ),
        text.spans,
    )
    overlap = data.draw(st.integers(0, size))
    splitter = TokenTextSplitter(
        chunk_size=size, chunk_overlap=overlap, tokenizer=letters, separator=" "
    )
    inside = {distinct.text[at] for span in distinct.spans for at in range(span.start, span.end)}
    for chunk in split_text(distinct, splitter):
        for span in chunk.spans:
            assert (span.alpha, span.name) == (0.5, "a")
        covered = {at for span in chunk.spans for at in range(span.start, span.end)}
        for at, character in enumerate(chunk.text):
            if not character.isspace():
                assert (at in covered) == (character in inside)


@pytest.mark.parametrize("window", [60, 90, 400])
@given(st.lists(marked(), min_size=1, max_size=4))
def test_helpers_pack_and_cut_alike(window: int, chunks: list[SpanStr]) -> None:
    template = PromptTemplate("Read: {context_str}")
    arguments = {"context_window": window, "num_output": 10, "tokenizer": letters}
    ours, core = EmphasisPromptHelper(**arguments), PromptHelper(**arguments)
    plain = [chunk.text for chunk in chunks]
    packed = ours.repack(template, chunks, padding=2)
    assert [SpanStr(chunk).text for chunk in packed] == core.repack(template, plain, padding=2)
    if all(chunk.strip() for chunk in plain):
        cut = ours.truncate(template, chunks)
        assert [SpanStr(chunk).text for chunk in cut] == core.truncate(template, plain)


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
def test_a_context_without_room_for_texts_is_refused(mode: str) -> None:
    model = SteeredModel(tiny.llama(context=90), tiny.tokenizer(), HeadProfile({1: [0]}))
    synthesizer = EmphasisSynthesizer(PastaLLM(model, max_new_tokens=3), response_mode=mode)
    nodes = [NodeWithScore(node=TextNode(text="Bo Marsh is mayor."), score=1.0)]
    with pytest.raises(PromptTooLongError, match=r"no room for retrieved text.*90 tokens"):
        synthesizer.synthesize("Who?", nodes)
