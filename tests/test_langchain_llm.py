"""`PastaLLM`: emphasis reaches the model through every way of calling a chain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.messages import get_buffer_string
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import ChatPromptValue
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel, RunnablePassthrough

from pasta_chains import HeadProfile, Span, SpanStr, SteeredModel, emphasize
from pasta_chains.errors import EmphasisDroppedWarning, ProfileError, PromptError
from pasta_chains.langchain import (
    ChatPasta,
    EmphasisPromptTemplate,
    EmphasisPromptValue,
    PastaLLM,
)

SOURCE = "The mayor of Tarn is <% emphasize %>{{ a }}<% endemphasize %>. Or {{ b }}. Answer:"
INPUTS = [{"a": "Ada Lowe", "b": "Bo Marsh"}, {"a": "Bo", "b": emphasize("Ada Lowe", 0.1)}]
PLAIN = "The mayor of Tarn is Ada Lowe. Or Bo Marsh. Answer:"
MARKED = SpanStr(PLAIN, [Span(21, 29)])


@pytest.fixture(scope="module")
def model() -> SteeredModel:
    profile = HeadProfile({0: [2], 1: [0, 3], 2: [0, 1, 2, 3]}, alpha=0.02)
    return SteeredModel(tiny.llama(), tiny.tokenizer(), profile)


@pytest.fixture
def llm(model: SteeredModel) -> PastaLLM:
    return PastaLLM(model=model, max_new_tokens=6)


@pytest.fixture
def chain(llm: PastaLLM) -> Runnable[dict, str]:
    return EmphasisPromptTemplate.from_template(SOURCE) | llm | StrOutputParser()


@pytest.fixture
def cache() -> Iterator[InMemoryCache]:
    made = InMemoryCache()
    set_llm_cache(made)
    yield made
    set_llm_cache(None)


@pytest.fixture
def answers(model: SteeredModel) -> list[str]:
    prompts = [EmphasisPromptTemplate.from_template(SOURCE).format(**given) for given in INPUTS]
    assert [len(prompt.spans) for prompt in prompts] == [1, 2]
    assert prompts[0] == MARKED
    found = model.generate(prompts, max_new_tokens=6)
    assert found[0] != model.generate(PLAIN, max_new_tokens=6)
    return found


async def collected(chunks: Any) -> str:
    return "".join([chunk async for chunk in chunks])


WAYS = {
    "invoke": lambda chain: [chain.invoke(given) for given in INPUTS],
    "batch": lambda chain: chain.batch(INPUTS),
    "batch one by one": lambda chain: chain.batch(INPUTS, config={"max_concurrency": 1}),
    "stream": lambda chain: ["".join(chain.stream(given)) for given in INPUTS],
    "ainvoke": lambda chain: [asyncio.run(chain.ainvoke(given)) for given in INPUTS],
    "abatch": lambda chain: asyncio.run(chain.abatch(INPUTS)),
    "astream": lambda chain: [asyncio.run(collected(chain.astream(given))) for given in INPUTS],
}
WRAPPED = {
    "as it is": lambda chain: chain,
    "with_retry": lambda chain: chain.with_retry(stop_after_attempt=2),
    "with_fallbacks": lambda chain: RunnableLambda(lambda _: 1 / 0).with_fallbacks([chain]),
    "bind": lambda chain: chain.first | chain.steps[1].bind(stop=["never there"]) | chain.last,
    "parallel": lambda chain: RunnableParallel(x=chain) | (lambda found: found["x"]),
    "passthrough": lambda chain: RunnablePassthrough.assign(x=chain) | (lambda found: found["x"]),
}


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED.keys())
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_every_way_gives_the_text_of_the_steered_model(
    way: Any, wrapped: Any, chain: Runnable, answers: list[str]
) -> None:
    assert way(wrapped(chain)) == answers


def test_the_llm_itself_falls_back_and_retries_with_its_emphasis(
    llm: PastaLLM, model: SteeredModel, answers: list[str]
) -> None:
    prompt = EmphasisPromptTemplate.from_template(SOURCE)
    broken = PastaLLM(model=SteeredModel(tiny.llama(), tiny.tokenizer()))
    with pytest.raises(ProfileError, match="no head profile"):
        (prompt | broken).invoke(INPUTS[0])
    assert (prompt | broken.with_fallbacks([llm])).invoke(INPUTS[0]) == answers[0]
    assert (prompt | llm.with_retry()).batch(INPUTS) == answers


def test_branches_that_run_at_once_keep_their_own_emphasis(
    llm: PastaLLM, model: SteeredModel
) -> None:
    sources = {f"k{n}": PLAIN[:n] + "{{ x | emphasize }}" + PLAIN[n:] for n in range(0, 40, 5)}
    branches = {k: EmphasisPromptTemplate.from_template(s) | llm for k, s in sources.items()}
    expected = {
        k: model.generate(
            EmphasisPromptTemplate.from_template(s).format(x="Tarn"), max_new_tokens=6
        )
        for k, s in sources.items()
    }
    assert RunnableParallel(branches).invoke({"x": "Tarn"}) == expected


def test_bound_stop_strings_end_the_text(llm: PastaLLM, answers: list[str]) -> None:
    assert "a" in answers[0]
    chain = EmphasisPromptTemplate.from_template(SOURCE) | llm.bind(stop=["a"])
    assert chain.invoke(INPUTS[0]) == answers[0][: answers[0].index("a")]
    assert "".join(chain.stream(INPUTS[0])) == chain.invoke(INPUTS[0])


def test_arguments_of_the_call_and_of_the_instance_reach_the_model(model: SteeredModel) -> None:
    llm = PastaLLM(model=model, max_new_tokens=6, alpha=1.0, generation_arguments={"num_beams": 2})
    assert llm.invoke(EmphasisPromptValue.from_text(MARKED)) == model.generate(
        PLAIN, max_new_tokens=6, num_beams=2
    )
    prompt = EmphasisPromptValue.from_text(MARKED)
    assert llm.invoke(prompt, max_new_tokens=2, alpha=0.1) == model.generate(
        MARKED, max_new_tokens=2, alpha=0.1, num_beams=2
    )


def test_chat_sends_the_prompt_as_one_user_message(model: SteeredModel) -> None:
    llm = PastaLLM(model=model, max_new_tokens=6, use_chat_template=True)
    expected = model.generate([{"role": "user", "content": MARKED}], max_new_tokens=6)
    prompt = EmphasisPromptValue.from_text(MARKED)
    assert llm.invoke(prompt) == expected
    assert "".join(llm.stream(prompt)) == expected
    assert expected != model.generate(MARKED, max_new_tokens=6)


def test_a_text_with_emphasis_can_be_passed_alone(llm: PastaLLM, model: SteeredModel) -> None:
    expected = model.generate(MARKED, max_new_tokens=6)
    assert llm.invoke(MARKED) == expected != llm.invoke(PLAIN)
    assert "".join(llm.stream(MARKED)) == expected
    assert llm.batch([MARKED, PLAIN]) == [expected, llm.invoke(PLAIN)]
    assert asyncio.run(llm.ainvoke(MARKED)) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        EmphasisPromptValue.from_text(MARKED).to_messages(),
        ChatPromptValue(messages=EmphasisPromptValue.from_text(MARKED).to_messages()),
        [{"role": "user", "content": MARKED}],
        [("human", MARKED)],
        [MARKED],
    ],
    ids=["messages", "value", "dict", "tuple", "text"],
)
def test_messages_that_would_lose_their_emphasis_are_refused(llm: PastaLLM, prompt: Any) -> None:
    ways: list[Callable[[], object]] = [
        lambda: llm.invoke(prompt),
        lambda: asyncio.run(llm.ainvoke(prompt)),
        lambda: list(llm.stream(prompt)),
        lambda: llm.batch([prompt]),
    ]
    if isinstance(prompt, ChatPromptValue):
        ways.append(lambda: llm.generate_prompt([prompt]))
        ways.append(lambda: asyncio.run(llm.agenerate_prompt([prompt])))
    for way in ways:
        with pytest.raises(PromptError, match="Use ChatPasta, or pass an EmphasisPromptValue"):
            way()


def test_messages_without_emphasis_are_joined_as_in_every_llm(
    llm: PastaLLM, model: SteeredModel
) -> None:
    messages = EmphasisPromptValue(text="Tarn").to_messages()
    expected = model.generate(get_buffer_string(messages), max_new_tokens=6)
    assert llm.invoke(messages) == llm.invoke(ChatPromptValue(messages=messages)) == expected
    assert llm.invoke([("human", "Tarn")]) == expected


def test_a_plain_prompt_template_works_and_drops_emphasis_only_with_a_warning(
    llm: PastaLLM, model: SteeredModel
) -> None:
    plain = PromptTemplate.from_template("The mayor of Tarn is {a}. Or {b}. Answer:") | llm
    assert plain.invoke(INPUTS[0]) == model.generate(PLAIN, max_new_tokens=6)
    with pytest.warns(EmphasisDroppedWarning):
        plain.invoke({"a": "Ada Lowe", "b": emphasize("Bo Marsh")})


def test_usage_is_told(llm: PastaLLM, model: SteeredModel) -> None:
    prompts = [EmphasisPromptValue.from_text(MARKED), EmphasisPromptValue(text="Tarn")]
    result = llm.generate_prompt(prompts)
    runs = model.run([MARKED, "Tarn"], max_new_tokens=6)
    assert result.llm_output == {
        "model_name": model.name,
        "token_usage": {
            "prompt_tokens": sum(run.prompt_tokens for run in runs),
            "completion_tokens": sum(run.new_tokens for run in runs),
        },
    }
    for (generation,), run in zip(result.generations, runs, strict=True):
        assert generation.text == run.text
        assert generation.generation_info == {
            "finish_reason": run.finish_reason,
            "prompt_tokens": run.prompt_tokens,
            "completion_tokens": run.new_tokens,
        }


@pytest.mark.parametrize("text", [PLAIN, MARKED.text + "🙂", ""])
def test_tokens_are_counted_by_the_models_tokenizer(
    llm: PastaLLM, model: SteeredModel, text: str
) -> None:
    assert llm.get_num_tokens(text) == model.count_tokens(text)
    assert llm.get_num_tokens(text + emphasize("!")) == model.count_tokens(text + "!")


# Cache


@pytest.mark.parametrize("order", [(PLAIN, MARKED), (MARKED, PLAIN)], ids=["plain", "marked"])
@pytest.mark.parametrize("is_global", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
def test_the_cache_never_answers_a_prompt_with_other_emphasis(
    model: SteeredModel, order: tuple[str, str], is_global: bool, is_async: bool,
    cache: InMemoryCache,
) -> None:  # fmt: skip
    llm = PastaLLM(model=model, max_new_tokens=6)
    if not is_global:
        set_llm_cache(None)
        llm = PastaLLM(model=model, max_new_tokens=6, cache=cache)
    for text in (*order, *order):
        prompt = EmphasisPromptValue.from_text(SpanStr(text))
        found = asyncio.run(llm.ainvoke(prompt)) if is_async else llm.invoke(prompt)
        assert found == model.generate(text, max_new_tokens=6)
    assert len(cache._cache) == 2


def test_the_cache_keeps_answers_by_the_arguments_of_the_call(
    llm: PastaLLM, model: SteeredModel, cache: InMemoryCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calls() -> list[str]:
        shorter = PastaLLM(model=model, max_new_tokens=1)
        return [
            llm.invoke(PLAIN),
            llm.invoke(MARKED),
            llm.invoke(PLAIN, max_new_tokens=2),
            llm.bind(max_new_tokens=3).invoke(PLAIN),
            llm.invoke(MARKED, alpha=0.5),
            shorter.invoke(PLAIN),
            *llm.batch([PLAIN, MARKED], config={"tags": ["t"], "metadata": {"m": 1}}),
        ]

    first = calls()
    assert first == [
        model.generate(PLAIN, max_new_tokens=6),
        model.generate(MARKED, max_new_tokens=6),
        model.generate(PLAIN, max_new_tokens=2),
        model.generate(PLAIN, max_new_tokens=3),
        model.generate(MARKED, max_new_tokens=6, alpha=0.5),
        model.generate(PLAIN, max_new_tokens=1),
        *first[:2],
    ]
    assert llm.invoke(PLAIN, stop=[first[0][1]]) == first[0][: first[0].index(first[0][1])]
    monkeypatch.setattr(model, "run", lambda *_, **__: pytest.fail("not from the cache"))
    assert calls() == first


# LangChain has no other cache on disk, though it is no longer worked on.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*in beta")
def test_a_cache_on_disk_knows_emphasis(model: SteeredModel, tmp_path: Path) -> None:
    from langchain_community.cache import SQLiteCache

    def calls() -> list[Any]:
        fields: Any = {"model": model, "max_new_tokens": 6}
        fields["cache"] = SQLiteCache(str(tmp_path / "answers.db"))
        llm, chat = PastaLLM(**fields), ChatPasta(**fields)
        chatted = [chat.invoke(text).content for text in (PLAIN, MARKED)]
        return [llm.invoke(PLAIN), llm.invoke(MARKED), *chatted]

    first = calls()
    assert first[:2] == model.generate([PLAIN, MARKED], max_new_tokens=6)
    assert len(set(first)) == 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "run", lambda *_, **__: pytest.fail("not from the cache"))
        assert calls() == first


def test_its_identity_tells_what_the_answer_depends_on(model: SteeredModel) -> None:
    def identity(**fields: Any) -> str:
        llm = PastaLLM(model=model, **fields)
        told = llm.asdict() if hasattr(llm, "asdict") else llm.dict()  # renamed in langchain-core
        return str(sorted(told.items()))

    assert identity() == identity()
    fields: list[dict[str, Any]] = [
        {}, {"alpha": 0.5}, {"use_chat_template": True}, {"max_new_tokens": 3},
        {"generation_arguments": {"num_beams": 2}},
    ]  # fmt: skip
    assert len({identity(**one) for one in fields}) == len(fields)
    assert "'2': [0, 1, 2, 3]" in identity()
    assert "('_type', 'pasta')" in identity()
