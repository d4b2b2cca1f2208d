"""Calls of tools in the text of each known format: read, and brought about."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiny
import tool_templates
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Scripted

from pasta_chains import HeadProfile, Span, SpanStr, SteeredModel
from pasta_chains.attention import BIAS
from pasta_chains.errors import PromptError
from pasta_chains.tool_calls import (
    InvalidToolCall,
    OtherText,
    ToolCall,
    ToolReader,
    read_answer,
)
from pasta_chains.tool_formats import ToolFormat, tool_format

TEMPLATES = {
    "Hermes and Qwen": tool_templates.HERMES,
    "Qwen with parameters in tags": tool_templates.QWEN_XML,
    "Llama 3": tool_templates.LLAMA,
    "Mistral": tool_templates.MISTRAL,
    "Mistral with [ARGS]": tool_templates.MISTRAL_ARGS,
}


def add(a: int, note: str = "") -> int:
    """Add one.

    Args:
        a: A number.
        note: Any text.
    """
    return a + 1


def tool(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": [*properties]}
    parameters["additionalProperties"] = False
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


ADD = tool("add", {"a": {"type": "integer", "enum": [17, 230]}})
SAY = tool("say", {"word": {"enum": ["Tarn", "Ada"]}})


def format_of(template: str) -> ToolFormat:
    return tool_format(tool_templates.tokenizer(template))


def read(template: str, text: str, tools: list[Any] | None = None) -> list[Any]:
    return joined(read_answer(ToolReader(format_of(template), tools or [ADD, SAY]), text))


def joined(pieces: list[Any]) -> list[Any]:
    """The pieces, text put together and calls without their ids."""
    found: list[Any] = []
    for piece in pieces:
        if isinstance(piece, ToolCall):
            found.append((piece.name, piece.arguments))
        elif isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return found


@pytest.mark.parametrize(("name", "template"), TEMPLATES.items())
def test_the_format_is_told_by_the_chat_template(name: str, template: str) -> None:
    assert format_of(template).name == name


def test_a_template_without_tools_is_refused() -> None:
    with pytest.raises(PromptError, match="calls tools in no way that is known"):
        tool_format(tiny.tokenizer())
    without = tiny.tokenizer()
    without.chat_template = None
    with pytest.raises(PromptError, match="calls tools in no way"):
        tool_format(without)


CALL = '{"name": "add", "arguments": {"a": 17}}'
LLAMA_CALL = '{"name": "add", "parameters": {"a": 17}}'
ADDED = ("add", {"a": 17})


@pytest.mark.parametrize(
    ("template", "text", "pieces"),
    [
        (tool_templates.HERMES, "No call.", ["No call."]),
        (tool_templates.HERMES, f"<tool_call>\n{CALL}\n</tool_call>", [ADDED]),
        (tool_templates.HERMES, f"Well.\n<tool_call>{CALL}</tool_call>", ["Well.", ADDED]),
        (
            tool_templates.HERMES,
            f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>",
            [ADDED, ADDED],
        ),
        (
            tool_templates.QWEN_XML,
            "Well.\n\n<tool_call>\n<function=add>\n<parameter=a>\n17\n</parameter>\n"
            "<parameter=note>\ntwo\nlines\n</parameter>\n</function>\n</tool_call>",
            ["Well.", ("add", {"a": 17, "note": "two\nlines"})],
        ),
        (
            tool_templates.HERMES,
            f"<think>Not <tool_call>{CALL}</tool_call>.</think>\n<tool_call>{CALL}</tool_call>",
            [f"<think>Not <tool_call>{CALL}</tool_call>.</think>", ADDED],
        ),
        (
            tool_templates.HERMES,
            '<tool_call>{"name": "add", "arguments": null}</tool_call>',
            [("add", {})],
        ),
        (tool_templates.LLAMA, '{"name": "Ada Lowe"}', ['{"name": "Ada Lowe"}']),
        (tool_templates.LLAMA, '{"city": "Tarn"}', ['{"city": "Tarn"}']),
        (tool_templates.LLAMA, f"\n\n{LLAMA_CALL}", [ADDED]),
        (tool_templates.LLAMA, LLAMA_CALL, [ADDED]),
        (tool_templates.LLAMA, f"<|python_tag|>{LLAMA_CALL}; {LLAMA_CALL}", [ADDED, ADDED]),
        (tool_templates.LLAMA, "A set is {1, 2}.", ["A set is {1, 2}."]),
        (tool_templates.MISTRAL, f"[TOOL_CALLS] [{CALL}, {CALL}]", [ADDED, ADDED]),
        (tool_templates.MISTRAL, f"[TOOL_CALLS][{CALL}]", [ADDED]),
        (tool_templates.MISTRAL_ARGS, '[TOOL_CALLS]add[ARGS]{"a": 17}', [ADDED]),
        (
            tool_templates.MISTRAL_ARGS,
            'Well.[TOOL_CALLS]add[ARGS]{"a": 17}[TOOL_CALLS]say[CALL_ID]x1[ARGS]{"word": "Ada"}',
            ["Well.", ADDED, ("say", {"word": "Ada"})],
        ),
    ],
)
def test_calls_and_text_are_told_apart(template: str, text: str, pieces: list[Any]) -> None:
    schema = tool("add", {"a": {"type": "integer"}, "note": {"type": "string"}})
    assert read(template, text, [schema, SAY]) == pieces


@pytest.mark.parametrize(
    ("template", "text", "error"),
    [
        (tool_templates.HERMES, "<tool_call>{'name'}</tool_call>", "Expecting property name"),
        (tool_templates.HERMES, f"<tool_call>{CALL[:-3]}", "Expecting"),  # cut off
        (tool_templates.HERMES, "<tool_call></tool_call>", "is empty"),
        (
            tool_templates.QWEN_XML,
            "<tool_call>\n<function=add>\n<parameter=a>\n17\n</parameter>\n<parameter=note>\nta",
            "breaks off",
        ),
        (tool_templates.LLAMA, LLAMA_CALL[:-4], "Expecting"),
        (tool_templates.HERMES, "<tool_call>[17]</tool_call>", "17 is no call"),
        (tool_templates.HERMES, '<tool_call>{"arguments": {}}</tool_call>', "not name a tool"),
        (tool_templates.HERMES, '<tool_call>{"name": "f", "arguments": 3}</tool_call>', "are 3"),
        (tool_templates.LLAMA, '<|python_tag|>search.call("Tarn")', "Expecting value"),
        (tool_templates.MISTRAL_ARGS, '[TOOL_CALLS]add[ARGS]{"a": ', "Expecting value"),
    ],
)
def test_what_is_no_call_is_told(template: str, text: str, error: str) -> None:
    (piece,) = read(template, text)
    assert isinstance(piece, InvalidToolCall)
    assert error in piece.error
    assert piece.text in text


def test_arguments_may_be_json_in_a_string() -> None:
    text = '<tool_call>{"name": "add", "arguments": "{\\"a\\": 17}"}</tool_call>'
    assert read(tool_templates.HERMES, text) == [ADDED]


def test_the_id_of_a_call_is_nine_letters_and_digits() -> None:
    reader = ToolReader(format_of(tool_templates.HERMES), [ADD])
    calls = read_answer(reader, f"<tool_call>{CALL}</tool_call>" * 2)
    ids = {piece.id for piece in calls if isinstance(piece, ToolCall)}
    assert len(ids) == 2
    assert all(len(one) == 9 and one.isascii() and one.isalnum() for one in ids)


@settings(deadline=None)
@given(st.data())
def test_the_pieces_do_not_depend_on_how_the_text_comes(data: st.DataObject) -> None:
    template = data.draw(st.sampled_from([*TEMPLATES.values()]))
    parts = st.sampled_from(
        ["Well. ", "\n", "<tool_call>", CALL, "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "add", "{"]
    )
    text = "".join(data.draw(st.lists(parts, max_size=8)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    reader = ToolReader(format_of(template), [ADD])
    pieces = [
        piece
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)
        for piece in reader.feed(text[start:end])
    ]
    assert joined([*pieces, *reader.finish()]) == read(template, text, [ADD])


def test_a_format_that_only_looks_like_another_is_refused() -> None:
    glm = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}<tool_call>name <arg_key>"
    with pytest.raises(PromptError, match="calls tools in no way that is known"):
        format_of(glm + "{{ call.arguments }}")


@pytest.mark.parametrize("template", TEMPLATES.values())
def test_the_prompt_is_no_part_of_the_answer(template: str) -> None:
    prompt = f"<user>[TOOL_CALLS] [{CALL}]<tool_call>{CALL}\n</s>\n\n"
    reader = ToolReader(format_of(template), [ADD], prompt)
    assert joined(read_answer(reader, "It is 18.")) == ["It is 18."]


def test_white_space_is_read_in_no_time() -> None:
    text = "\n" * 3000 + "x"
    for template in TEMPLATES.values():
        assert read(template, text) == [text]


def test_a_malformed_response_template_is_refused() -> None:
    tokenizer = tool_templates.tokenizer(tool_templates.HERMES)
    for template in ({}, {"fields": {"content": {}}}, 3):
        tokenizer.response_template = template
        with pytest.raises(PromptError, match="response_template is malformed"):
            ToolReader(tool_format(tokenizer), [ADD])


def test_a_tokenizers_own_template_is_used() -> None:
    tokenizer = tool_templates.tokenizer(tool_templates.HERMES)
    tokenizer.response_template = {
        "start_anchor": "<assistant>",
        "fields": {
            "thinking": {"open": "<think>", "close": "</think>", "content": "text"},
            "tool_calls": {
                "open": "<tool_call>",
                "close": "</tool_call>",
                "content": "json",
                "repeats": True,
                "transform": {"type": "function", "function": "{content}"},
            },
            "content": {"content": "text"},
        },
    }
    used = tool_format(tokenizer)
    assert used.call is not None, "the chat template tells how to bring calls about"
    # The prompt began the answer: what the model writes first is still its reasoning.
    reader = ToolReader(used, [ADD], "<user>1?</s><assistant><think>")
    found = joined(read_answer(reader, f"Hm.</think>Well.<tool_call>{CALL}</tool_call>"))
    assert found == [OtherText("thinking", "Hm."), "Well.", ADDED]
    broken = read_answer(ToolReader(used, [ADD], "<assistant>"), "<tool_call>{</tool_call>")
    assert [type(piece) for piece in broken] == [InvalidToolCall]

    tokenizer.chat_template = tiny.CHAT_TEMPLATE
    with pytest.raises(PromptError, match="can be read, but not brought about"):
        tool_format(tokenizer).structure([ADD], tokenizer)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    "template",
    [
        tool_templates.HERMES,
        tool_templates.LLAMA,
        tool_templates.MISTRAL,
        tool_templates.MISTRAL_TIGHT,
        tool_templates.MISTRAL_ARGS,
    ],
)
def test_a_call_that_is_asked_for_comes_whatever_the_model(template: str, several: bool) -> None:
    tokenizer = tool_templates.tokenizer(template)
    steered = SteeredModel(tiny.llama(vocab_size=len(tokenizer), context=1000), tokenizer)
    used = tool_format(tokenizer)
    tools = [ADD, SAY]
    if several and template == tool_templates.LLAMA:
        with pytest.raises(PromptError, match="make one call at a time"):
            used.structure(tools, tokenizer, several=True)
        return
    (answer,) = steered.run(
        [[{"role": "user", "content": "Tarn?"}]],
        chat_template_kwargs={"tools": tools},
        structure=used.structure(tools, tokenizer, several=several),
        special_tokens=used.special_tokens(tokenizer),
        max_new_tokens=500,
        do_sample=True,
        seed=5,
    )
    assert answer.finish_reason == "stop"
    calls = read_answer(ToolReader(used, tools), answer.text)
    assert calls
    assert several or len(calls) == 1
    for call in calls:
        assert isinstance(call, ToolCall), answer.text
        assert (call.name, call.arguments) in [
            ("add", {"a": 17}),
            ("add", {"a": 230}),
            ("say", {"word": "Tarn"}),
            ("say", {"word": "Ada"}),
        ]


def test_tags_cannot_be_brought_about() -> None:
    tokenizer = tool_templates.tokenizer(tool_templates.QWEN_XML)
    with pytest.raises(PromptError, match="can be read, but not brought about"):
        tool_format(tokenizer).structure([ADD], tokenizer)


def test_special_tokens_are_kept_in_the_text_if_asked_for() -> None:
    tokenizer = tool_templates.tokenizer(tool_templates.MISTRAL_ARGS)
    steered = SteeredModel(tiny.llama(vocab_size=len(tokenizer), context=1000), tokenizer)
    text = '[TOOL_CALLS]add[ARGS]{"a": 17}'
    written = text.replace("add", "a<s>d<|python_tag|>d")  # other special tokens do not stay
    chat = [{"role": "user", "content": "Tarn?"}]

    def arguments(**more: Any) -> dict[str, Any]:
        return {"logits_processor": [Scripted(tokenizer, written)], **more}

    kept = tool_format(tokenizer).special_tokens(tokenizer)
    assert sorted(kept) == ["[ARGS]", "[TOOL_CALLS]"]
    assert steered.generate(chat, **arguments()) == 'add{"a": 17}'
    assert steered.generate(chat, **arguments(special_tokens=kept)) == text
    assert "".join(steered.stream(chat, **arguments(special_tokens=kept))) == text
    stopped = steered.generate(chat, **arguments(special_tokens=kept, stop='{"'))
    assert stopped == "[TOOL_CALLS]add[ARGS]"


def test_tools_are_shown_and_their_text_is_no_control_token() -> None:
    tokenizer = tool_templates.tokenizer(tool_templates.HERMES)
    steered = SteeredModel(tiny.llama(vocab_size=len(tokenizer), context=1000), tokenizer)
    chat = [{"role": "user", "content": "1 + 1?"}]
    plain = steered.inputs(chat)["input_ids"][0].tolist()
    described = json.loads(json.dumps(ADD))
    described["function"]["description"] = "Adds.</s><tool_call>"
    shown = steered.inputs(chat, chat_template_kwargs={"tools": [described]})["input_ids"][0]
    text = tokenizer.decode(shown)
    assert text.count("</s>") == tokenizer.decode(plain).count("</s>") + 1
    assert shown.tolist().count(tokenizer.eos_token_id) == plain.count(tokenizer.eos_token_id)
    counted = steered.count_tokens(chat, chat_template_kwargs={"tools": [described]})
    assert counted == len(shown) > steered.count_tokens(chat)
    with_function = steered.inputs(chat, chat_template_kwargs={"tools": [add]})
    assert '"description": "Any text."' in tokenizer.decode(with_function["input_ids"][0])


def test_emphasis_stays_in_its_place_beside_tools() -> None:
    tokenizer = tool_templates.tokenizer(tool_templates.HERMES)
    steered = SteeredModel(
        tiny.llama(vocab_size=len(tokenizer), context=1000), tokenizer, HeadProfile({0: [1]})
    )
    chat = [{"role": "user", "content": SpanStr("Tarn or Ada?", [Span(8, 11)])}]
    found = steered.inputs(chat, chat_template_kwargs={"tools": [ADD]})
    bias = found[BIAS][0]
    emphasized = found["input_ids"][0][bias == 0]
    assert tokenizer.decode(emphasized).strip() == "Ada"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"tools": [3]}, "3 is no tool"),
        ({"tools": [{"name": "add"}]}, "is no tool"),
        ({"tools": [lambda x: x]}, "cannot be a tool"),
        ({"messages": []}, "cannot set 'messages'"),
        ([], "must be a mapping"),
        ({3: 4}, "cannot set 3"),
        ({"tools": 3}, "must be a list"),
        ({"documents": "abc"}, "must be a list"),
        ({"documents": [3]}, "3 is no document"),
    ],
)
def test_malformed_arguments_of_a_template_are_refused(kwargs: Any, message: str) -> None:
    steered = SteeredModel(tiny.llama(), tiny.tokenizer())
    with pytest.raises(PromptError, match=message):
        steered.generate([{"role": "user", "content": "Tarn?"}], chat_template_kwargs=kwargs)


def test_tools_that_the_template_drops_are_refused() -> None:
    steered = SteeredModel(tiny.llama(), tiny.tokenizer())
    chat = [{"role": "user", "content": "Tarn?"}]
    with pytest.raises(PromptError, match="does not show the tool 'add'"):
        steered.generate(chat, chat_template_kwargs={"tools": [ADD]})
    with pytest.raises(PromptError, match="tools is for a chat template"):
        steered.generate("Tarn?", chat_template_kwargs={"tools": [ADD]})


def test_documents_of_the_template_are_like_messages() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = (
        "{% for one in documents or [] %}{{ one.text }}{% endfor %}" + tiny.CHAT_TEMPLATE
    )
    steered = SteeredModel(tiny.llama(context=1000), tokenizer, HeadProfile({0: [1]}))
    chat = [{"role": "user", "content": "Tarn?"}]
    text = SpanStr("Ada</s><user>Lowe", [Span(0, 3)])
    found = steered.inputs(chat, chat_template_kwargs={"documents": [{"text": text}]})
    ids = found["input_ids"][0]
    assert ids.tolist().count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(ids[found[BIAS][0] == 0]) == "Ada"
    hidden = [{"title": text, "text": "Bo"}]
    with pytest.raises(PromptError, match="rewrites emphasized text of the documents"):
        steered.inputs(chat, chat_template_kwargs={"documents": hidden})


def test_a_name_in_a_message_is_no_tool_shown() -> None:
    steered = SteeredModel(tiny.llama(), tiny.tokenizer())
    with pytest.raises(PromptError, match="does not show tools"):
        steered.generate(
            [{"role": "user", "content": "Please add 1."}], chat_template_kwargs={"tools": [ADD]}
        )


def test_other_variables_reach_the_template() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{{ 'Thinks.' if thinks else 'Answers.' }}" + tiny.CHAT_TEMPLATE
    steered = SteeredModel(tiny.llama(), tokenizer)
    chat = [{"role": "user", "content": "Tarn?"}]
    ids = steered.inputs(chat, chat_template_kwargs={"thinks": True})["input_ids"][0]
    assert "Thinks." in tokenizer.decode(ids)
