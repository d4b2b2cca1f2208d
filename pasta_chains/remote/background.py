"""An event loop in a thread of its own, for requests that threads and asyncio tasks wait for."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import ServerError

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines until it is closed or forgotten; its thread ends with the program.

    Args:
        finish: Awaited last, on the loop.
    """

    def __init__(self, finish: Callable[[], Awaitable[None]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._thread = threading.Thread(
            target=_run, args=(self._loop,), name="pasta-remote", daemon=True
        )
        self._thread.start()
        self._forgotten = weakref.finalize(self, _end, self._loop, finish)
        self._forgotten.atexit = False

    def start(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> Future[T]:
        """Run something; cancelling the future ends it.

        Raises:
            ServerError: The loop was closed, or was made in another process.
        """
        if os.getpid() != self._process:
            raise ServerError(
                "This connection was made before the process was forked, and does not work in the "
                "new one. Connect in each process."
            )
        if not self._forgotten.alive:
            raise ServerError("This connection was closed. Connect again.")
        return asyncio.run_coroutine_threadsafe(work(*arguments), self._loop)

    def close(self) -> None:
        """End what is under way, and the thread."""
        if self._forgotten.alive and os.getpid() == self._process:
            self._forgotten()
            if threading.current_thread() is not self._thread:
                self._thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, finish: Callable[[], Awaitable[None]]) -> None:
    """Have a loop end soon; waits for nothing, as Python may forget a loop in any thread."""

    async def end() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await finish()
        loop.stop()

    loop.call_soon_threadsafe(loop.create_task, end())
