"""Tools that `ChatPasta` may call, from the schema to the message and back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import tiny
import tool_templates
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel
from scripted import Scripted
from typing_extensions import TypedDict

from pasta_chains import HeadProfile, Span, SpanStr, SteeredModel
from pasta_chains.errors import PromptError
from pasta_chains.langchain import ChatPasta, emphasized_content

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 17}}\n</tool_call>'


@tool
def add(a: int) -> int:
    """Add one."""
    return a + 1


@tool
def say(word: str) -> str:
    """Say a word."""
    return word


class Born(BaseModel):
    """Who was born when."""

    year: int


class Lives(TypedDict):
    """Where somebody lives."""

    town: str


@pytest.fixture(scope="module")
def model() -> SteeredModel:
    tokenizer = tool_templates.tokenizer(tool_templates.HERMES)
    made = tiny.llama(vocab_size=len(tokenizer), context=2000)
    return SteeredModel(made, tokenizer, HeadProfile({0: [1, 2], 1: [0]}, alpha=0.02))


@pytest.fixture
def chat(model: SteeredModel) -> ChatPasta:
    return ChatPasta(model=model, max_tokens=60)


def writing(chat: ChatPasta, text: str) -> ChatPasta:
    """A chat model that writes one text, and then ends."""
    scripted = {"logits_processor": [Scripted(chat.model.tokenizer, text)]}
    return chat.model_copy(update={"generation_arguments": scripted, "max_new_tokens": 200})


def called(message: AIMessage) -> list[tuple[str, dict[str, Any]]]:
    return [(call["name"], call["args"]) for call in message.tool_calls]


def test_a_call_is_in_the_message(chat: ChatPasta) -> None:
    answer = writing(chat, f"Well.\n{CALL}").bind_tools([add, say]).invoke("17 + 1?")
    assert answer.content == "Well."
    assert called(answer) == [("add", {"a": 17})]
    assert answer.response_metadata["finish_reason"] == "tool_calls"
    assert answer.usage_metadata is not None
    assert add.invoke(answer.tool_calls[0]).content == "18"


def test_text_that_is_no_call_is_told(chat: ChatPasta) -> None:
    answer = writing(chat, "<tool_call>{add: 17}</tool_call>").bind_tools([add]).invoke("17 + 1?")
    assert answer.tool_calls == []
    (invalid,) = answer.invalid_tool_calls
    assert json.loads(str(invalid["args"])) == "{add: 17}"
    assert "Expecting property name" in str(invalid["error"])
    assert answer.response_metadata["finish_reason"] == "stop"


def test_streams_end_in_the_same_message(chat: ChatPasta) -> None:
    text = f"Well.\n{CALL}\n{CALL.replace('17', '4')}"
    whole = writing(chat, text).bind_tools([add]).invoke("17 + 1?")

    async def astream() -> list[Any]:
        bound = writing(chat, text).bind_tools([add])
        return [chunk async for chunk in bound.astream("17 + 1?")]

    for chunks in (
        [*writing(chat, text).bind_tools([add]).stream("17 + 1?")],
        asyncio.run(astream()),
    ):
        joined = chunks[0]
        for chunk in chunks[1:]:
            joined += chunk
        assert joined.content == whole.content == "Well."
        assert called(joined) == called(whole) == [("add", {"a": 17}), ("add", {"a": 4})]
        assert joined.response_metadata == whole.response_metadata
        assert joined.usage_metadata == whole.usage_metadata
        calls = [chunk.tool_call_chunks for chunk in chunks if chunk.tool_call_chunks]
        assert [(one["name"], one["index"]) for (one,) in calls] == [("add", 0), ("add", 1)]


def test_text_streams_before_a_call_is_whole(chat: ChatPasta) -> None:
    chunks = [*writing(chat, f"The mayor of Tarn.\n{CALL}").bind_tools([add]).stream("1?")]
    with_text = [chunk.content for chunk in chunks if chunk.content]
    assert len(with_text) > 2
    assert "".join(with_text) == "The mayor of Tarn."


def test_a_broken_call_streams_as_one(chat: ChatPasta) -> None:
    chunks = [*writing(chat, "<tool_call>{</tool_call>").bind_tools([add]).stream("1?")]
    joined = chunks[0]
    for chunk in chunks[1:]:
        joined += chunk
    assert joined.tool_calls == []
    assert [json.loads(str(call["args"])) for call in joined.invalid_tool_calls] == ["{"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (tool_templates.LLAMA, '{"name": "add", "parameters": {"a": 17}}'),
        (tool_templates.MISTRAL, '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 17}}]'),
        (tool_templates.MISTRAL_ARGS, '[TOOL_CALLS]add[ARGS]{"a": 17}'),
    ],
    ids=["Llama 3", "Mistral", "Mistral with [ARGS]"],
)
def test_every_format_is_read_also_after_a_call(template: str, text: str) -> None:
    tokenizer = tool_templates.tokenizer(template)
    chat = ChatPasta(
        model=SteeredModel(tiny.llama(vocab_size=len(tokenizer), context=2000), tokenizer)
    )
    first = writing(chat, text).bind_tools([add]).invoke("17 + 1?")
    assert called(first) == [("add", {"a": 17})]
    history = [HumanMessage("17 + 1?"), first, ToolMessage("18", tool_call_id="abcdefghi")]
    second = writing(chat, "It is 18.").bind_tools([add]).invoke(history)
    assert (second.content, second.tool_calls) == ("It is 18.", [])
    assert second.invalid_tool_calls == []


def test_a_user_may_write_of_calls(chat: ChatPasta) -> None:
    answer = writing(chat, "It is a tag.").bind_tools([add]).invoke("What is <tool_call>?")
    assert (answer.content, answer.invalid_tool_calls) == ("It is a tag.", [])


def test_the_model_sees_what_was_to_be_a_call(chat: ChatPasta) -> None:
    broken = writing(chat, "<tool_call>{add: 17}</tool_call>").bind_tools([add]).invoke("1?")
    history = [HumanMessage("1?"), broken, HumanMessage("Again.")]
    prompt = chat._question(history, None, {}).prompt
    assert prompt[1]["content"].text == "{add: 17}"


@pytest.mark.parametrize("choice", ["any", "required", True, {"type": "any"}])
def test_any_tool_is_called_if_one_must_be(chat: ChatPasta, choice: Any) -> None:
    answer = chat.bind_tools([Born, Lives], tool_choice=choice, max_tokens=300).invoke("Tarn?")
    if answer.response_metadata["finish_reason"] == "length":
        (invalid,) = answer.invalid_tool_calls  # a random model may write a text without an end
        assert '"Lives"' in str(invalid["args"])
    else:
        assert [call["name"] for call in answer.tool_calls] in (["Born"], ["Lives"])


@pytest.mark.parametrize(
    "choice",
    [
        "Born",
        {"type": "function", "function": {"name": "Born"}},
        {"type": "function", "name": "Born"},
        {"type": "tool", "name": "Born"},
    ],
)
@pytest.mark.parametrize("several", [None, False])
def test_the_tool_of_a_name_is_called(chat: ChatPasta, choice: Any, several: bool | None) -> None:
    bound = chat.bind_tools(
        [Lives, Born], tool_choice=choice, strict=True, parallel_tool_calls=several, seed=1
    )
    answer = bound.invoke("Tarn?", max_tokens=200, temperature=1)
    if answer.response_metadata["finish_reason"] == "tool_calls":
        assert [call["name"] for call in answer.tool_calls] == ["Born"]
        Born(**answer.tool_calls[0]["args"])
    else:
        assert '"Born"' in str(answer.invalid_tool_calls[0]["args"])


def test_no_tool_is_shown_if_none_is_to_be_called(chat: ChatPasta) -> None:
    text = chat.invoke("Tarn?")
    answer = chat.bind_tools([add], tool_choice="none").invoke("Tarn?")
    assert answer.content == text.content
    assert answer.usage_metadata == text.usage_metadata
    shown = chat.bind_tools([add]).invoke("Tarn?").usage_metadata
    assert shown is not None
    assert text.usage_metadata is not None
    assert shown["input_tokens"] > text.usage_metadata["input_tokens"]


def test_a_conversation_with_calls_goes_through_the_template(chat: ChatPasta) -> None:
    calling = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 17}, "id": "abcdefghi"}])
    messages = [HumanMessage("17 + 1?"), calling, ToolMessage("18", tool_call_id="abcdefghi")]
    count = chat.get_num_tokens_from_messages(messages, tools=[add])
    answer = chat.bind_tools([add]).invoke(messages)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] == count
    assert count > chat.get_num_tokens_from_messages(messages)


def test_emphasis_reaches_the_model_beside_tools(chat: ChatPasta) -> None:
    text = SpanStr("Call add for 17. Or for 4.", [Span(13, 15)])
    marked = [SystemMessage(emphasized_content(text)), HumanMessage("Tarn?")]
    plain = [SystemMessage(text.text), HumanMessage("Tarn?")]
    bound = chat.bind_tools([add])
    assert bound.invoke(marked).content != bound.invoke(plain).content
    assert bound.invoke(marked, disable_steering=True).content == bound.invoke(plain).content


def test_a_batch_calls_tools(chat: ChatPasta) -> None:
    bound = chat.bind_tools([Born], tool_choice="any")
    one_by_one = [bound.invoke(text, max_tokens=150, seed=1) for text in ("Tarn?", "Ada Lowe?")]
    batch = bound.batch(["Tarn?", "Ada Lowe?"], max_tokens=150, seed=1)
    assert [call[0] for one in one_by_one for call in called(one)] == ["Born", "Born"]
    assert [called(one) for one in batch] == [called(one) for one in one_by_one]
    assert [one.content for one in batch] == [one.content for one in one_by_one]


def test_calls_are_cached_by_their_tools(chat: ChatPasta) -> None:
    cached = chat.model_copy(update={"cache": InMemoryCache()})
    with_add, with_say = (cached.bind_tools([one]).invoke("Tarn?") for one in (add, say))
    assert with_add.id != with_say.id
    assert cached.bind_tools([add]).invoke("Tarn?").id == with_add.id


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tool_choice": "subtract"}, "no such tool. It is .* one of 'add'"),
        ({"tool_choice": "any", "structure": object()}, "cannot both call a tool"),
        ({"strict": True}, "set tool_choice"),
        ({"parallel_tool_calls": False}, "set tool_choice"),
    ],
)
def test_arguments_that_cannot_be_kept_are_refused(
    chat: ChatPasta, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        chat.bind_tools([add], **arguments).invoke("Tarn?")


@pytest.mark.parametrize("tools", [[3], [{"type": "web_search"}]])
def test_what_is_no_tool_is_refused(chat: ChatPasta, tools: Any) -> None:
    with pytest.raises(PromptError, match=r"is no tool|is a hosted model's own"):
        chat.bind_tools(tools)


def test_arguments_of_the_call_go_before_generation_arguments(chat: ChatPasta) -> None:
    fields = {"max_new_tokens": 5, "chat_template_kwargs": {"thinks": True}}
    short = chat.model_copy(update={"generation_arguments": fields})
    usage = short.invoke("Tarn?").usage_metadata
    assert usage is not None
    assert usage["output_tokens"] == 5
    usage = short.invoke("Tarn?", max_tokens=7).usage_metadata
    assert usage is not None
    assert usage["output_tokens"] == 7
    assert short.bind_tools([add]).invoke("Tarn?").usage_metadata != usage


@pytest.mark.parametrize("format", ["json_schema", "json_object", "text", "xml"])
def test_response_format_is_that_of_hosted_models(chat: ChatPasta, format: str) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    wanted = {"type": format, "json_schema": {"name": "A", "schema": schema}}
    if format == "xml":
        with pytest.raises(PromptError, match="response_format is"):
            chat.invoke("Tarn?", response_format=wanted)
        return
    answer = chat.invoke("Tarn?", response_format=wanted).content
    if format == "json_schema":
        assert json.loads(answer) in ({"a": 1}, {"a": 2})
    elif format == "json_object":
        assert isinstance(json.loads(answer), dict)
    else:
        assert answer == chat.invoke("Tarn?").content


def test_no_tool_cannot_be_called(chat: ChatPasta) -> None:
    with pytest.raises(PromptError, match="but there is no tool"):
        chat.bind_tools([], tool_choice="any")


def test_a_model_that_knows_no_tools_is_refused_when_they_are_bound() -> None:
    chat = ChatPasta(model=SteeredModel(tiny.llama(), tiny.tokenizer()))
    with pytest.raises(PromptError, match="calls tools in no way that is known"):
        chat.bind_tools([add])


def test_a_schema_that_cannot_be_enforced_is_refused_when_it_is_bound(chat: ChatPasta) -> None:
    schema = {"title": "f", "description": "", "type": "object", "properties": {"a": {"type": 3}}}
    with pytest.raises(PromptError, match="No answer can be given this form"):
        chat.bind_tools([schema], tool_choice="any")


def test_reasoning_is_kept_apart_if_the_tokenizer_says_how(model: SteeredModel) -> None:
    tokenizer = tool_templates.tokenizer(tool_templates.HERMES)
    tokenizer.response_template = {
        "start_anchor": "<assistant>",
        "fields": {
            "reasoning_content": {"open": "<think>", "close": "</think>", "content": "text"},
            "content": {"content": "text"},
        },
    }
    steered = SteeredModel(tiny.llama(vocab_size=len(tokenizer), context=2000), tokenizer)
    chat = ChatPasta(model=steered)
    answer = writing(chat, "<think>Hm. So.</think>Well.").bind_tools([add]).invoke("1?")
    assert answer.content == "Well."
    assert answer.additional_kwargs == {"reasoning_content": "Hm. So."}
    chunks = [*writing(chat, "<think>Hm. So.</think>Well.").bind_tools([add]).stream("1?")]
    joined = chunks[0]
    for chunk in chunks[1:]:
        joined += chunk
    assert joined.additional_kwargs == answer.additional_kwargs
