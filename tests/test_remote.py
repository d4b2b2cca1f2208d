"""The client of a server: what it sends, what it refuses, and what becomes of requests given up."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import tiny
from fake_server import FakeServer, fake_server

import pasta_chains
from pasta_chains import HeadProfile, RemoteModel, SpanStr, SteeredModel, connect
from pasta_chains.errors import (
    AnswerTimeoutError,
    MissingExtraError,
    ProfileError,
    PromptError,
    ServerError,
)
from pasta_chains.langchain import PastaLLM
from pasta_chains.structured import Structure
from pasta_chains.wire import KEY

PROFILE = HeadProfile({1: [0, 2], 2: [3]}, alpha=0.01)
TEXT = SpanStr("The mayor of Tarn is Ada Lowe.", [(4, 9)])


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server(SteeredModel(tiny.llama(), tiny.tokenizer(), PROFILE)) as serving:
        yield serving


@pytest.fixture
def remote(server: FakeServer) -> Iterator[RemoteModel]:
    model = connect(server.url, retries=0)
    yield model
    model.close()


def sent(server: FakeServer) -> dict[str, Any]:
    return server.asked[-1]


def emphasis(server: FakeServer) -> Any:
    return json.loads(sent(server)["vllm_xargs"][KEY])


def test_tokens_and_their_spans_are_sent(remote: RemoteModel, server: FakeServer) -> None:
    remote.generate(TEXT, max_new_tokens=3)
    read = remote.tokenizer(TEXT.text, return_offsets_mapping=True)
    assert sent(server)["prompt"] == read["input_ids"]
    assert sent(server)["temperature"] == 0.0  # vLLM draws by chance where nobody says otherwise
    told = emphasis(server)
    (mark,) = told["spans"]
    steered = list(read["offset_mapping"][mark[0] : mark[1]])
    assert "".join(TEXT.text[start:end] for start, end in steered).strip() == "mayor"
    assert (told["version"], told["unit"], told["alpha"]) == (1, "tokens", 0.01)
    remote.generate(TEXT.text, max_new_tokens=3)
    assert "vllm_xargs" not in sent(server)
    remote.generate(TEXT, max_new_tokens=3, profile=HeadProfile({}))
    assert "vllm_xargs" not in sent(server)
    remote.generate(TEXT, max_new_tokens=3, profile=replace(PROFILE, alpha=0.3))
    assert emphasis(server)["alpha"] == 0.3


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ({"do_sample": True}, {"temperature": 1.0, "top_k": 50}),
        (
            {"do_sample": True, "temperature": 0.3, "top_k": 7, "top_p": 0.5, "seed": 3},
            {"temperature": 0.3, "top_k": 7, "top_p": 0.5, "seed": 3},
        ),
        ({"do_sample": True, "top_k": 0}, {"temperature": 1.0, "top_k": 0}),
        ({"min_new_tokens": 2}, {"min_tokens": 2}),
        ({"repetition_penalty": 1.5, "cache_salt": "s"}, {"repetition_penalty": 1.5}),
        ({"num_return_sequences": 2}, {"n": 2}),
        ({"logprobs": True}, {"logprobs": 0}),
        ({"stop": "end"}, {"stop": ["end"]}),
        ({"structure": Structure.json()}, {"structured_outputs": {"json": {"type": "object"}}}),
        ({"structure": Structure.regex("a+")}, {"structured_outputs": {"regex": "a+"}}),
        ({"structure": Structure.choice(["a"])}, {"structured_outputs": {"choice": ["a"]}}),
        (
            {"structure": Structure.lark('start: "a"')},
            {"structured_outputs": {"grammar": 'start: "a"'}},
        ),
    ],
    ids=str,
)
def test_arguments_are_sent_in_vllms_words(
    remote: RemoteModel, server: FakeServer, arguments: dict[str, Any], body: dict[str, Any]
) -> None:
    answers = remote.run(TEXT, max_new_tokens=3, **arguments)
    assert sent(server).items() >= body.items()
    assert len(answers) == body.get("n", 1)


def test_what_the_server_refuses_is_told(remote: RemoteModel, server: FakeServer) -> None:
    for status, error in ((400, PromptError), (500, ServerError), (401, ServerError)):
        server.refuse = (status, "because of this")
        with pytest.raises(error, match="because of this"):
            remote.generate(TEXT)
        with pytest.raises(error, match="because of this"):
            list(remote.stream(TEXT))


def test_a_server_without_the_plugin_is_refused(server: FakeServer) -> None:
    server.refuse = (404, "Not Found")
    with pytest.raises(ServerError, match="does not steer, so it would lose all emphasis"):
        connect(server.url)
    server.refuse, server.about = None, {"schema": 2}
    with pytest.raises(ServerError, match="reads schema 2 of emphasis, and this is schema 1"):
        connect(server.url)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"retries": -1}, "retries is -1; it must be a number, 0 or more"),
        ({"retries": "2"}, "retries is '2'"),
        ({"timeout": 0}, "timeout is 0; it must be a number of seconds"),
    ],
)
def test_malformed_arguments_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ServerError, match=message):
        connect("http://localhost:1", **arguments)


def test_a_copy_shares_the_connection(remote: RemoteModel) -> None:
    copied = copy.deepcopy(remote)
    assert copied.generate(TEXT, max_new_tokens=3) == remote.generate(TEXT, max_new_tokens=3)


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(ServerError, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        connect("http://127.0.0.1:9/v1/", retries=0)
    with pytest.raises(ServerError, match="it must be like http://localhost:8000"):
        connect("localhost:8000")


def test_other_heads_than_the_servers_are_refused(remote: RemoteModel, server: FakeServer) -> None:
    with pytest.raises(ProfileError, match="steers the heads that it was started with"):
        remote.generate(TEXT, profile=HeadProfile({0: [1]}))
    with pytest.raises(ProfileError, match="steers the heads"):
        remote.generate(TEXT, profile="default")
    assert not server.asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_beams": 2}, "num_beams cannot be sent to a vLLM server. It takes do_sample"),
        ({"stopping_criteria": [lambda *_: True]}, "stopping_criteria cannot be sent"),
        ({"structure": "json"}, "structure is 'json'"),
    ],
)
def test_what_cannot_be_sent_is_refused(
    remote: RemoteModel, server: FakeServer, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        remote.generate(TEXT, **arguments)
    assert not server.asked


def test_an_answer_that_takes_too_long_is_given_up(remote: RemoteModel, server: FakeServer) -> None:
    server.wait = threading.Event()
    try:
        with pytest.raises(AnswerTimeoutError, match="did not answer in time"):
            remote.generate(TEXT, max_new_tokens=3, max_time=0.2)
    finally:
        server.wait.set()


async def test_a_cancelled_task_ends_its_stream(remote: RemoteModel, server: FakeServer) -> None:
    server.wait = threading.Event()
    pieces = remote.astream(TEXT, max_new_tokens=100)
    assert await anext(pieces)
    await pieces.aclose()
    assert await asyncio.to_thread(server.gone.wait, 5)
    server.wait.set()


def test_a_closed_stream_ends_its_request(remote: RemoteModel, server: FakeServer) -> None:
    server.wait = threading.Event()
    stream = remote.stream(TEXT, max_new_tokens=100)
    next(stream)
    stream.close()
    assert server.gone.wait(5)
    server.wait.set()


async def test_a_cancelled_call_is_given_up(remote: RemoteModel, server: FakeServer) -> None:
    server.wait = threading.Event()
    task = asyncio.ensure_future(remote.arun([TEXT] * 3, max_new_tokens=3))
    while not server.asked:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.wait.set()
    assert len(await remote.arun([TEXT] * 3, max_new_tokens=3)) == 3


def test_many_prompts_are_under_way_at_once(remote: RemoteModel, server: FakeServer) -> None:
    server.wait = threading.Event()
    found: list[Any] = []
    running = threading.Thread(
        target=lambda: found.extend(remote.run([TEXT] * 8, max_new_tokens=3))
    )
    running.start()
    for _ in range(500):
        if len(server.asked) == 8:
            break
        threading.Event().wait(0.01)
    assert len(server.asked) == 8
    server.wait.set()
    running.join()
    assert len({answer.text for answer in found}) == 1


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"pasta-chains\[remote\]"):
        pasta_chains.connect("http://localhost:1")


def test_an_answer_that_breaks_off_is_no_answer(remote: RemoteModel, server: FakeServer) -> None:
    for reason in (None, "abort", "error"):
        server.reason = reason
        with pytest.raises(ServerError, match="before it was whole"):
            remote.generate(TEXT, max_new_tokens=5)
        with pytest.raises(ServerError, match="before it was whole"):
            list(remote.stream(TEXT, max_new_tokens=5))


def test_a_stream_has_its_time_for_all_of_it(remote: RemoteModel, server: FakeServer) -> None:
    server.wait = threading.Event()  # a tenth of a second for each token
    with pytest.raises(AnswerTimeoutError):
        list(remote.stream(TEXT, max_new_tokens=100, max_time=0.5))
    server.wait.set()
    assert len(server.asked) == 1


def test_an_answer_that_took_too_long_is_not_asked_for_again(server: FakeServer) -> None:
    model = connect(server.url)
    server.wait = threading.Event()
    with pytest.raises(AnswerTimeoutError):
        model.generate(TEXT, max_new_tokens=3, max_time=0.3)
    server.wait.set()
    assert len(server.asked) == 1
    model.close()


def test_the_profile_that_was_told_is_counted_on(remote: RemoteModel, server: FakeServer) -> None:
    remote.generate(TEXT, max_new_tokens=3)
    assert emphasis(server)["profile"] == server.describe()["digest"]
    server.model.profile = replace(PROFILE, alpha=0.5)
    with pytest.raises(PromptError, match="unknown here"):
        remote.generate(TEXT, max_new_tokens=3)


def test_a_server_that_steers_no_more_is_noticed(remote: RemoteModel, server: FakeServer) -> None:
    server.steers = False
    with pytest.raises(ServerError, match="does not steer"):
        remote.generate(TEXT, max_new_tokens=3)
    with pytest.raises(ServerError, match="does not steer"):
        list(remote.stream(TEXT.text, max_new_tokens=3))


def test_a_closed_connection_is_told(remote: RemoteModel, server: FakeServer) -> None:
    remote.close()
    remote.close()
    with pytest.raises(ServerError, match="was closed"):
        remote.generate(TEXT)


def run(code: str) -> str:
    """What a program prints, which must not end with an error or a word of Python's own."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    return ran.stdout


def test_a_forked_process_is_told_to_connect(server: FakeServer) -> None:
    code = f"""
import os
from pasta_chains import connect, ServerError
model = connect({server.url!r})
if os.fork():
    os.wait()
else:
    try:
        model.generate("The mayor")
    except ServerError as error:
        print(error)
"""
    assert "Connect in each process" in run(code)


def test_a_program_that_closes_nothing_ends_quietly(server: FakeServer) -> None:
    code = f"""
from pasta_chains import connect
model = connect({server.url!r})
print(len(model.generate("The mayor", max_new_tokens=3)) > 0)
"""
    assert run(code) == "True\n"


def test_a_connection_that_is_forgotten_ends_its_thread(server: FakeServer) -> None:
    before = set(threading.enumerate())
    connect(server.url)
    gc.collect()
    deadline = time.monotonic() + 5
    while any(one.name == "pasta-remote" for one in set(threading.enumerate()) - before):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_is_asked_again_as_often_as_wanted(server: FakeServer) -> None:
    llm = PastaLLM(base_url=server.url, max_retries=0)
    server.refuse = (500, "no")
    with pytest.raises(ServerError):
        llm.invoke("The")
    assert len(server.asked) == 1
    assert llm._identifying_params["base_url"] == server.url
