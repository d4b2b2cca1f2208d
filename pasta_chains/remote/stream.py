"""The text of an answer that a server is writing, for threads and for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from concurrent.futures import Future
from queue import Queue
from typing import Any

from ..asked import Asked
from ..generation import Generation
from ..logprobs import TokenLogprob
from ..streaming import Cancelled, Decoding, GrowingText, TextStream, UntilStop
from .answers import generation_of, logprobs_of
from .connection import Connection


class RemoteStream(TextStream):
    """The text of one answer, piece by piece; closing it ends the request.

    Args:
        connection: To the server.
        body: Of the request.
        asked: What the call asks.
        decode: Makes text of tokens.
        cancelled: Ends the request.
    """

    def __init__(
        self,
        connection: Connection,
        body: Mapping[str, Any],
        asked: Asked,
        decode: Decoding,
        cancelled: Cancelled,
    ) -> None:
        self._connection = connection
        self._body = body
        self._reading = _Reading(asked, decode)
        (read,) = asked.prompts
        super().__init__(
            self._blocking(), cancelled, self._reading.ended, read.dropped, read.dropped_tokens
        )

    def pieces(self) -> AsyncGenerator[str, None]:
        """The stream for asyncio. Cancelling or closing it ends the request."""
        return self._waiting()

    def _blocking(self) -> Generator[str, None, None]:
        queue: Queue[Any] = Queue()
        running = self._start(queue.put)
        try:
            while True:
                yield from self._reading.pieces(queue.get())
                if self._reading.ended:
                    return
        except GeneratorExit:
            self._reading.cut()
            raise
        finally:
            running.cancel()

    async def _waiting(self) -> AsyncGenerator[str, None]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        running = self._start(lambda one: loop.call_soon_threadsafe(queue.put_nowait, one))
        try:
            while True:
                for piece in self._reading.pieces(await queue.get()):
                    yield piece
                if self._reading.ended:
                    return
        except (GeneratorExit, asyncio.CancelledError):
            self._reading.cut()
            raise
        finally:
            running.cancel()

    def _start(self, put: Callable[[Any], object]) -> Future[None]:
        async def work() -> None:
            try:
                async for chunk in self._connection.stream(self._body):
                    put(chunk)
                put(None)
            except BaseException as error:  # handed to the reader, who raises it
                put(error)
                raise

        running = self._connection.start(work)
        self._cancelled.then(running.cancel)
        return running


class _Reading:
    """Makes pieces of text of a server's chunks.

    Attributes:
        ended: The whole answer, once it is there.
    """

    def __init__(self, asked: Asked, decode: Decoding) -> None:
        self.ended: list[Generation] = []
        self._asked = asked
        self._decode = decode
        self._text = GrowingText(decode)
        self._until = UntilStop(asked.stop)
        self._logprobs: list[TokenLogprob] = []
        self._reason: str | None = None

    def pieces(self, chunk: Any) -> list[str]:
        """The text that a chunk completes; None is the end.

        Raises:
            BaseException: The chunk is one.
            ServerError: The answer ended before it was whole.
        """
        if isinstance(chunk, asyncio.CancelledError):
            return self.cut()
        if isinstance(chunk, BaseException):
            raise chunk
        if chunk is None:
            return self._finish()
        shown = []
        for choice in chunk.choices:
            self._reason = choice.finish_reason or self._reason
            self._logprobs += logprobs_of(choice, self._decode, self._asked.logprobs)
            shown.append(self._until.feed(self._text.feed(choice.token_ids or [])))
        return [*filter(None, shown)]

    def cut(self) -> list[str]:
        """The text that is left when nobody wants more: what has come is the answer."""
        if self.ended:
            return []
        self._reason = self._reason or "length"
        return self._finish()

    def _finish(self) -> list[str]:
        rest = self._until.feed(self._text.finish()) + self._until.finish()
        (prompt,) = self._asked.prompts
        found = generation_of(
            prompt, self._text.ids, self._reason, self._logprobs, self._decode, self._asked.stop
        )
        self.ended.append(found)
        return [rest] if rest else []
