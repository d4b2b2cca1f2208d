"""Emphasis that no route would read is refused, and every other request passes unchanged."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pasta_chains.vllm.guard import Guard, problem
from pasta_chains.wire import KEY

MARKED = {"type": "text", "text": "Be brief.", "extras": {"emphasis": [[0, 2]]}}
PLAIN = {"type": "text", "text": "Be brief.", "extras": {"other": 1}}
XARGS = {"vllm_xargs": {KEY: '{"version": 1, "spans": [[0, 2]]}'}}


def said(path: str, data: Any) -> str | None:
    return problem(path, json.dumps(data).encode())


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/v1/messages", {"messages": [{"role": "user", "content": [MARKED]}]}),
        ("/v1/messages", {"system": [MARKED], "messages": []}),
        (
            "/v1/messages",
            {"messages": [{"content": [{"type": "tool_result", "content": [MARKED]}]}]},
        ),
        ("/v1/messages", XARGS),
        ("/v1/responses", {"input": [{"role": "assistant", "content": [MARKED]}]}),
        ("/generative_scoring", XARGS),
    ],
)
def test_routes_that_would_lose_it_are_closed_to_it(path: str, data: Any) -> None:
    assert "takes no emphasis" in str(said(path, data))


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "Be brief.", "extras": {"emphasis": [[0, 2]]}},
        {"role": "user", "content": [{"type": "text", "text": "Be.", "emphasis": [[0, 2]]}]},
    ],
)
def test_emphasis_in_the_wrong_place_is_told(message: dict[str, Any]) -> None:
    told = said("/v1/chat/completions", {"messages": [message]})
    assert "belongs into the extras of its text blocks" in str(told)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [MARKED]}]}),
        ("/v1/chat/completions/batch", {"messages": [[{"role": "user", "content": [MARKED]}]]}),
        ("/v1/completions", {"prompt": "x", **XARGS}),
        (f"/v1/{KEY}/completions", {"prompt": "x", **XARGS}),
        ("/tokenize", {"messages": [{"role": "user", "content": [MARKED]}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [PLAIN]}]}),
        ("/v1/responses", {"input": 'what does "emphasis" and "pasta_chains" mean?'}),
    ],
)
def test_what_is_read_or_has_none_passes(path: str, data: Any) -> None:
    assert said(path, data) is None


@given(
    st.binary() | st.text().map(str.encode) | st.builds(lambda x: b'"emphasis"' + x, st.binary())
)
def test_any_body_is_judged(body: bytes) -> None:
    assert problem("/v1/messages", body) is None
    assert problem("/v1/chat/completions", body) is None


def pass_through(pieces: list[bytes], path: str) -> tuple[list[bytes], list[Any], int]:
    """What the application receives, what the client is sent, and how many were refused."""
    received: list[bytes] = []
    sent: list[Any] = []
    refused: list[None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            received.append(message["body"])

    messages = [
        {"type": "http.request", "body": piece, "more_body": n < len(pieces)}
        for n, piece in enumerate(pieces, 1)
    ]
    waiting = iter([*messages, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(waiting)

    async def send(message: Any) -> None:
        sent.append(message)

    guard = Guard(app, lambda: refused.append(None))
    asyncio.run(guard({"type": "http", "method": "POST", "path": path}, receive, send))
    return received, sent, len(refused)


@given(st.lists(st.binary(), min_size=1, max_size=4))
def test_a_body_arrives_as_it_was_sent(pieces: list[bytes]) -> None:
    assert pass_through(pieces, "/v1/messages") == (pieces, [], 0)


def test_a_refusal_is_an_answer_and_is_counted() -> None:
    body = json.dumps({"system": [MARKED]}).encode()
    received, (start, answer), refused = pass_through([body[:20], body[20:]], "/v1/messages")
    assert (received, start["status"], refused) == ([], 400, 1)
    assert "takes no emphasis" in json.loads(answer["body"])["error"]["message"]
