"""What a model that reads emphasis can be asked: the same of one that runs here and of one that
runs on a server. `tests/with_vllm` asks all of it of a real server, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from fake_server import fake_server

from pasta_chains import EmphasisModel, HeadProfile, SpanStr, SteeredModel, connect
from pasta_chains.errors import (
    EmphasisError,
    ProfileError,
    PromptError,
    PromptTooLongError,
)
from pasta_chains.generation import Generation
from pasta_chains.spans import concat, emphasize

PROFILE = HeadProfile({1: [0, 2], 2: [3]}, alpha=0.01)
LONG = " Only the emphasized words are read with full attention." * 3


def prompt(place: int, alpha: float | None = None) -> SpanStr:
    names = ["Ada Lowe", "Bo Marsh", "Cy Penn"]
    told = [f"The mayor of Tarn is {name}. " for name in names]
    marked = [emphasize(one, alpha) if n == place else one for n, one in enumerate(told)]
    return concat([*marked, "Who is the mayor? Answer:"])


PROMPTS = [*map(prompt, range(4)), prompt(1, 0.3), SpanStr("The mayor" + LONG, [(4, 9)])]


@pytest.fixture(scope="module")
def local() -> SteeredModel:
    return SteeredModel(tiny.llama().double(), tiny.tokenizer(), PROFILE)


@pytest.fixture(scope="module", params=["here", "on a server"])
def model(request: pytest.FixtureRequest, local: SteeredModel) -> Iterator[EmphasisModel]:
    if request.param == "here":
        yield local
        return
    with fake_server(SteeredModel(tiny.llama().double(), tiny.tokenizer(), PROFILE)) as server:
        remote = connect(server.url)
        yield remote
        remote.close()


def same(found: list[Generation], wanted: list[Generation]) -> None:
    assert [replace(one, logprobs=()) for one in found] == [
        replace(one, logprobs=()) for one in wanted
    ]
    for one, other in zip(found, wanted, strict=True):
        assert [token.token for token in one.logprobs] == [token.token for token in other.logprobs]
        assert [token.logprob for token in one.logprobs] == pytest.approx(
            [token.logprob for token in other.logprobs], abs=1e-5
        )
        tops = [[text for text, _ in token.top] for token in one.logprobs]
        assert tops == [[text for text, _ in token.top] for token in other.logprobs]


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_new_tokens": 12, "logprobs": True},
        {"max_new_tokens": 12, "logprobs": 3, "alpha": 0.5},
        {"max_new_tokens": 12, "special_tokens": ["</s>"]},
        {"max_new_tokens": 12, "profile": HeadProfile({})},
        {"max_new_tokens": 240, "overflow": "keep-emphasis"},
    ],
    ids=" ".join,
)
def test_answers(model: EmphasisModel, local: SteeredModel, arguments: dict[str, Any]) -> None:
    # One by one: what float32 rounds differs with the padding of a batch.
    alone = [local.run(one, **arguments)[0] for one in PROMPTS]
    same(model.run(PROMPTS, **arguments), alone)


def test_a_profile_of_the_same_heads_brings_its_alpha(
    model: EmphasisModel, local: SteeredModel
) -> None:
    assert local.profile is not None
    weaker = replace(local.profile, alpha=0.2)
    for one in PROMPTS:
        found = model.run(one, max_new_tokens=12, logprobs=True, profile=weaker)
        same(found, local.run(one, max_new_tokens=12, logprobs=True, alpha=0.2))


def test_emphasis_changes_answers(model: EmphasisModel) -> None:
    plain = model.generate([one.text for one in PROMPTS], max_new_tokens=12)
    assert model.generate(PROMPTS, max_new_tokens=12) != plain
    assert model.generate(PROMPTS, max_new_tokens=12, alpha=1.0)[:4] == plain[:4]


def test_a_stop_string_ends_an_answer(model: EmphasisModel, local: SteeredModel) -> None:
    whole = local.generate(PROMPTS[0], max_new_tokens=20)
    words = [whole[6:8], whole[9:12]]
    before = whole[: min(map(whole.find, words))]
    (stopped,) = model.run(PROMPTS[0], max_new_tokens=20, stop=words)
    same([stopped], local.run(PROMPTS[0], max_new_tokens=20, stop=words))
    assert (stopped.text, stopped.finish_reason) == (before, "stop")
    assert "".join(model.stream(PROMPTS[0], max_new_tokens=20, stop=words)) == before


def test_chat_messages(model: EmphasisModel, local: SteeredModel) -> None:
    chat = [{"role": "system", "content": emphasize("Be </s> brief.")}]
    chat.append({"role": "user", "content": prompt(2)})
    assert model.count_tokens(chat) == local.count_tokens(chat)
    same(model.run(chat, max_new_tokens=9), local.run(chat, max_new_tokens=9))


def test_streams(model: EmphasisModel, local: SteeredModel) -> None:
    arguments: dict[str, Any] = {"max_new_tokens": 12, "logprobs": 2}
    for one in PROMPTS[:3]:
        stream = model.stream(one, **arguments)
        assert "".join(stream) == stream.generation.text
        same([stream.generation], local.run(one, **arguments))


async def test_streams_for_asyncio(model: EmphasisModel, local: SteeredModel) -> None:
    async def read(one: SpanStr) -> str:
        return "".join([piece async for piece in model.astream(one, max_new_tokens=12)])

    texts = await asyncio.gather(*map(read, PROMPTS))
    assert texts == [local.generate(one, max_new_tokens=12) for one in PROMPTS]
    assert await model.agenerate(PROMPTS, max_new_tokens=12) == texts


def test_a_closed_stream_tells_what_came(model: EmphasisModel) -> None:
    stream = model.stream(PROMPTS[0], max_new_tokens=100)
    with pytest.raises(PromptError, match="has not ended"):
        _ = stream.generation
    first = next(stream)
    stream.close()
    assert stream.generation.text.startswith(first)
    assert stream.generation.finish_reason == "length"


def test_scores(model: EmphasisModel, local: SteeredModel) -> None:
    answers = [" Ada Lowe", " Bo Marsh and no one else"]
    less = SpanStr(prompt(9).text, [(0, 8, None, None, True)])
    for one in [*PROMPTS, less]:
        assert model.score(one, answers) == pytest.approx(local.score(one, answers), abs=1e-4)
    assert model.score(PROMPTS[0], []) == []


def test_what_a_model_says_of_itself(model: EmphasisModel, local: SteeredModel) -> None:
    assert 0 < (model.context_length or 0) <= (local.context_length or 0)
    assert model.profile == local.profile
    assert model.head_counts == local.head_counts
    assert model.tokenizer.get_vocab() == local.tokenizer.get_vocab()
    assert model.run([]) == []


@pytest.mark.parametrize(
    ("asked", "arguments", "error", "message"),
    [
        ([PROMPTS[0]], {"max_new_tokens": 0}, PromptError, "max_new_tokens is 0"),
        ([PROMPTS[0]], {"alpha": 0}, EmphasisError, "alpha is 0"),
        ([SpanStr("a  b", [(1, 3)])], {}, EmphasisError, "covers no token"),
        ([PROMPTS[0] * 20], {}, PromptTooLongError, "Shorten the prompt"),
        ([PROMPTS[0]], {"profile": HeadProfile({9: [1]})}, ProfileError, "profile"),
        ([PROMPTS[0]], {"profile": Path("none.json")}, ProfileError, "cannot be read"),
        ([PROMPTS[0]], {"no_such_argument": 1}, PromptError, "no_such_argument"),
        ([PROMPTS[0]], {"logprobs": -1}, PromptError, "logprobs is -1"),
        ([PROMPTS[0]], {"seed": -1}, PromptError, "seed is -1"),
        ([PROMPTS[0]], {"stop": [""]}, PromptError, "cannot end an answer"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    model: EmphasisModel, asked: Any, arguments: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        model.run(asked, **arguments)
    with pytest.raises(error, match=message):
        list(model.stream(*asked, **arguments))
