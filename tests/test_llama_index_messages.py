"""Messages with emphasis: in templates, in memories and stores, and in what traces see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tiny
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.callbacks import CallbackManager, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.llm import LLMChatStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate, RichPromptTemplate
from llama_index.core.types import BaseOutputParser
from pydantic import BaseModel, Field
from scripted import Scripted
from spy import SpyModel

from pasta_chains import HeadProfile, SpanStr, emphasize
from pasta_chains.errors import EmphasisDroppedWarning, EmphasisError, PromptError
from pasta_chains.llama_index import (
    EmphasisEvent,
    EmphasisPromptTemplate,
    EmphasisTextBlock,
    PastaLLM,
    emphasized_message,
)

RULE = "Never " + emphasize("guess", alpha=0.1, name="rule") + "."
CHAT = (
    '{% chat role="system" %}Never <% emphasize %>{{ verb }}<% endemphasize %>.{% endchat %}'
    '{% chat role="user" %}{{ question }}{% endchat %}'
)


class Mayor(BaseModel):
    """Who the mayor is."""

    name: str = Field(max_length=6)


@pytest.fixture
def model() -> SpyModel:
    return SpyModel(tiny.llama(context=2048), tiny.tokenizer(), HeadProfile({1: [0, 3], 2: [1]}))


@pytest.fixture
def llm(model: SpyModel) -> PastaLLM:
    return PastaLLM(model, max_new_tokens=4, use_chat_template=True)


def emphasized(text: SpanStr) -> list[tuple[str, float | None, str | None]]:
    return [(text.text[span.start : span.end], span.alpha, span.name) for span in text.spans]


def test_blocks_of_a_template_are_messages(llm: PastaLLM, model: SpyModel) -> None:
    template = EmphasisPromptTemplate(CHAT, verb="guess")
    system, user = template.format_messages(question="Who?")
    assert (system.role, user.role) == (MessageRole.SYSTEM, MessageRole.USER)
    assert (system.content, user.content) == ("Never guess.", "Who?")
    llm.predict(template, question="Who?")
    assert emphasized(model.seen[-1]) == [("guess", None, None)]
    assert template.template_vars == ["question", "verb"]


def test_a_model_without_chat_reads_lines(model: SpyModel) -> None:
    template = EmphasisPromptTemplate(CHAT)
    PastaLLM(model, max_new_tokens=4).predict(template, verb="guess", question="Who?")
    text = "system: Never guess.\nuser: Who?\nassistant: "
    assert model.seen[-1].text == text
    assert emphasized(model.seen[-1]) == [("guess", None, None)]
    core = ChatPromptTemplate.from_messages([("system", "Never guess."), ("user", "Who?")])
    assert core.format() == text


class Instructing(BaseOutputParser):
    def parse(self, output: str) -> Any:
        return output

    def format(self, query: str) -> str:
        return query + " In JSON."


def test_an_output_parser_instructs_the_message_that_llama_index_picks() -> None:
    for source in (CHAT, CHAT.replace("system", "user")):
        template = EmphasisPromptTemplate(source, verb="guess", output_parser=Instructing())
        ours = template.format_messages(question="Who?")
        first = "system" if source is CHAT else "user"
        core = ChatPromptTemplate.from_messages(
            [(first, "Never guess."), ("user", "Who?")], output_parser=Instructing()
        )
        assert [m.content for m in ours] == [m.content for m in core.format_messages()]
        assert isinstance(ours[0].blocks[0], EmphasisTextBlock)


def test_a_role_that_nobody_knows_is_refused() -> None:
    template = EmphasisPromptTemplate('{% chat role="boss" %}A{% endchat %}')
    with pytest.raises(PromptError, match=r"'boss'; it is system, .*user"):
        template.format_messages()


async def _in_sql(message: ChatMessage) -> list[ChatMessage]:
    memory = Memory.from_defaults(session_id="one", token_limit=500)
    await memory.aput(message)
    found = await memory.aget()
    await memory.sql_store._async_engine.dispose()
    return found


# SimpleChatStore cannot be written at all with pydantic 2.14, emphasis or not.
def test_memories_and_stores_keep_emphasis(llm: PastaLLM, model: SpyModel) -> None:
    message = emphasized_message(RULE, "system")
    kept: list[ChatMessage] = []

    buffer = ChatMemoryBuffer.from_defaults(token_limit=500)
    buffer.put(message)
    kept += buffer.get()

    kept += asyncio.run(_in_sql(message))

    kept.append(ChatMessage.model_validate_json(message.model_dump_json()))
    assert len(kept) == 3
    for one in kept:
        llm.chat([one, ChatMessage("Who?")])
        assert emphasized(model.seen[-1]) == [("guess", 0.1, "rule")]


def test_a_stored_message_whose_text_was_changed_is_refused(llm: PastaLLM) -> None:
    stored = ChatMessage.model_validate_json(emphasized_message(RULE, "system").model_dump_json())
    stored.content = "Always guess."
    with pytest.raises(EmphasisError, match=r"changed after its emphasis.*emphasized_message"):
        llm.chat([stored])


def test_a_message_without_emphasis_is_llama_indexs() -> None:
    assert emphasized_message("Who?") == ChatMessage("Who?")


def test_stored_messages_are_templates(llm: PastaLLM, model: SpyModel) -> None:
    stored = ChatMessage.model_validate_json(
        emphasized_message(emphasize("Never") + " {verb}.", "system").model_dump_json()
    )
    template = ChatPromptTemplate(message_templates=[stored, ChatMessage("Who?")])
    text = llm.structured_predict(Mayor, template, verb="guess", llm_kwargs={"max_new_tokens": 30})
    assert isinstance(text, Mayor)
    assert "Never guess." in model.seen[-1].text
    assert emphasized(model.seen[-1]) == [("Never", None, None)]


def test_a_message_of_something_else_is_refused(llm: PastaLLM) -> None:
    picture = ChatMessage(blocks=[TextBlock(text="What is this?"), ImageBlock(image=b"abcd")])
    with pytest.raises(PromptError, match="user message has a block of type 'image'"):
        llm.chat([picture])


def test_no_message_is_refused(llm: PastaLLM) -> None:
    with pytest.raises(PromptError, match="no message"):
        llm.chat([])


@pytest.mark.parametrize("chat", [True, False])
def test_templates_of_llama_index_keep_what_they_are_filled_with(
    model: SpyModel, chat: bool
) -> None:
    llm = PastaLLM(model, max_new_tokens=4, use_chat_template=chat)
    llm.predict(PromptTemplate("Is it {name}?"), name=emphasize("Ada"))
    assert emphasized(model.seen[-1]) == [("Ada", None, None)]
    messages = ChatPromptTemplate([_stored(), ChatMessage("Is it {name}?")])
    llm.predict(messages, name=emphasize("Ada"))
    assert emphasized(model.seen[-1]) == [("guess", 0.1, "rule"), ("Ada", None, None)]
    assert "emphasis" not in model.seen[-1].text
    with pytest.warns(EmphasisDroppedWarning, match="RichPromptTemplate drops emphasis"):
        llm.predict(RichPromptTemplate("Is it {{ name }}?"), name=emphasize("Ada"))


def _stored() -> ChatMessage:
    return ChatMessage.model_validate_json(emphasized_message(RULE, "system").model_dump_json())


def test_memories_may_put_text_beside_a_message(llm: PastaLLM, model: SpyModel) -> None:
    stored = _stored()
    stored.blocks = [TextBlock(text="What you know: nothing."), *stored.blocks]
    llm.chat([stored])
    assert emphasized(model.seen[-1]) == [("guess", 0.1, "rule")]


def test_only_classes_make_objects(llm: PastaLLM) -> None:
    with pytest.raises(PromptError, match="must be a pydantic class"):
        llm.structured_predict(dict, PromptTemplate("Who?"))


class Events(BaseEventHandler):
    seen: list[Any] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "events"

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.seen.append(event)


@pytest.fixture
def events() -> Any:
    handler, dispatcher = Events(), get_dispatcher()
    before = list(dispatcher.event_handlers)
    dispatcher.add_event_handler(handler)
    yield handler
    dispatcher.event_handlers = before


def test_traces_are_told_of_emphasis(llm: PastaLLM, model: SpyModel, events: Events) -> None:
    async def ask() -> None:
        await llm.achat([emphasized_message(RULE, "system")])
        stream = await PastaLLM(model, max_new_tokens=4).astream_complete(RULE)
        assert [piece async for piece in stream]

    list(llm.stream_chat([emphasized_message(RULE, "system")]))
    PastaLLM(model, max_new_tokens=4).complete(RULE)
    asyncio.run(ask())
    told = [event for event in events.seen if isinstance(event, EmphasisEvent)]
    (text,) = told[0].texts
    assert [event.texts[0]["role"] for event in told] == ["system", None, "system", None]
    assert all(SpanStr.from_dict(_without_role(event.texts[0])) == RULE for event in told)
    assert text["spans"][0]["name"] == "rule"
    start = next(event for event in events.seen if isinstance(event, LLMChatStartEvent))
    assert told[0].span_id == start.span_id
    llm.chat([ChatMessage("Who?")])
    assert sum(isinstance(event, EmphasisEvent) for event in events.seen) == 4


def _without_role(text: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in text.items() if name != "role"}


def test_callbacks_see_emphasis(model: SpyModel) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = PastaLLM(model, max_new_tokens=4, callback_manager=CallbackManager([debug]))
    llm.complete(RULE)
    ((start, _),) = debug.get_llm_inputs_outputs()
    assert emphasized(start.payload[EventPayload.PROMPT]) == [("guess", 0.1, "rule")]


@pytest.mark.parametrize("chat", [True, False])
def test_streams_of_objects_grow(model: SpyModel, chat: bool) -> None:
    text = '{"name": "Ada"}'
    scripted = {"logits_processor": [Scripted(model.tokenizer, text)]}
    llm = PastaLLM(model, use_chat_template=chat, max_new_tokens=30, generation_arguments=scripted)
    template = EmphasisPromptTemplate(CHAT, verb="guess", question="Who?")
    grown = list(llm.stream_structured_predict(Mayor, template))
    assert len(grown) > 1
    assert grown[-1] == Mayor(name="Ada")
    assert emphasized(model.seen[-1]) == [("guess", None, None)]

    async def asked() -> list[Any]:
        again = {"logits_processor": [Scripted(model.tokenizer, text)]}
        fresh = llm.model_copy(update={"generation_arguments": again})
        stream = await fresh.astream_structured_predict(Mayor, template)
        return [found async for found in stream]

    assert asyncio.run(asked())[-1] == Mayor(name="Ada")


# LlamaIndex writes the objects of a stream with pydantic's old json().
@pytest.mark.filterwarnings("ignore:The `json:pydantic.warnings.PydanticDeprecatedSince20")
def test_a_structured_llm_keeps_emphasis(model: SpyModel) -> None:
    llm = PastaLLM(model, use_chat_template=True, max_new_tokens=40).as_structured_llm(Mayor)
    response = llm.chat([emphasized_message(RULE, "system"), ChatMessage("Who {is} it?")])
    assert isinstance(response.raw, Mayor)
    assert emphasized(model.seen[-1]) == [("guess", 0.1, "rule")]
    assert "Who {is} it?" in model.seen[-1].text
    *_, last = llm.stream_chat([emphasized_message(RULE, "system"), ChatMessage("Who?")])
    assert isinstance(last.raw, Mayor)
    assert emphasized(model.seen[-1]) == [("guess", 0.1, "rule")]


def test_the_last_response_of_a_stream_tells_how_it_ended(llm: PastaLLM, model: SpyModel) -> None:
    *_, chat = llm.stream_chat([ChatMessage("Who?")])
    *_, completion = PastaLLM(model, max_new_tokens=4).stream_complete("Who?")
    for response in (chat, completion):
        assert response.additional_kwargs["completion_tokens"] == 4
        assert response.additional_kwargs["finish_reason"] == "length"


def test_other_models_read_the_characters() -> None:
    template = EmphasisPromptTemplate(CHAT, verb="guess")
    assert "Never guess." in MockLLM().predict(template, question="Who?")
    message = template.format_messages(question="Who?")[0]
    assert message.model_dump()["blocks"] == [{"block_type": "text", "text": "Never guess."}]
    assert not message.additional_kwargs  # hosted models refuse what they do not know
