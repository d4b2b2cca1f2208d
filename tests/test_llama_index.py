"""Emphasis reaches the model through LlamaIndex, exactly, or is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tiny
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate, RichPromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.types import BaseOutputParser
from spy import SpyModel

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import (
    EmphasisError,
    NothingEmphasizedWarning,
    PromptError,
    UnsupportedModelError,
)
from pasta_chains.llama_index import (
    EmphasisPromptTemplate,
    EmphasisSynthesizer,
    EmphasisTextBlock,
    PastaLLM,
)
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr, emphasize

QUESTION = "Who is the mayor of Tarn?"
TEXTS = ["The mayor of Tarn is Ada Lowe.", "The mayor of Tarn is Bo Marsh."]


@pytest.fixture
def model() -> SpyModel:
    # Core synthesizers keep 500 tokens of the context to themselves.
    return SpyModel(tiny.llama(context=2048), tiny.tokenizer(), HeadProfile({1: [0, 3], 2: [1]}))


def llm_of(model: SteeredModel, **fields: Any) -> PastaLLM:
    return PastaLLM(model, max_new_tokens=6, **fields)


def nodes(**metadata: Any) -> list[NodeWithScore]:
    made = []
    for number, text in enumerate(TEXTS):
        fields = {"trusted": number == 1, **metadata}
        node = TextNode(text=text, metadata=fields, excluded_llm_metadata_keys=["trusted"])
        made.append(NodeWithScore(node=node, score=1.0))
    return made


class Fixed(BaseRetriever):
    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return nodes()


def test_template_renders_spans_to_text_and_to_messages() -> None:
    template = EmphasisPromptTemplate("Rule: <% emphasize %>{{ rule }}<% endemphasize %>. {{ x }}")
    assert template.template_vars == ["rule", "x"]
    assert template.get_template().startswith("Rule: <%")
    text = template.partial_format(rule="be brief").format(x="Hi")
    assert (text, text.spans) == ("Rule: be brief. Hi", (Span(6, 14),))
    (message,) = template.format_messages(rule="be brief", x="Hi")
    (block,) = message.blocks
    assert isinstance(block, EmphasisTextBlock)
    assert block.to_text().spans == text.spans
    assert message.role == MessageRole.USER


def test_partial_format_leaves_the_original_alone() -> None:
    template = EmphasisPromptTemplate("{{ a }} {{ b }}")
    assert template.partial_format(a="1").partial_format(b="2").format() == "1 2"
    assert template.kwargs == {}


def test_template_maps_variables_and_functions() -> None:
    template = EmphasisPromptTemplate(
        "{{ context }} {{ shout }}",
        template_var_mappings={"context_str": "context"},
        function_mappings={"shout": lambda **given: given["context_str"].upper()},
    )
    assert template.format(context_str="hi") == "hi HI"


def test_fixed_text_keeps_its_emphasis_when_all_variables_are_empty() -> None:
    template = EmphasisPromptTemplate(
        "<% emphasize alpha=0.1 %>Be brief.<% endemphasize %>{{ a | emphasize }}"
        "<% deemphasize %>{{ a }}<% enddeemphasize %>"
    )
    text = template.format(a="")
    assert (text, text.spans) == ("Be brief.", (Span(0, 9, 0.1),))
    with pytest.raises(EmphasisError, match="marks no text"):
        template.format(a="", b="x")


class Interpolating(BaseOutputParser):
    """Builds a new text, in which the emphasis is lost."""

    def parse(self, output: str) -> str:
        return output

    def format(self, query: str) -> str:
        return f"{SpanStr(query).text}\nAnswer in JSON."


class Adding(Interpolating):
    def format(self, query: str) -> str:
        return query + "\nAnswer in JSON."


class AddingBefore(Interpolating):
    def format(self, query: str) -> str:
        return "Answer in JSON.\n" + query


def test_an_output_parser_of_the_template_must_keep_emphasis() -> None:
    source = "The <% emphasize %>mayor<% endemphasize %>"
    kept = EmphasisPromptTemplate(source, output_parser=AddingBefore()).format()
    assert (kept, kept.emphasized()) == ("Answer in JSON.\nThe mayor", ("mayor",))
    with pytest.raises(EmphasisError, match="output parser Interpolating drops"):
        EmphasisPromptTemplate(source, output_parser=Interpolating()).format()
    assert EmphasisPromptTemplate("The mayor", output_parser=Interpolating()).format()


def test_an_output_parser_of_the_model_must_keep_emphasis(model: SpyModel) -> None:
    template = EmphasisPromptTemplate("The <% emphasize %>mayor<% endemphasize %>")
    for parser in (Adding(), AddingBefore()):
        llm_of(model, output_parser=parser).predict(template)
        assert model.seen[-1].emphasized() == ("mayor",)
    with pytest.raises(EmphasisError, match="output parser Interpolating drops"):
        llm_of(model, output_parser=Interpolating()).predict(template)
    llm_of(model, output_parser=Adding(), use_chat_template=True).predict(template)
    assert model.seen[-1].emphasized() == ("mayor",)
    with pytest.raises(EmphasisError, match="can only be added to"):
        llm_of(model, output_parser=AddingBefore(), use_chat_template=True).predict(template)


def test_complete_and_stream_give_what_the_model_gives(model: SpyModel) -> None:
    prompt = "The mayor is " + emphasize("Ada Lowe") + "."
    llm = llm_of(model)
    direct = model.generate(prompt, max_new_tokens=6)
    assert llm.complete(prompt).text == direct
    assert list(llm.stream_complete(prompt))[-1].text == direct
    assert "".join(part.delta or "" for part in llm.stream_complete(prompt)) == direct
    assert asyncio.run(llm.acomplete(prompt)).text == direct
    assert {text.spans for text in model.seen} == {prompt.spans}
    usage = llm.complete(prompt).additional_kwargs
    assert usage["prompt_tokens"] == model.count_tokens(prompt)


def test_chat_goes_through_the_chat_template(model: SpyModel) -> None:
    content = "Believe " + emphasize("Ada Lowe") + " only."
    message = ChatMessage(role="user", blocks=[EmphasisTextBlock.from_text(content)])
    llm = llm_of(model, use_chat_template=True)
    direct = model.generate([{"role": "user", "content": content}], max_new_tokens=6)
    assert llm.chat([message]).message.content == direct
    assert list(llm.stream_chat([message]))[-1].message.content == direct
    assert llm.complete(content).text == direct
    assert llm.predict(EmphasisPromptTemplate("{{ x }}"), x=content) == direct
    assert {text.emphasized() for text in model.seen} == {("Ada Lowe",)}
    assert llm.metadata.is_chat_model


def test_a_message_of_several_blocks_keeps_each_ones_emphasis(model: SpyModel) -> None:
    blocks = [TextBlock(text="Ada?"), EmphasisTextBlock.from_text(emphasize("Bo Marsh"))]
    llm_of(model).chat([ChatMessage(role="user", blocks=blocks)])
    assert model.seen[-1].emphasized() == ("Bo Marsh",)
    assert "Ada?\nBo Marsh" in model.seen[-1]


def test_messages_with_images_are_refused(model: SpyModel) -> None:
    with pytest.raises(PromptError, match="text only"):
        llm_of(model).chat([ChatMessage(role="user", blocks=[ImageBlock(image=b"x")])])


def test_emphasis_block_survives_copies() -> None:
    block = EmphasisTextBlock.from_text("a " + emphasize("b", alpha=0.5))
    message = ChatMessage(role="user", blocks=[block])
    (copied,) = message.model_copy(deep=True).blocks
    assert isinstance(copied, EmphasisTextBlock)
    assert copied.to_text().spans == (Span(2, 3, 0.5),)


def test_system_prompt_shifts_spans(model: SpyModel) -> None:
    llm = llm_of(model, system_prompt="Be brief.")
    llm.predict(EmphasisPromptTemplate("The <% emphasize %>mayor<% endemphasize %>"))
    assert model.seen[-1].emphasized() == ("mayor",)
    assert model.seen[-1] == "Be brief.\n\nThe mayor"


def test_a_system_prompt_with_emphasis_is_refused(model: SpyModel) -> None:
    with pytest.raises(EmphasisError, match="Put the emphasized text into an Emphasis"):
        llm_of(model, system_prompt=emphasize("Be brief."))
    assert llm_of(model, system_prompt=SpanStr("Be brief.")).system_prompt == "Be brief."


def test_a_query_wrapper_that_drops_emphasis_is_refused(model: SpyModel) -> None:
    template = EmphasisPromptTemplate("The <% emphasize %>mayor<% endemphasize %>")
    losing = llm_of(model, query_wrapper_prompt=PromptTemplate("Q: {query_str}"))
    with pytest.raises(EmphasisError, match="query_wrapper_prompt drops"):
        losing.predict(template)
    keeping = llm_of(model, query_wrapper_prompt=EmphasisPromptTemplate("Q: {{ query_str }}"))
    keeping.predict(template)
    assert model.seen[-1].emphasized() == ("mayor",)


def test_metadata_tells_the_context(model: SpyModel) -> None:
    metadata = llm_of(model).metadata
    assert (metadata.context_window, metadata.num_output) == (2048, 6)
    assert not metadata.is_chat_model


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("context", tuple(TEXTS)),
        ("trusted", (TEXTS[1],)),
        (lambda node, query: [(21, 29)] if "Ada" in node.text else [], ("Ada Lowe",)),
    ],
)
def test_policies_emphasize_in_the_prompt(model: SpyModel, policy: Any, expected: Any) -> None:
    engine = RetrieverQueryEngine(Fixed(), EmphasisSynthesizer(llm_of(model), policy))
    response = engine.query(QUESTION)
    (text,) = model.seen
    assert text.emphasized() == expected
    assert str(response) == model.generate(text, max_new_tokens=6)
    assert [node.text for node in response.source_nodes] == TEXTS


@pytest.mark.parametrize("streaming", [False, True])
def test_engine_answers_alike_in_every_way(model: SpyModel, streaming: bool) -> None:
    expected = str(
        RetrieverQueryEngine(Fixed(), EmphasisSynthesizer(llm_of(model))).query(QUESTION)
    )
    synthesizer = EmphasisSynthesizer(llm_of(model), streaming=streaming)
    engine = RetrieverQueryEngine(Fixed(), synthesizer)
    assert str(engine.query(QUESTION)) == expected

    async def ask() -> str:
        response = await engine.aquery(QUESTION)
        return str(await response.get_response() if streaming else response)

    assert asyncio.run(ask()) == expected
    assert len({text.spans for text in model.seen}) == 1


def test_metadata_before_the_text_shifts_its_spans(model: SpyModel) -> None:
    synthesizer = EmphasisSynthesizer(llm_of(model), lambda node, query: [(21, 29)])
    given = nodes(title="Tarn Post")
    synthesizer.synthesize(QUESTION, given)
    assert given[0].node.get_content(metadata_mode=MetadataMode.LLM) in model.seen[-1]
    assert "title: Tarn Post" in model.seen[-1]
    assert model.seen[-1].emphasized() == ("Ada Lowe", "Bo Marsh")


def test_own_template_gets_context_and_query(model: SpyModel) -> None:
    template = EmphasisPromptTemplate("{{ context_str }}\n{{ query_str }}")
    synthesizer = EmphasisSynthesizer(llm_of(model), "trusted")
    synthesizer.update_prompts({"text_qa_template": template})
    assert synthesizer.get_prompts()["text_qa_template"] == template
    synthesizer.synthesize(QUESTION, nodes())
    assert model.seen[-1] == f"{TEXTS[0]}\n\n{TEXTS[1]}\n{QUESTION}"
    assert model.seen[-1].emphasized() == (TEXTS[1],)


LOSING_TEMPLATES = {
    "PromptTemplate": PromptTemplate("{context_str} {query_str}"),
    "RichPromptTemplate": RichPromptTemplate("{{ context_str }} {{ query_str }}"),
    "EmphasisPromptTemplate": EmphasisPromptTemplate(
        "<% emphasize %>Be brief.<% endemphasize %> <% emphasize %>{{ question }}<% endemphasize %>"
    ),
}


@pytest.mark.parametrize("name", LOSING_TEMPLATES)
@pytest.mark.parametrize("use_chat_template", [False, True])
def test_a_template_that_drops_emphasis_is_refused(
    model: SpyModel, name: str, use_chat_template: bool
) -> None:
    synthesizer = EmphasisSynthesizer(
        llm_of(model, use_chat_template=use_chat_template),
        text_qa_template=LOSING_TEMPLATES[name],
    )
    with pytest.raises(EmphasisError, match=f"text_qa_template, a {name}, drops emphasis"):
        synthesizer.synthesize(QUESTION, nodes())
    with pytest.raises(EmphasisError, match="prints the text of all documents, or context_str"):
        asyncio.run(synthesizer.asynthesize(QUESTION, nodes()))
    assert model.seen == []


def test_any_template_will_do_where_nothing_is_emphasized(model: SpyModel) -> None:
    template = LOSING_TEMPLATES["PromptTemplate"]
    synthesizer = EmphasisSynthesizer(llm_of(model), lambda node, query: [], template)
    with pytest.warns(NothingEmphasizedWarning, match="Nothing in 2 nodes was emphasized"):
        synthesizer.synthesize(QUESTION, nodes())
    assert model.seen[-1] == f"{TEXTS[0]}\n\n{TEXTS[1]} {QUESTION}"


@pytest.mark.parametrize("trusted", ["false", "yes", 1, None])
def test_trusted_is_true_or_false(model: SpyModel, trusted: object) -> None:
    given = nodes(trusted=trusted)
    synthesizer = EmphasisSynthesizer(llm_of(model), "trusted")
    with pytest.raises(
        EmphasisError, match=f"{given[0].node.node_id} has trusted={trusted!r}; it must be True"
    ):
        synthesizer.synthesize(QUESTION, given)


def test_a_node_that_does_not_say_trusted_is_not(model: SpyModel) -> None:
    given = nodes()
    del given[0].node.metadata["trusted"]
    EmphasisSynthesizer(llm_of(model), "trusted").synthesize(QUESTION, given)
    assert model.seen[-1].emphasized() == (TEXTS[1],)


@pytest.mark.parametrize("spans", [None, 5, [5], [(0,)]])
def test_a_function_that_returns_no_spans_is_refused(model: SpyModel, spans: Any) -> None:
    given = nodes()
    synthesizer = EmphasisSynthesizer(llm_of(model), lambda node, query: spans)
    with pytest.raises(EmphasisError, match=f"Node {given[0].node.node_id} cannot .* not "):
        synthesizer.synthesize(QUESTION, given)


def test_no_nodes_give_the_empty_response(model: SpyModel) -> None:
    assert str(EmphasisSynthesizer(llm_of(model)).synthesize(QUESTION, [])) == "Empty Response"
    assert model.seen == []


def test_template_works_in_core_synthesizers(model: SpyModel) -> None:
    template = EmphasisPromptTemplate(
        "{{ context_str }} <% emphasize %>{{ query_str }}<% endemphasize %>"
    )
    core = get_response_synthesizer(llm=llm_of(model), text_qa_template=template)
    core.synthesize(QUESTION, nodes())
    assert model.seen[-1].emphasized() == (QUESTION,)


def test_another_model_or_policy_is_refused(model: SpyModel) -> None:
    with pytest.raises(UnsupportedModelError, match="MockLLM would lose the emphasis"):
        EmphasisSynthesizer(MockLLM(), strict=True)
    with pytest.raises(EmphasisError, match=r"it must be one of 'context', .*'metadata'"):
        EmphasisSynthesizer(llm_of(model), "fact")  # type: ignore[arg-type]  # wrong on purpose


def test_spans_outside_a_node_are_refused(model: SpyModel) -> None:
    synthesizer = EmphasisSynthesizer(llm_of(model), lambda node, query: [(0, 999)])
    with pytest.raises(EmphasisError, match="reaches beyond the text"):
        synthesizer.synthesize(QUESTION, nodes())
