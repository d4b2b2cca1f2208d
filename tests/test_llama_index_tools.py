"""Tools through LlamaIndex: what the model is shown, and what is read from its answers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import tiny
import tool_templates
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.llms import MockLLM
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel
from scripted import Scripted
from spy import SpyModel

from pasta_chains import HeadProfile, emphasize
from pasta_chains.errors import EmphasisError, PromptError, UnsupportedModelError
from pasta_chains.llama_index import EmphasisFunctionAgent, PastaLLM, emphasized_message

# LlamaIndex's workflows look at every attribute of an agent, and so at pydantic's old ones, and its
# agents ask their context what is asked no more.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The `__fields:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:is_running called:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Accessing:pydantic.warnings.PydanticDeprecatedSince211"),
]

CALL = '<tool_call>\n{"name": "ledger", "arguments": {"year": 1911}}\n</tool_call>'
RESULT = "In 1911 the club owed nothing."
RULE = "Never tell a password."


def ledger(year: int) -> str:
    """Look a year up."""
    return f"In {year} the club owed nothing."


class Debt(BaseModel):
    """What was owed."""

    amount: int


def password(of: str) -> str:
    """Look a password up."""
    return "varn-42"


LEDGER = FunctionTool.from_defaults(ledger)
PASSWORD = FunctionTool.from_defaults(password)
TEMPLATES = {
    "Hermes": (tool_templates.HERMES, CALL),
    "Qwen XML": (
        tool_templates.QWEN_XML,
        "<tool_call>\n<function=ledger>\n<parameter=year>\n1911\n</parameter>\n</function>\n"
        "</tool_call>",
    ),
    "Llama": (tool_templates.LLAMA, '{"name": "ledger", "parameters": {"year": 1911}}'),
    "Mistral": (
        tool_templates.MISTRAL,
        '[TOOL_CALLS] [{"name": "ledger", "arguments": {"year": 1911}}]',
    ),
    "Mistral with [ARGS]": (tool_templates.MISTRAL_ARGS, '[TOOL_CALLS]ledger[ARGS]{"year": 1911}'),
}


def spy(template: str) -> SpyModel:
    tokenizer = tool_templates.tokenizer(template)
    model = tiny.llama(vocab_size=len(tokenizer), context=3000)
    return SpyModel(model, tokenizer, HeadProfile({0: [1, 2], 1: [0]}, alpha=0.02))


@pytest.fixture(scope="module")
def model() -> SpyModel:
    return spy(tool_templates.HERMES)


def writing(model: SpyModel, *texts: str) -> PastaLLM:
    """A chat model that writes these texts, one in each call."""
    model.seen.clear()
    scripted = Scripted(model.tokenizer, *texts)
    return PastaLLM(
        model,
        use_chat_template=True,
        max_new_tokens=120,
        generation_arguments={"logits_processor": [scripted]},
    )


@pytest.mark.parametrize("form", TEMPLATES)
def test_a_call_is_in_the_response(form: str) -> None:
    template, call = TEMPLATES[form]
    model = spy(template)
    llm = writing(model, call)
    assert llm.metadata.is_function_calling_model
    response = llm.chat_with_tools([LEDGER, PASSWORD], user_msg="What did the club owe in 1911?")
    (found,) = llm.get_tool_calls_from_response(response)
    assert (found.tool_name, found.tool_kwargs) == ("ledger", {"year": 1911})
    assert not response.message.content
    assert response.additional_kwargs["finish_reason"] == "stop"
    assert "Look a year up." in model.seen[-1].text  # the tools were shown


def test_text_around_a_call_stays_text(model: SpyModel) -> None:
    llm = writing(model, f"I will look. {CALL}")
    response = llm.chat_with_tools([LEDGER], user_msg="1911?")
    assert (response.message.content or "").strip() == "I will look."
    assert len(llm.get_tool_calls_from_response(response)) == 1


def test_a_stream_grows_to_the_same_message(model: SpyModel) -> None:
    text = f"I will look. {CALL}"
    responses = list(writing(model, text).stream_chat_with_tools([LEDGER], user_msg="1911?"))
    llm = writing(model, text)
    whole = llm.chat_with_tools([LEDGER], user_msg="1911?")
    assert responses[-1].message.content == whole.message.content
    assert "".join(response.delta or "" for response in responses) == whole.message.content
    assert not any("tool_call" in (response.delta or "") for response in responses)
    (streamed,) = llm.get_tool_calls_from_response(responses[-1])
    assert streamed.tool_kwargs == {"year": 1911}


def test_async_and_streaming_give_the_same(model: SpyModel) -> None:
    async def both() -> tuple[Any, Any]:
        whole = await writing(model, CALL).achat_with_tools([LEDGER], user_msg="1911?")
        stream = await writing(model, CALL).astream_chat_with_tools([LEDGER], user_msg="1911?")
        last = [response async for response in stream][-1]
        return whole, last

    for response in asyncio.run(both()):
        (call,) = PastaLLM(model).get_tool_calls_from_response(response)
        assert (call.tool_name, call.tool_kwargs) == ("ledger", {"year": 1911})


def test_without_parallel_calls_the_first_one_counts(model: SpyModel) -> None:
    two = CALL + "\n" + CALL.replace("1911", "1912")
    one = writing(model, two).chat_with_tools([LEDGER], user_msg="1911?")
    *_, last = writing(model, two).stream_chat_with_tools([LEDGER], user_msg="1911?")
    (streamed,) = last.message.blocks
    assert streamed.tool_kwargs == {"year": 1911}
    both = writing(model, two).chat_with_tools(
        [LEDGER], user_msg="1911?", allow_parallel_tool_calls=True
    )
    llm = PastaLLM(model)
    assert [call.tool_kwargs["year"] for call in llm.get_tool_calls_from_response(one)] == [1911]
    years = [call.tool_kwargs["year"] for call in llm.get_tool_calls_from_response(both)]
    assert years == [1911, 1912]


@pytest.mark.parametrize("asked", [{"tool_required": True}, {"tool_choice": "ledger"}])
def test_a_call_can_be_asked_for(model: SpyModel, asked: dict[str, Any]) -> None:
    llm = PastaLLM(model, use_chat_template=True, max_new_tokens=200)
    response = llm.chat_with_tools([LEDGER], user_msg="Hello.", **asked)
    (call,) = llm.get_tool_calls_from_response(response)
    assert call.tool_name == "ledger"
    assert isinstance(call.tool_kwargs["year"], int)


def test_functions_are_tools_and_other_things_are_not(model: SpyModel) -> None:
    response = writing(model, CALL).chat_with_tools([ledger], user_msg="1911?")
    assert len(PastaLLM(model).get_tool_calls_from_response(response)) == 1
    with pytest.raises(PromptError, match="7 is no tool"):
        PastaLLM(model, use_chat_template=True).chat_with_tools([7], user_msg="1911?")


def test_an_unknown_tool_cannot_be_asked_for(model: SpyModel) -> None:
    llm = PastaLLM(model, use_chat_template=True)
    with pytest.raises(PromptError, match=r"no such tool.*'ledger'"):
        llm.chat_with_tools([LEDGER], user_msg="Hello.", tool_choice="weather")


def test_no_call_is_told(model: SpyModel) -> None:
    llm = writing(model, "It owed nothing.")
    response = llm.chat_with_tools([LEDGER], user_msg="1911?")
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(PromptError, match=r"called no tool.*tool_required"):
        llm.get_tool_calls_from_response(response)


def test_a_broken_call_stays_in_the_text(model: SpyModel) -> None:
    broken = '<tool_call>\n{"name": "ledger", "arguments": {"year": }}\n</tool_call>'
    llm = writing(model, broken)
    response = llm.chat_with_tools([LEDGER], user_msg="1911?")
    assert '"year": }' in (response.message.content or "")
    assert response.message.additional_kwargs["invalid_tool_calls"]
    with pytest.raises(PromptError, match='"year": '):
        llm.get_tool_calls_from_response(response)


def test_a_model_without_tools_says_so() -> None:
    model = SpyModel(tiny.llama(), tiny.tokenizer(), HeadProfile({1: [0]}))
    llm = PastaLLM(model, use_chat_template=True)
    assert not llm.metadata.is_function_calling_model
    with pytest.raises(PromptError, match="calls tools in no way that is known"):
        llm.chat_with_tools([LEDGER], user_msg="1911?")


def test_calls_and_results_go_back_to_the_model(model: SpyModel) -> None:
    llm = writing(model, "It owed nothing.")
    history = [
        emphasized_message(emphasize(RULE), "system"),
        ChatMessage(role="user", content="1911?"),
        ChatMessage(
            role="assistant",
            blocks=[ToolCallBlock(tool_call_id="a1b2c3d4e", tool_name="ledger", tool_kwargs="")],
        ),
        ChatMessage(
            role="tool",
            blocks=[TextBlock(text=RESULT)],
            additional_kwargs={"tool_call_id": "a1b2c3d4e"},
        ),
    ]
    llm.chat_with_tools([LEDGER], chat_history=history)
    read = model.seen[-1]
    assert '"name": "ledger", "arguments": {}' in read.text
    assert RESULT in read.text
    assert [read.text[span.start : span.end] for span in read.spans] == [RULE]


def test_arguments_that_are_no_object_are_refused(model: SpyModel) -> None:
    call = ToolCallBlock(tool_call_id="a1b2c3d4e", tool_name="ledger", tool_kwargs="[1911]")
    asked = [ChatMessage(role="assistant", blocks=[call]), ChatMessage("So?")]
    with pytest.raises(PromptError, match=r"'ledger'.*JSON object"):
        PastaLLM(model, use_chat_template=True).chat(asked)


def test_predict_and_call_calls(model: SpyModel) -> None:
    response = writing(model, CALL).predict_and_call([LEDGER], user_msg="1911?")
    assert str(response) == RESULT


@pytest.mark.parametrize("streaming", [True, False])
def test_an_agent_runs(model: SpyModel, streaming: bool) -> None:
    llm = writing(model, CALL, "It owed nothing.")
    agent = FunctionAgent(llm=llm, tools=[LEDGER, PASSWORD], streaming=streaming)
    answer = asyncio.run(_run(agent, "What did the club owe in 1911?"))
    assert str(answer).strip() == "It owed nothing."
    assert [call.tool_name for call in answer.tool_calls] == ["ledger"]
    assert RESULT in model.seen[-1].text


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("in_workflow", [True, False])
def test_instructions_and_results_are_emphasized_at_every_turn(
    model: SpyModel, streaming: bool, in_workflow: bool
) -> None:
    agent: Any = EmphasisFunctionAgent(
        name="clerk",
        description="Keeps the books.",
        llm=writing(model, CALL, "It owed nothing."),
        tools=[LEDGER, PASSWORD],
        system_prompt="You keep the books.",
        instructions=RULE,
        tool_results=["ledger"],
        alpha=0.5,
        streaming=streaming,
    )
    answer = asyncio.run(
        _run(AgentWorkflow(agents=[agent], root_agent="clerk") if in_workflow else agent, "1911?")
    )
    assert str(answer).strip() == "It owed nothing."
    emphasized = [
        [(read.text[span.start : span.end], span.alpha) for span in read.spans]
        for read in model.seen
    ]
    assert emphasized == [[(RULE, 0.5)], [(RULE, 0.5), (RESULT, 0.5)]]
    assert "You keep the books.\n\nNever tell" in model.seen[0].text


def test_an_agent_without_a_system_prompt_gets_one(model: SpyModel) -> None:
    agent = EmphasisFunctionAgent(
        llm=writing(model, "Hello."), tools=[LEDGER], instructions="Never " + emphasize("guess.")
    )
    asyncio.run(_run(agent, "Hello?"))
    (read,) = model.seen
    assert "<system>Never guess." in read.text
    assert [read.text[span.start : span.end] for span in read.spans] == ["guess."]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({}, PromptError, "nothing to emphasize"),
        ({"instructions": "  "}, PromptError, "instructions are empty"),
        ({"instructions": RULE, "alpha": 0.0}, EmphasisError, "alpha"),
        ({"instructions": RULE, "llm": MockLLM()}, UnsupportedModelError, "needs a PastaLLM"),
        ({"system_prompt": emphasize(RULE), "tool_results": True}, EmphasisError, "system_prompt"),
        ({"instructions": RULE, "output_cls": Debt}, PromptError, "output_cls"),
        ({"tool_results": ["weather"]}, PromptError, "'weather', and the agent has no such tool"),
    ],
)
def test_an_agent_that_could_not_emphasize_is_refused(
    model: SpyModel, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    llm = PastaLLM(model, use_chat_template=True)
    with pytest.raises(error, match=message):
        EmphasisFunctionAgent(**{"llm": llm, "tools": [LEDGER], **fields})


def test_an_agent_of_a_model_that_calls_no_tools_is_refused(model: SpyModel) -> None:
    with pytest.raises(UnsupportedModelError, match="use_chat_template=True"):
        EmphasisFunctionAgent(llm=PastaLLM(model), tools=[LEDGER], instructions=RULE)


@pytest.mark.parametrize("streaming", [True, False])
def test_the_answer_of_an_agent_that_is_stopped_is_emphasized(
    model: SpyModel, streaming: bool
) -> None:
    agent = EmphasisFunctionAgent(
        llm=writing(model, CALL),
        tools=[LEDGER],
        instructions=RULE,
        streaming=streaming,
        early_stopping_method="generate",
    )

    async def run() -> Any:
        return await agent.run(user_msg="1911?", max_iterations=1)

    asyncio.run(run())
    emphasized = [[read.text[s.start : s.end] for s in read.spans] for read in model.seen]
    assert len(emphasized) > 1
    assert emphasized == [[RULE]] * len(emphasized)


async def _run(agent: Any, question: str) -> Any:
    return await agent.run(user_msg=question)


def test_roles_are_llama_indexs() -> None:
    with pytest.raises(ValueError, match="boss"):
        emphasized_message("a", "boss")
    assert emphasized_message("a", "system").role is MessageRole.SYSTEM
