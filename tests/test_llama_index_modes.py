"""LlamaIndex's response modes: its own prompts, and emphasis at the characters it belongs to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tiny
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate, RichPromptTemplate
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.response_synthesizers.context_only import ContextOnly
from llama_index.core.response_synthesizers.no_text import NoText
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import BaseModel, Field
from spy import SpyModel

from pasta_chains.errors import (
    EmphasisDroppedWarning,
    EmphasisError,
    PastaError,
    ProfileError,
)
from pasta_chains.llama_index import (
    EmphasisPromptTemplate,
    EmphasisSynthesizer,
    PastaLLM,
)
from pasta_chains.profile import HeadProfile

QUESTION = "Who is the mayor of Tarn?"
TEXTS = ["The mayor of Tarn is Ada Lowe. It rains.", "The mayor of Tarn is Bo Marsh. The bridge."]
FACTS = ["The mayor of Tarn is Ada Lowe.", "The mayor of Tarn is Bo Marsh."]
MODES = [mode.value for mode in ResponseMode]
ANSWERING = [mode for mode in MODES if mode not in ("no_text", "context_only", "generation")]


class Mayor(BaseModel):
    """Who the mayor is."""

    name: str = Field(max_length=6)


@pytest.fixture
def model() -> SpyModel:
    return SpyModel(tiny.llama(context=2048), tiny.tokenizer(), HeadProfile({1: [0, 3], 2: [1]}))


@pytest.fixture(params=["completion", "chat"])
def llm(request: pytest.FixtureRequest, model: SpyModel) -> PastaLLM:
    return PastaLLM(model, max_new_tokens=30, use_chat_template=request.param == "chat")


def nodes(repeat: int = 1) -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(text=text * repeat, metadata={"source": "minutes"}), score=1.0)
        for text in TEXTS
    ]


def core(mode: str, llm: PastaLLM, **arguments: Any) -> Any:
    """LlamaIndex's own synthesizer, which counts tokens as ours does."""
    if mode == "no_text":
        return NoText(llm=llm, streaming=arguments.get("streaming", False))
    if mode == "context_only":
        return ContextOnly(llm=llm, streaming=arguments.get("streaming", False))
    helper = PromptHelper.from_llm_metadata(llm.metadata, tokenizer=llm.tokens_of)
    return get_response_synthesizer(
        llm=llm, prompt_helper=helper, response_mode=ResponseMode(mode), **arguments
    )


def asked(synthesizer: Any, way: str, given: list[NodeWithScore]) -> tuple[str, list[str]]:
    """The answer to the question, and the texts that the model read for it."""
    seen = synthesizer._llm._model.seen
    seen.clear()
    if way in ("async", "async streaming"):
        response = asyncio.run(_answered(synthesizer, given))
    else:
        response = str(synthesizer.synthesize(QUESTION, given))
    return response, [text.text for text in seen]


async def _answered(synthesizer: Any, given: list[NodeWithScore]) -> str:
    response = await synthesizer.asynthesize(QUESTION, given)
    if hasattr(response, "async_response_gen"):
        return "".join([piece async for piece in response.async_response_gen()])
    return str(response)


@pytest.mark.parametrize("way", ["sync", "async", "streaming", "async streaming", "structured"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("repeat", [1, 12], ids=["short", "long"])
def test_without_emphasis_all_is_as_in_core(
    mode: str, way: str, repeat: int, llm: PastaLLM
) -> None:
    arguments: dict[str, Any] = {"streaming": "streaming" in way}
    if way == "structured":
        arguments["output_cls"] = Mayor
    ours = EmphasisSynthesizer(llm, "none", response_mode=mode, **arguments)
    if arguments["streaming"] and "accumulate" in mode:
        for synthesizer in (ours, core(mode, llm, **arguments)):
            with pytest.raises(ValueError, match="Unable to stream"):
                asked(synthesizer, way, nodes(repeat))
        return
    found = asked(ours, way, nodes(repeat))
    expected = asked(core(mode, llm, **arguments), way, nodes(repeat))
    if mode == "simple_summarize":
        # LlamaIndex prints the list that holds the text into the prompt.
        assert len(found[1]) == len(expected[1]) == 1
        assert found[1][0] in (
            expected[1][0].replace("['", "").replace("']", "").replace("\\n", "\n")
        )
    else:
        assert found == expected


@pytest.mark.parametrize("way", ["sync", "async", "streaming", "structured"])
@pytest.mark.parametrize("mode", ANSWERING)
def test_each_prompt_has_the_emphasis_of_its_nodes(mode: str, way: str, llm: PastaLLM) -> None:
    arguments: dict[str, Any] = {"streaming": way == "streaming"}
    if way == "structured":
        arguments["output_cls"] = Mayor
    if arguments["streaming"] and "accumulate" in mode:
        return  # LlamaIndex refuses to stream in this mode, as the test above sees
    synthesizer = EmphasisSynthesizer(llm, "facts", response_mode=mode, **arguments)
    asked(synthesizer, way, nodes())
    seen = llm._model.seen  # type: ignore[attr-defined]  # a SpyModel
    found = [tuple(text.emphasized()) for text in seen]
    one_by_one = mode in ("refine", "accumulate")
    assert found == ([(FACTS[0],), (FACTS[1],)] if one_by_one else [tuple(FACTS)])
    for text in seen:
        assert "source: minutes" in text


@pytest.mark.parametrize("mode", ANSWERING)
def test_long_texts_are_split_with_their_emphasis(mode: str, model: SpyModel) -> None:
    llm = PastaLLM(model, max_new_tokens=30)
    given = nodes(repeat=80)

    def last(scored: NodeWithScore, query: str) -> list[tuple[int, int]]:
        text = scored.node.text  # type: ignore[attr-defined]  # a TextNode
        (fact,) = [fact for fact in FACTS if fact in text]
        return [(text.rindex(fact), text.rindex(fact) + len(fact))]

    asked(EmphasisSynthesizer(llm, last, response_mode=mode), "sync", given)
    seen = model.seen
    emphasized = [part for text in seen for part in text.emphasized()]
    # What does not fit is cut off in one mode; in the others chunks may end inside a sentence.
    assert all(any(part in fact for fact in FACTS) for part in emphasized)
    if mode == "simple_summarize":
        assert len(seen) == 1
        assert emphasized == FACTS[:1]
    else:
        assert len(seen) >= 2
        covered = "".join(emphasized)
        assert all(covered.count(name) >= 1 for name in ("Ada Lowe", "Bo Marsh"))


def test_modes_without_a_model_give_the_texts(model: SpyModel) -> None:
    llm = PastaLLM(model, max_new_tokens=4)
    context = EmphasisSynthesizer(llm, "facts", response_mode=ResponseMode.CONTEXT_ONLY)
    assert str(context.synthesize(QUESTION, nodes())).count("source: minutes") == 2
    silent = EmphasisSynthesizer(llm, response_mode="no_text").synthesize(QUESTION, nodes())
    assert silent.response == ""
    assert model.seen == []


def test_structured_answers_are_objects(model: SpyModel) -> None:
    llm = PastaLLM(model, max_new_tokens=60)
    for mode in ("compact", "tree_summarize"):
        response: Any = EmphasisSynthesizer(
            llm, "facts", response_mode=mode, output_cls=Mayor
        ).synthesize(QUESTION, nodes())
        assert isinstance(response.response, Mayor)
        assert response.metadata["emphasis"]


@pytest.mark.parametrize("mode", ["documents", "compact"])
def test_another_model_works_without_emphasis(mode: str) -> None:
    other = MockLLM()  # says the prompt again
    with pytest.warns(EmphasisDroppedWarning, match="MockLLM would lose the emphasis"):
        synthesizer = EmphasisSynthesizer(other, "facts", response_mode=mode)
    answer = str(synthesizer.synthesize(QUESTION, nodes()))
    if mode == "compact":
        core = get_response_synthesizer(llm=other, response_mode=ResponseMode.COMPACT)
        assert answer == str(core.synthesize(QUESTION, nodes()))
    else:
        assert FACTS[0] in answer


def test_an_error_is_no_empty_response(model: SpyModel) -> None:
    model.profile = None
    llm = PastaLLM(model, max_new_tokens=4)
    for mode in ("refine", "compact"):
        synthesizer = EmphasisSynthesizer(llm, "facts", response_mode=mode)
        with pytest.raises(ProfileError, match="has no head profile"):
            synthesizer.synthesize(QUESTION, nodes())
        with pytest.raises(ProfileError, match="has no head profile"):
            asyncio.run(synthesizer.asynthesize(QUESTION, nodes()))


def test_templates_of_ones_own_and_of_core_keep_emphasis(model: SpyModel) -> None:
    llm = PastaLLM(model, max_new_tokens=4)
    ours = EmphasisPromptTemplate(
        "{{ context_str }} <% emphasize %>{{ query_str }}<% endemphasize %>"
    )
    theirs = PromptTemplate("{context_str} {query_str} {other}", other="Be brief.")
    for template, emphasized in ((ours, (*FACTS, QUESTION)), (theirs, tuple(FACTS))):
        synthesizer = EmphasisSynthesizer(
            llm, "facts", response_mode="compact", text_qa_template=template
        )
        synthesizer.synthesize(QUESTION, nodes())
        assert tuple(model.seen[-1].emphasized()) == emphasized
    assert model.seen[-1].text.endswith("Be brief.")
    synthesizer.update_prompts({"text_qa_template": PromptTemplate("New: {context_str}")})
    synthesizer.synthesize(QUESTION, nodes())
    assert model.seen[-1].text.startswith("New: ")
    assert tuple(model.seen[-1].emphasized()) == tuple(FACTS)


def test_a_template_that_drops_emphasis_works_with_a_warning(model: SpyModel) -> None:
    synthesizer = EmphasisSynthesizer(
        PastaLLM(model, max_new_tokens=4),
        "facts",
        response_mode="compact",
        text_qa_template=RichPromptTemplate("{{ context_str }} {{ query_str }}"),
    )
    with pytest.warns(
        EmphasisDroppedWarning, match="RichPromptTemplate, drops|RichPromptTemplate drops"
    ) as told:
        synthesizer.synthesize(QUESTION, nodes())
    assert any("text_qa_template" in str(one.message) for one in told)
    assert model.seen[-1].spans == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"response_mode": "shorten"}, "response_mode is 'shorten'; it must be 'documents' or"),
        ({"response_mode": "compact", "chunk": 3}, "takes no 'chunk'"),
        ({"refine_template": PromptTemplate("{a}")}, "takes no 'refine_template' in this"),
    ],
)
def test_unknown_modes_and_arguments_are_refused(
    model: SpyModel, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(EmphasisError, match=message):
        EmphasisSynthesizer(PastaLLM(model), **arguments)


@pytest.mark.parametrize(
    "mode", ["compact", "accumulate", "simple_summarize", "compact_accumulate"]
)
def test_a_template_may_emphasize_what_it_is_given(mode: str, model: SpyModel) -> None:
    template = EmphasisPromptTemplate(
        "{{ query_str }} <% emphasize %>{{ context_str }}<% endemphasize %>"
    )
    llm = PastaLLM(model, max_new_tokens=4)
    synthesizer = EmphasisSynthesizer(llm, "none", template, response_mode=mode)
    synthesizer.synthesize(QUESTION, nodes())
    for read in model.seen:
        (span,) = read.spans
        assert read.text[: span.start] == f"{QUESTION} "
        assert span.end == len(read.text)


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize"])
def test_a_helper_of_llama_index_packs_with_emphasis(mode: str, model: SpyModel) -> None:
    llm = PastaLLM(model, max_new_tokens=4)
    helper = PromptHelper(context_window=1500, num_output=40, tokenizer=llm.tokens_of)
    synthesizer = EmphasisSynthesizer(llm, response_mode=mode, prompt_helper=helper)
    synthesizer.synthesize(QUESTION, nodes())
    assert all(read.spans for read in model.seen)

    class Own(PromptHelper):
        pass

    with pytest.raises(EmphasisError, match="Own may drop emphasis"):
        EmphasisSynthesizer(llm, response_mode=mode, prompt_helper=Own())


def test_generation_asks_without_nodes_too(model: SpyModel) -> None:
    llm = PastaLLM(model, max_new_tokens=4)
    ours = EmphasisSynthesizer(llm, response_mode="generation")
    given: list[NodeWithScore] = []
    for way in ("sync", "async"):
        assert asked(ours, way, given) == asked(core("generation", llm), way, given)
        assert asked(ours, way, given)[1]


def test_objects_are_made_of_documents_too(model: SpyModel) -> None:
    llm = PastaLLM(model, max_new_tokens=30)
    synthesizer = EmphasisSynthesizer(llm, output_cls=Mayor)
    response: Any = synthesizer.synthesize(QUESTION, nodes())
    assert isinstance(response.response, Mayor)
    assert model.seen[-1].spans
    response = asyncio.run(synthesizer.asynthesize(QUESTION, nodes()))
    assert isinstance(response.response, Mayor)


@pytest.mark.parametrize(
    ("mode", "streaming", "message"),
    [
        ("documents", True, "cannot stream objects"),
        ("refine", True, "cannot stream objects"),
    ],
)
def test_objects_that_would_not_come_are_refused(
    mode: str, streaming: bool, message: str, model: SpyModel
) -> None:
    with pytest.raises(EmphasisError, match=message):
        EmphasisSynthesizer(
            PastaLLM(model), response_mode=mode, streaming=streaming, output_cls=Mayor
        )


@pytest.mark.parametrize("mode", ["compact", "no_text", "documents"])
def test_prompts_that_nobody_knows_are_passed_over(mode: str, model: SpyModel) -> None:
    EmphasisSynthesizer(PastaLLM(model), response_mode=mode).update_prompts({"any": "thing"})


@pytest.mark.parametrize("filtering", [True, False])
@pytest.mark.parametrize("streaming", [True, False])
def test_no_error_becomes_an_empty_response(
    filtering: bool, streaming: bool, model: SpyModel
) -> None:
    llm = PastaLLM(model, max_new_tokens=4, generation_arguments={"stop": ""})
    synthesizer = EmphasisSynthesizer(
        llm,
        response_mode="compact",
        structured_answer_filtering=filtering,
        streaming=streaming,
    )
    with pytest.raises(PastaError):
        str(synthesizer.synthesize(QUESTION, nodes()))


@pytest.mark.parametrize("mode", ["documents", *(mode for mode in MODES if mode != "generation")])
def test_the_answer_to_no_nodes_can_be_chosen(mode: str, model: SpyModel) -> None:
    llm = PastaLLM(model, max_new_tokens=4)
    chosen = EmphasisSynthesizer(llm, response_mode=mode, empty_response="Nothing was found.")
    assert str(chosen.synthesize(QUESTION, [])) == "Nothing was found."
    assert str(EmphasisSynthesizer(llm, response_mode=mode).synthesize(QUESTION, [])) == (
        "Empty Response"
    )
    assert not model.seen
