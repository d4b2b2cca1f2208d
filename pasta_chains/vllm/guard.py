"""Refuses emphasis wherever it would be lost: on other routes, and in other places of a message."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..wire import KEY

READING = ("/v1/completions", f"/v1/{KEY}/completions", "/v1/chat/completions", "/tokenize")
"""Routes that read emphasis, or need not, as they only count; and those below them."""


class Guard:
    """Answers requests with status 400 whose emphasis nobody would read.

    Args:
        app: The ASGI application that comes next.
        refused: Called for each request that is refused.
    """

    def __init__(self, app: Any, refused: Callable[[], None]) -> None:
        self._app = app
        self._refused = refused

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Take one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        messages, body = await _whole(receive)
        reason = problem(scope["path"], body)
        if reason is None:
            await self._app(scope, _again(messages, receive), send)
            return
        self._refused()
        error = {"message": reason, "type": "BadRequestError", "param": None, "code": 400}
        answer = json.dumps({"error": error}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def problem(path: str, body: bytes) -> str | None:
    """Why a request would lose emphasis; None if it would not.

    Args:
        path: Its route.
        body: What was sent.
    """
    reads = any(path == one or path.startswith(f"{one}/") for one in READING)
    if b'"emphasis"' not in body and (reads or f'"{KEY}"'.encode() not in body):
        return None
    try:
        data = json.loads(body)
    except ValueError:
        return None  # vLLM says so, too
    if not reads:
        if _asks(data) or any(_marked(one) for one in _inside(data)):
            return f"{path} takes no emphasis. Send it to /v1/completions or /v1/chat/completions."
        return None
    messages = data.get("messages") if isinstance(data, Mapping) else None
    for message in messages if isinstance(messages, list) else ():
        blocks = message.get("content") if isinstance(message, Mapping) else None
        if _marked(message) or any(map(_bare, blocks if isinstance(blocks, list) else ())):
            return (
                "The emphasis of a message belongs into the extras of its text blocks: "
                '{"type": "text", "text": "…", "extras": {"emphasis": [[0, 5]]}}.'
            )
    return None


async def _whole(receive: Any) -> tuple[list[Any], bytes]:
    messages = [await receive()]
    while messages[-1]["type"] == "http.request" and messages[-1].get("more_body"):
        messages.append(await receive())
    return messages, b"".join(message.get("body", b"") for message in messages)


def _again(messages: list[Any], receive: Any) -> Any:
    waiting = iter(messages)

    async def replay() -> Any:
        for message in waiting:
            return message
        return await receive()

    return replay


def _asks(data: Any) -> bool:
    given = data.get("vllm_xargs") if isinstance(data, Mapping) else None
    return isinstance(given, Mapping) and KEY in given


def _marked(block: Any) -> bool:
    extras = block.get("extras") if isinstance(block, Mapping) else None
    return (isinstance(extras, Mapping) and bool(extras.get("emphasis"))) or _bare(block)


def _bare(block: Any) -> bool:
    return isinstance(block, Mapping) and "text" in block and "emphasis" in block


def _inside(data: Any) -> Iterator[Any]:
    """All that JSON holds, however deep."""
    waiting = [data]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += (
            one.values() if isinstance(one, Mapping) else one if isinstance(one, list) else ()
        )
