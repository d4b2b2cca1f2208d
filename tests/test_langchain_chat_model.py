"""`ChatPasta`: emphasis reaches the model through every way of calling a chat model."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import tiny
import torch
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.rate_limiters import InMemoryRateLimiter

from pasta_chains import HeadProfile, Span, SpanStr, SteeredModel
from pasta_chains.errors import (
    AnswerTimeoutError,
    EmphasisError,
    PastaError,
    ProfileError,
    PromptError,
    PromptTooLongError,
)
from pasta_chains.langchain import (
    ChatPasta,
    EmphasisMessagePromptTemplate,
    EmphasisPromptValue,
    emphasized_content,
    message_text,
    strip_emphasis,
)

TEXT = "The mayor of Tarn is Ada Lowe. Or Bo Marsh. Answer:"
MARKED = SpanStr(TEXT, [Span(21, 29, name="facts")])
OTHER = SpanStr(TEXT, [Span(34, 42)])
INPUTS: list[Any] = [MARKED, OTHER, TEXT]
PROFILE = HeadProfile({0: [2], 1: [0, 3], 2: [0, 1, 2, 3]}, alpha=0.02)


@pytest.fixture(scope="module")
def model() -> SteeredModel:
    return SteeredModel(tiny.llama(), tiny.tokenizer(), PROFILE)


@pytest.fixture
def chat(model: SteeredModel) -> ChatPasta:
    return ChatPasta(model=model, max_tokens=6)


@pytest.fixture
def answers(model: SteeredModel) -> list[str]:
    found = [
        model.generate([{"role": "user", "content": text}], max_new_tokens=6) for text in INPUTS
    ]
    assert len(set(found)) == 3, "emphasis decides the answer"
    return found


@pytest.fixture
def cache() -> Iterator[InMemoryCache]:
    made = InMemoryCache()
    set_llm_cache(made)
    yield made
    set_llm_cache(None)


class Forwards:
    """Counts how often a model runs."""

    def __init__(self, model: SteeredModel) -> None:
        self.rows: list[int] = []
        self._hook = model.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.rows.append(len(kwargs["input_ids"]))

    def __enter__(self) -> list[int]:
        return self.rows

    def __exit__(self, *_: Any) -> None:
        self._hook.remove()


async def streamed(chunks: Any) -> str:
    return "".join([chunk.content async for chunk in chunks])


WAYS = {
    "invoke": lambda chat: [chat.invoke(given).content for given in INPUTS],
    "batch": lambda chat: [found.content for found in chat.batch(INPUTS)],
    "batch of two": lambda chat: [
        found.content for found in chat.batch(INPUTS, config={"max_concurrency": 2})
    ],
    "stream": lambda chat: ["".join(c.content for c in chat.stream(given)) for given in INPUTS],
    "ainvoke": lambda chat: [asyncio.run(chat.ainvoke(given)).content for given in INPUTS],
    "abatch": lambda chat: [found.content for found in asyncio.run(chat.abatch(INPUTS))],
    "astream": lambda chat: [asyncio.run(streamed(chat.astream(given))) for given in INPUTS],
    "as completed": lambda chat: [
        found.content for _, found in sorted(chat.batch_as_completed(INPUTS), key=lambda x: x[0])
    ],
}
FORMS = {
    "text": lambda text: text,
    "message": lambda text: [HumanMessage(emphasized_content(text))],
    "tuple": lambda text: [("human", text)],
    "dict": lambda text: [{"role": "user", "content": text}],
    "list": lambda text: [text],
    "value": lambda text: EmphasisPromptValue.from_text(SpanStr(text)),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_every_way_gives_the_text_of_the_steered_model(
    way: Any, chat: ChatPasta, answers: list[str]
) -> None:
    assert way(chat) == answers


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_a_prompt_keeps_its_emphasis(
    form: Any, chat: ChatPasta, answers: list[str]
) -> None:
    assert [chat.invoke(form(text)).content for text in INPUTS] == answers


# Batches


@pytest.mark.parametrize("is_async", [False, True])
def test_a_batch_runs_the_model_once_for_all_its_prompts(
    chat: ChatPasta, model: SteeredModel, is_async: bool
) -> None:
    with Forwards(model) as alone:
        chat.invoke(MARKED)
    with Forwards(model) as rows:
        asyncio.run(chat.abatch(INPUTS * 5)) if is_async else chat.batch(INPUTS * 5)
    assert rows == [15] * len(rows)
    assert len(rows) <= max(len(alone), 6)
    with Forwards(model) as rows:
        chat.batch(INPUTS, config={"max_concurrency": 2})
    assert set(rows) == {2, 1}


@pytest.mark.parametrize("is_async", [False, True])
def test_the_error_of_one_prompt_is_its_own(
    chat: ChatPasta, answers: list[str], is_async: bool
) -> None:
    inputs = [MARKED, TEXT * 30, [HumanMessage([{"type": "image", "url": "x"}])], TEXT]

    def run(**arguments: Any) -> list[Any]:
        if is_async:
            return asyncio.run(chat.abatch(inputs, **arguments))
        return chat.batch(inputs, **arguments)

    found = run(return_exceptions=True)
    assert [found[0].content, found[3].content] == [answers[0], answers[2]]
    assert isinstance(found[1], PromptTooLongError)
    assert isinstance(found[2], PromptError)
    with pytest.raises(PastaError):
        run()
    assert chat.invoke(MARKED).content == answers[0]


def test_a_batch_asks_only_for_what_the_cache_lacks(
    chat: ChatPasta, model: SteeredModel, answers: list[str], cache: InMemoryCache
) -> None:
    chat.invoke(MARKED)
    with Forwards(model) as rows:
        found = [message.content for message in chat.batch(INPUTS)]
    assert (found, set(rows)) == (answers, {2})
    with Forwards(model) as rows:
        assert [message.content for message in chat.batch(INPUTS)] == answers
    assert rows == []


def test_a_batch_that_nobody_waits_for_stops_the_model(
    chat: ChatPasta, model: SteeredModel, answers: list[str], cache: InMemoryCache
) -> None:
    long: dict[str, Any] = {"max_tokens": 150, "eos_token_id": None}
    chat.invoke(MARKED, **long)  # one call finds its answer in the cache, and asks nothing

    async def cancelled() -> None:
        task = asyncio.ensure_future(chat.abatch(INPUTS, **long))
        while not rows:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Forwards(model) as rows:
        asyncio.run(cancelled())  # which waits for its threads
    assert 0 < len(rows) < 140
    assert chat.invoke(OTHER).content == answers[1]


def test_an_empty_batch_is_empty(chat: ChatPasta) -> None:
    assert chat.batch([]) == []
    assert asyncio.run(chat.abatch([])) == []


# What a call may say


def test_arguments_of_the_call_go_before_those_of_the_instance(
    chat: ChatPasta, model: SteeredModel, answers: list[str]
) -> None:
    prompt = [{"role": "user", "content": MARKED}]

    def expected(**arguments: Any) -> str:
        return str(model.generate(prompt, **{"max_new_tokens": 6, **arguments}))

    assert chat.invoke(MARKED, max_tokens=2).content == expected(max_new_tokens=2)
    assert chat.bind(max_new_tokens=2).invoke(MARKED).content == expected(max_new_tokens=2)
    assert chat.invoke(MARKED, alpha=0.7).content == expected(alpha=0.7)
    assert chat.invoke(MARKED, disable_steering=True).content == answers[2]
    assert chat.invoke(MARKED, alphas={"facts": 1.0}).content == answers[2]
    both = [SystemMessage("Be brief."), *EmphasisPromptValue.from_text(MARKED).to_messages()]
    plain = chat.invoke(both, disable_steering=True).content
    assert chat.invoke(both, alphas={"facts": 1.0}).content == plain != chat.invoke(both).content
    assert chat.invoke(MARKED, profile=HeadProfile({})).content == answers[2]
    assert ChatPasta(model=model, max_tokens=6, head_profile=HeadProfile({})).invoke(
        MARKED
    ).content == answers[2]  # fmt: skip
    assert chat.invoke(MARKED, temperature=0).content == answers[0]
    drawn = {chat.invoke(MARKED, temperature=1.5, seed=7).content for _ in range(3)}
    assert drawn == {expected(do_sample=True, temperature=1.5, seed=7)}
    assert ChatPasta(model=model, max_tokens=6, alphas={"facts": 1.0}, stop=["x"]).invoke(
        MARKED
    ).content == answers[2].split("x")[0]  # fmt: skip


@pytest.mark.parametrize("way", ["invoke", "stream", "batch", "ainvoke", "astream"])
def test_stop_really_stops(
    chat: ChatPasta, model: SteeredModel, answers: list[str], way: str
) -> None:
    word = answers[0][2]
    before = answers[0][: answers[0].index(word)]
    with Forwards(model) as rows:
        if way == "invoke":
            found = chat.invoke(MARKED, stop=[word]).content
        elif way == "stream":
            found = "".join(c.content for c in chat.stream(MARKED, stop=[word]))
        elif way == "batch":
            found = chat.bind(stop=[word]).batch([MARKED])[0].content
        elif way == "ainvoke":
            found = asyncio.run(chat.ainvoke(MARKED, stop=[word])).content
        else:
            found = asyncio.run(streamed(chat.astream(MARKED, stop=[word])))
    assert found == before
    assert len(rows) < 6, "the model has stopped, not only the text"


def test_what_is_wrong_is_refused(chat: ChatPasta, model: SteeredModel) -> None:
    bare = ChatPasta(model=SteeredModel(tiny.llama(), tiny.tokenizer()))
    cases: list[tuple[Any, type[Exception], str]] = [
        (lambda: chat.invoke(TEXT, tempo=1), PromptError, "tempo"),
        (lambda: chat.invoke(TEXT, temperature=-1), PromptError, "temperature is -1"),
        (lambda: chat.invoke(TEXT, timeout=0), PromptError, "timeout is 0"),
        (lambda: chat.invoke(TEXT, alpha=0), EmphasisError, "alpha"),
        (lambda: chat.invoke(MARKED, alphas={"facts": 2}), EmphasisError, "alpha"),
        (lambda: bare.invoke(MARKED), ProfileError, "no head profile"),
        (lambda: chat.invoke(TEXT, profile=HeadProfile({9: [0]})), ProfileError, "layer 9"),
        (lambda: chat.invoke([]), PromptError, "no message to answer"),
        (lambda: chat.invoke(MARKED, alphas={"rules": 0.1}), EmphasisError, "spans: facts"),
        (lambda: chat.invoke(TEXT * 30), PromptTooLongError, "context"),
        (
            lambda: list(chat.stream(TEXT, num_return_sequences=2)),
            PromptError,
            "num_return_sequences cannot be streamed",
        ),
        (
            lambda: chat.invoke([HumanMessage([{"type": "image_url", "image_url": "u"}])]),
            PromptError,
            "A human message has a block of type 'image_url'",
        ),
        (
            lambda: chat.invoke([_marked_message("abc", [2, 9])]),
            EmphasisError,
            "reaches beyond the text",
        ),
        (lambda: ChatPasta(model=model, tempo=1), ValueError, "tempo"),
        (lambda: ChatPasta(model="gpt2"), ValueError, "SteeredModel.from_pretrained"),
    ]
    for way, kind, message in cases:
        with pytest.raises(kind, match=message):
            way()


def _marked_message(text: str, mark: list[int]) -> HumanMessage:
    return HumanMessage([{"type": "text", "text": text, "extras": {"emphasis": [mark]}}])


def test_an_answer_that_takes_too_long_is_an_error(chat: ChatPasta, answers: list[str]) -> None:
    for way in (
        lambda: chat.invoke(MARKED, timeout=1e-6),
        lambda: asyncio.run(chat.ainvoke(MARKED, timeout=1e-6)),
        lambda: list(chat.stream(MARKED, timeout=1e-6)),
        lambda: asyncio.run(streamed(chat.astream(MARKED, timeout=1e-6))),
        lambda: chat.batch([MARKED], timeout=1e-6),
    ):
        with pytest.raises(AnswerTimeoutError, match="Raise timeout"):
            way()
    assert chat.invoke(MARKED, timeout=60).content == answers[0]


# What comes back


def test_usage_and_metadata_are_told(chat: ChatPasta, model: SteeredModel) -> None:
    (run,) = model.run([{"role": "user", "content": MARKED}], max_new_tokens=6)
    usage = {
        "input_tokens": run.prompt_tokens,
        "output_tokens": run.new_tokens,
        "total_tokens": run.prompt_tokens + run.new_tokens,
    }
    whole = chat.invoke(MARKED)
    chunks = list(chat.stream(MARKED))
    together = chunks[0]
    for chunk in chunks[1:]:
        together += chunk
    for message in (whole, together):
        assert message.usage_metadata == usage
        assert message.response_metadata["finish_reason"] == run.finish_reason
        assert message.response_metadata["model_name"] == model.name
        assert message.response_metadata["model_provider"] == "pasta_chains"
    assert chunks[-1].chunk_position == "last"
    assert [c for c in chunks if c.usage_metadata] == chunks[-1:]
    result = chat.generate([[HumanMessage(TEXT)]], num_beams=2, num_return_sequences=2)
    assert len(result.generations[0]) == 2


def test_tokens_are_counted_with_the_chat_template(chat: ChatPasta, model: SteeredModel) -> None:
    messages = [SystemMessage("Be brief."), HumanMessage(emphasized_content(MARKED))]
    expected = model.count_tokens(
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}]
    )
    assert chat.get_num_tokens_from_messages(messages) == expected
    assert chat.get_num_tokens(TEXT) == len(model.tokenizer(TEXT)["input_ids"])


def test_events_and_callbacks_show_the_emphasis(chat: ChatPasta) -> None:
    async def events() -> list[Any]:
        prompt = EmphasisMessagePromptTemplate.from_template("human", "{{ text }}")
        chain = ChatPromptTemplate.from_messages([prompt]) | chat
        return [event async for event in chain.astream_events({"text": MARKED}, version="v2")]

    found = asyncio.run(events())
    starts = [event for event in found if event["event"] == "on_chat_model_start"]
    ((message,),) = starts[0]["data"]["input"]["messages"]
    assert message_text(message).spans == MARKED.spans
    assert "on_chat_model_end" in [event["event"] for event in found]


# Prompts


def test_message_templates_mix_with_those_of_langchain(
    chat: ChatPasta, model: SteeredModel
) -> None:
    rules = "Always <% emphasize name='rules' %>be {{ how }}<% endemphasize %>."
    prompt = ChatPromptTemplate.from_messages(
        [
            EmphasisMessagePromptTemplate.from_template("system", rules),
            MessagesPlaceholder("history"),
            ("ai", "Yes, {b}."),
            EmphasisMessagePromptTemplate.from_template("human", "{{ b | emphasize }}!"),
        ]
    )
    assert sorted(prompt.input_variables) == ["b", "history", "how"]
    given = {"how": "brief", "b": "Bo", "history": [HumanMessage(emphasized_content(MARKED))]}
    messages = prompt.invoke(given).to_messages()
    assert [type(m) for m in messages] == [SystemMessage, HumanMessage, AIMessage, HumanMessage]
    texts = [message_text(message) for message in messages]
    assert [text.emphasized() for text in texts] == [("be brief",), ("Ada Lowe",), (), ("Bo",)]
    expected = model.generate(
        [
            {"role": role, "content": text}
            for role, text in zip(("system", "user", "assistant", "user"), texts, strict=True)
        ],
        max_new_tokens=6,
    )
    assert (prompt | chat).invoke(given).content == expected
    assert (prompt.partial(how="brief") | chat).invoke({**given, "how": "x"}) is not None
    assert "<% emphasize name='rules' %>" in prompt.pretty_repr()


def test_roles(chat: ChatPasta) -> None:
    made = EmphasisMessagePromptTemplate.from_template("judge", "{{ a | emphasize }}")
    (message,) = made.format_messages(a="x", b="unused")
    assert isinstance(message, ChatMessage)
    assert (message.role, message_text(message).spans) == ("judge", (Span(0, 1),))
    tool = ToolMessage("4", tool_call_id="1")
    calling = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "1"}])
    assert chat.get_num_tokens_from_messages([HumanMessage("1+3?"), calling, tool]) > 5


def test_models_that_know_no_emphasis_get_none(chat: ChatPasta) -> None:
    other = FakeListChatModel(responses=["plain"])
    failing = ChatPasta(model=SteeredModel(tiny.llama(), tiny.tokenizer()))
    safe = failing.with_fallbacks([strip_emphasis | other])
    assert safe.invoke(MARKED).content == "plain"
    value = EmphasisPromptValue.from_text(MARKED)
    messages = value.to_messages()
    assert strip_emphasis.invoke(messages) == [HumanMessage(TEXT)]
    assert strip_emphasis.invoke(messages[0]) == HumanMessage(TEXT)
    assert strip_emphasis.invoke(value).to_string() == TEXT
    assert type(strip_emphasis.invoke(value).to_string()) is str
    assert type(strip_emphasis.invoke(MARKED)) is str
    two = HumanMessage([{"type": "text", "text": "a", "extras": {"emphasis": [[0, 1]], "n": 1}}])
    assert strip_emphasis.invoke(two).content == [{"type": "text", "text": "a", "extras": {"n": 1}}]
    with pytest.raises(PromptError, match="no emphasis to strip from int"):
        strip_emphasis.invoke(3)


# Cache and concurrency


def test_equal_emphasis_shares_a_cache_entry_and_other_never(
    chat: ChatPasta, model: SteeredModel, answers: list[str], cache: InMemoryCache
) -> None:
    for _ in range(2):
        assert [chat.invoke(text).content for text in INPUTS] == answers
    assert len(cache._cache) == 3
    with Forwards(model) as rows:
        assert ChatPasta(model=model, max_tokens=6).invoke(MARKED).content == answers[0]
        assert asyncio.run(chat.ainvoke(OTHER)).content == answers[1]
    assert rows == []
    chat.invoke(MARKED, alpha=0.5)
    ChatPasta(model=model, max_tokens=6, alpha=0.5).invoke(MARKED)
    chat.invoke(MARKED, disable_steering=True)
    assert len(cache._cache) == 5


def test_50_concurrent_calls_equal_serial_ones_and_half_may_be_cancelled(
    chat: ChatPasta, answers: list[str]
) -> None:
    prompts = [SpanStr(TEXT, [Span(n, n + 6)]) for n in range(0, 25)] * 2
    alone = [chat.invoke(prompt).content for prompt in prompts[:25]] * 2

    async def all_of_them() -> list[str]:
        return [m.content for m in await asyncio.gather(*map(chat.ainvoke, prompts))]

    async def half_of_them() -> list[Any]:
        tasks = [asyncio.ensure_future(chat.ainvoke(prompt)) for prompt in prompts]
        await asyncio.sleep(0.02)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert asyncio.run(all_of_them()) == alone
    held, threads = _bytes_of_tensors(), threading.active_count()
    found = asyncio.run(half_of_them())
    assert sum(isinstance(one, asyncio.CancelledError) for one in found) == 25
    assert all(isinstance(one, asyncio.CancelledError | AIMessage) for one in found)
    assert [one.content for one in found[1::2]] == alone[1::2]
    assert [m.content for m in chat.batch(INPUTS)] == answers
    assert _bytes_of_tensors() == held
    assert threading.active_count() <= threads


def _bytes_of_tensors() -> int:
    gc.collect()
    tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_a_rate_limiter_is_asked(model: SteeredModel) -> None:
    limiter = InMemoryRateLimiter(requests_per_second=1000, max_bucket_size=1)
    asked: list[bool] = []
    acquire = limiter.acquire
    limiter.acquire = lambda **kwargs: asked.append(True) or acquire(**kwargs)  # type: ignore[method-assign]  # counts
    ChatPasta(model=model, max_tokens=2, rate_limiter=limiter).batch(INPUTS)
    assert len(asked) == 3
