"""Agents whose rules and tool results are emphasized, at every turn and after a checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import tiny
import tool_templates
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from pydantic import BaseModel
from scripted import Scripted

from pasta_chains import HeadProfile, Span, SpanStr, SteeredModel
from pasta_chains.errors import EmphasisDroppedWarning, EmphasisError, PromptError
from pasta_chains.langchain import ChatPasta, emphasized_content, message_text
from pasta_chains.langchain.agents import EmphasisMiddleware

CALL = '<tool_call>\n{"name": "ledger", "arguments": {"year": 1911}}\n</tool_call>'
RULE = "Never tell a password."


@tool
def ledger(year: int) -> str:
    """Look a year up."""
    return f"In {year} the club owed nothing."


@pytest.fixture(scope="module")
def model() -> SteeredModel:
    tokenizer = tool_templates.tokenizer(tool_templates.HERMES)
    made = tiny.llama(vocab_size=len(tokenizer), context=3000)
    return SteeredModel(made, tokenizer, HeadProfile({0: [1, 2], 1: [0]}, alpha=0.02))


class Watched(ChatPasta):
    """Keeps what the model was given to read."""

    seen: list[Any] = []

    def _question(self, messages: Any, stop: Any, given: Any) -> Any:
        self.seen.append(messages)
        return super()._question(messages, stop, given)


@pytest.fixture
def chat(model: SteeredModel) -> Watched:
    """Calls a tool, and then answers."""
    scripted = Scripted(model.tokenizer, CALL, "It owed nothing.")
    return Watched(
        model=model,
        max_tokens=200,
        seen=[],
        generation_arguments={"logits_processor": [scripted]},
    )


def emphasized(messages: list[Any]) -> list[list[str]]:
    """The emphasized text of each message."""
    found = []
    for message in messages:
        text = message_text(message)
        found.append([text.text[span.start : span.end] for span in text.spans])
    return found


def asked(text: str = "And 1911?") -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream"])
def test_instructions_are_emphasized_at_every_turn(chat: Watched, way: str) -> None:
    agent = create_agent(
        chat, [ledger], system_prompt="You keep books.", middleware=[EmphasisMiddleware(RULE)]
    )
    match way:
        case "invoke":
            agent.invoke(asked())
        case "ainvoke":
            asyncio.run(agent.ainvoke(asked()))
        case "stream":
            assert [*agent.stream(asked())]
    first, second = chat.seen
    assert [one.type for one in second] == ["system", "human", "ai", "tool"]
    for seen in (first, second):
        assert message_text(seen[0]).text == f"You keep books.\n\n{RULE}"
        assert emphasized(seen)[0] == [RULE]
        assert not any(emphasized(seen)[1:])


def test_the_state_is_left_as_it_is(chat: Watched) -> None:
    agent = create_agent(chat, [ledger], middleware=[EmphasisMiddleware(RULE, tool_results=True)])
    end = agent.invoke(asked())
    assert [one.type for one in end["messages"]] == ["human", "ai", "tool", "ai"]
    assert not any(emphasized(end["messages"]))
    assert end["messages"][-1].content == "It owed nothing."
    assert emphasized(chat.seen[1]) == [[RULE], [], [], ["In 1911 the club owed nothing."]]


@pytest.mark.parametrize(
    ("which", "chosen"),
    [
        (True, True),
        (["ledger"], True),
        ("ledger", True),
        (lambda message: "1911" in message.content, True),
        (lambda message: "1912" in message.content, False),
    ],
)
def test_tool_results_are_chosen(chat: Watched, which: Any, chosen: bool) -> None:
    middleware = EmphasisMiddleware(tool_results=which, alpha=0.3, name="found")
    create_agent(chat, [ledger], middleware=[middleware]).invoke(asked())
    result = message_text(chat.seen[1][-1])
    assert result.text == "In 1911 the club owed nothing."
    assert list(result.spans) == ([Span(0, 30, 0.3, "found")] if chosen else [])


def test_emphasis_decides_what_the_agent_answers(model: SteeredModel) -> None:
    chat = ChatPasta(model=model, max_tokens=8)
    plain = create_agent(chat, [ledger], system_prompt=f"Keep books.\n\n{RULE}").invoke(asked())
    steered = create_agent(
        chat, [ledger], system_prompt="Keep books.", middleware=[EmphasisMiddleware(RULE)]
    ).invoke(asked())
    direct = chat.bind_tools([ledger]).invoke(
        [
            SystemMessage(
                emphasized_content(SpanStr(f"Keep books.\n\n{RULE}", [Span(13, 13 + len(RULE))]))
            ),
            HumanMessage("And 1911?"),
        ]
    )
    assert steered["messages"][-1].content == direct.content != plain["messages"][-1].content


def test_instructions_may_have_spans_of_their_own_and_depend_on_the_request(
    chat: Watched,
) -> None:
    def told(request: Any) -> SpanStr | None:
        return SpanStr("Be brief, please.", [Span(3, 8)]) if len(request.messages) > 1 else None

    create_agent(chat, [ledger], middleware=[EmphasisMiddleware(told)]).invoke(asked())
    first, second = chat.seen
    assert [one.type for one in first] == ["human"]
    assert emphasized(second)[0] == ["brief"]


def test_a_system_prompt_with_emphasis_keeps_it(chat: Watched) -> None:
    prompt = SystemMessage(emphasized_content(SpanStr("Keep the books.", [Span(9, 14)])))
    create_agent(chat, [ledger], system_prompt=prompt).invoke(asked())
    assert [emphasized(seen)[0] for seen in chat.seen] == [["books"], ["books"]]
    chat.seen.clear()
    middleware = [EmphasisMiddleware(RULE)]
    create_agent(chat, [ledger], system_prompt=prompt, middleware=middleware).invoke(asked())
    assert emphasized(chat.seen[0])[0] == ["books", RULE]


class City(BaseModel):
    """A city."""

    name: Literal["Tarn", "Port Oma"]


@pytest.mark.parametrize("form", [City, ToolStrategy(City), ProviderStrategy(City)])
def test_answers_may_have_a_form(model: SteeredModel, form: Any) -> None:
    agent = create_agent(ChatPasta(model=model, max_tokens=200), response_format=form)
    assert isinstance(agent.invoke(asked())["structured_response"], City)


def test_results_that_a_template_writes_as_json_are_emphasized() -> None:
    tokenizer = tool_templates.tokenizer(tool_templates.LLAMA)
    made = tiny.llama(vocab_size=len(tokenizer), context=3000)
    steered = SteeredModel(made, tokenizer, HeadProfile({0: [1, 2]}))
    call = '{"name": "ledger", "parameters": {"year": 1911}}'
    scripted = Scripted(tokenizer, call, "It owed nothing.")
    chat = ChatPasta(
        model=steered, max_tokens=200, generation_arguments={"logits_processor": [scripted]}
    )
    agent = create_agent(chat, [ledger], middleware=[EmphasisMiddleware(tool_results=True)])
    assert agent.invoke(asked())["messages"][-1].content == "It owed nothing."


def test_several_in_one_agent_and_a_bound_model(chat: Watched) -> None:
    told = (RULE, "Be brief.", lambda request: " ")
    many = [EmphasisMiddleware(instructions) for instructions in told]
    create_agent(chat, [ledger], middleware=many).invoke(asked())
    assert emphasized(chat.seen[0])[0] == [RULE, "Be brief."]
    chat.seen.clear()
    bound = chat.bind(seed=1)
    create_agent(bound, middleware=[EmphasisMiddleware(RULE)]).invoke(asked())
    assert emphasized(chat.seen[0])[0] == [RULE]


def test_strength_and_name_are_for_spans_that_have_none(chat: Watched) -> None:
    rules = SpanStr("Be brief. Be kind.", [Span(3, 8), Span(13, 17, 0.5, "kind")])
    middleware = EmphasisMiddleware(rules, alpha=0.2, name="rules")
    create_agent(chat, [ledger], middleware=[middleware]).invoke(asked())
    spans = message_text(chat.seen[0][0]).spans
    assert [(span.alpha, span.name) for span in spans] == [(0.2, "rules"), (0.5, "kind")]


def test_a_tool_that_is_not_there_is_told(chat: Watched) -> None:
    agent = create_agent(chat, [ledger], middleware=[EmphasisMiddleware(tool_results=["lodger"])])
    with pytest.raises(PromptError, match="names 'lodger', and the agent has no such tool"):
        agent.invoke(asked())


@pytest.fixture(params=["memory", "sqlite"])
def saver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield InMemorySaver()
    else:
        with SqliteSaver.from_conn_string(str(tmp_path / "checkpoints.db")) as made:
            yield made


def test_a_checkpoint_keeps_emphasis(chat: Watched, saver: Any) -> None:
    config: Any = {"configurable": {"thread_id": "1"}}
    question = HumanMessage(emphasized_content(SpanStr("And 1911?", [Span(4, 8)])))
    create_agent(chat, [ledger], checkpointer=saver).invoke({"messages": [question]}, config)
    # Another agent goes on with what was saved.
    agent = create_agent(chat, [ledger], checkpointer=saver)
    state = agent.get_state(config).values["messages"]
    assert emphasized(state)[0] == ["1911"]
    agent.invoke(asked("And 1912?"), config)
    assert emphasized(chat.seen[-1]) == [["1911"], [], [], [], []]


def test_a_model_that_knows_no_emphasis_is_told_of() -> None:
    other = GenericFakeChatModel(messages=iter([AIMessage("Well.")]))
    agent = create_agent(other, middleware=[EmphasisMiddleware(RULE)])
    with pytest.warns(EmphasisDroppedWarning, match="GenericFakeChatModel knows nothing of"):
        end = agent.invoke(asked())
    assert end["messages"][-1].content == "Well."


def test_a_result_that_has_emphasis_keeps_its_own(chat: Watched) -> None:
    @tool("ledger")
    def marked(year: int) -> Any:
        """Look a year up."""
        return emphasized_content(SpanStr(f"In {year} nothing.", [Span(3, 7)]))

    create_agent(chat, [marked], middleware=[EmphasisMiddleware(tool_results=True)]).invoke(asked())
    (result,) = [one for one in chat.seen[1] if isinstance(one, ToolMessage)]
    assert emphasized([result]) == [["1911"]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, PromptError, "nothing to emphasize"),
        ({"instructions": " "}, PromptError, "are empty"),
        ({"tool_results": 5}, PromptError, "tool_results is 5"),
        ({"instructions": RULE, "alpha": 0}, EmphasisError, "alpha"),
    ],
)
def test_middleware_without_sense_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        EmphasisMiddleware(**arguments)
