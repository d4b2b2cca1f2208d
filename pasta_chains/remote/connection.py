"""A connection to a vLLM server: what it says of itself, and requests to it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from transformers import AutoTokenizer

from ..errors import (
    AnswerTimeoutError,
    MissingExtraError,
    PastaError,
    PromptError,
    ServerError,
)
from ..wire import KEY, VERSION
from .background import BackgroundLoop

T = TypeVar("T")

_MOST_AT_ONCE = 512  # requests of one call; vLLM would only queue more


def _openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise MissingExtraError("openai", "remote") from error
    return openai


class Connection:
    """A connection to a server.

    Args:
        base_url: Where the server is, with or without `/v1`.
        api_key: What the server was started with, if it was.
        timeout: Longest time for an answer, in seconds.
        retries: How often a request is sent again that failed for want of a connection, or because
            the server was overloaded or failed.

    Attributes:
        about: What the server said of itself.

    Raises:
        ServerError: There is no server, or one without the plugin; an argument is malformed.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 600.0,
        retries: int = 2,
    ) -> None:
        openai = _openai()
        if not isinstance(base_url, str) or not base_url.startswith(("http://", "https://")):
            raise ServerError(f"base_url is {base_url!r}; it must be like http://localhost:8000.")
        if not isinstance(retries, int) or retries < 0:
            raise ServerError(f"retries is {retries!r}; it must be a number, 0 or more.")
        if not isinstance(timeout, int | float) or not timeout > 0:
            raise ServerError(f"timeout is {timeout!r}; it must be a number of seconds.")
        self.url = base_url.rstrip("/").removesuffix("/v1")
        self._timeout = timeout
        # Of the plugin alone: a server that does not steer (any more) has no such routes.
        self._client = openai.AsyncOpenAI(
            base_url=f"{self.url}/v1/{KEY}",
            api_key=api_key or "none",
            timeout=timeout,
            max_retries=retries,
        )
        self._background = BackgroundLoop(self._client.close)
        try:
            self.about: dict[str, Any] = self.start(self._get, "").result()
            self._check_about()
        except BaseException:  # whatever it is, the thread must end
            self.close()
            raise

    def close(self) -> None:
        """End the requests under way, and the thread of the connection."""
        self._background.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Connection:
        """Models that are copies share a connection, as they would share a loaded model."""
        return self

    def start(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> Future[T]:
        """Run something on the connection's loop; cancelling the future ends it.

        Raises:
            ServerError: The connection was closed, or was made in another process.
        """
        return self._background.start(work, *arguments)

    def tokenizer(self) -> Any:
        """The server's tokenizer, its chat template included."""
        files = self.start(self._get, "/tokenizer").result()
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (Path(folder) / Path(name).name).write_text(text, encoding="utf-8")
            return AutoTokenizer.from_pretrained(folder)

    async def complete(self, body: Mapping[str, Any]) -> Any:
        """What the server answers to one request for a completion."""
        with self._errors():
            async with self._in_time(body):
                return await self._client.completions.create(**body)

    async def complete_all(self, bodies: list[Mapping[str, Any]]) -> list[Any]:
        """The answers to several requests; if one fails, the others end."""
        room = asyncio.Semaphore(_MOST_AT_ONCE)

        async def one(body: Mapping[str, Any]) -> Any:
            async with room:
                return await self.complete(body)

        tasks = [asyncio.ensure_future(one(body)) for body in bodies]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def stream(self, body: Mapping[str, Any]) -> AsyncIterator[Any]:
        """The answer to one request, in chunks."""
        with self._errors():
            async with (
                self._in_time(body),
                await self._client.completions.create(**body, stream=True) as chunks,
            ):
                async for chunk in chunks:
                    yield chunk

    def _in_time(self, body: Mapping[str, Any]) -> asyncio.Timeout:
        """For the whole of an answer: the client's own timeout is for each read, and each try."""
        return asyncio.timeout(body.get("timeout", self._timeout))

    async def _get(self, path: str) -> Any:
        with self._errors():
            return await self._client.get(path, cast_to=object)

    def _check_about(self) -> None:
        told = self.about if isinstance(self.about, dict) else {}
        if told.get("schema") != VERSION:
            raise ServerError(
                f"The server at {self.url} has version {told.get('version')} of pasta_chains and "
                f"reads schema {told.get('schema')} of emphasis, and this is schema {VERSION}. "
                "Install the same version in both places."
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Says in our words what the client raises."""
        openai = _openai()
        try:
            yield
        except (openai.APITimeoutError, TimeoutError) as error:
            raise AnswerTimeoutError(
                f"{self.url} did not answer in time. Raise timeout, or lower max_new_tokens."
            ) from error
        except openai.APIConnectionError as error:
            raise ServerError(
                f"{self.url} cannot be reached, is still loading, or went away: "
                f"{error.__cause__ or error}."
            ) from error
        except openai.NotFoundError as error:
            raise self._not_found(error) from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise PromptError(f"The server refuses this: {_message(error)}") from error
        except openai.APIError as error:
            raise ServerError(f"The server at {self.url} failed: {_message(error)}") from error

    def _not_found(self, error: Any) -> PastaError:
        told = _message(error)
        if "does not exist" in told:  # the model, as vLLM says it
            return ServerError(f"The server at {self.url} says: {told}")
        return ServerError(
            f"The server at {self.url} does not steer, so it would lose all emphasis. Start it "
            "with `pasta-chains serve MODEL`, or give vllm serve --additional-config "
            f'\'{{"{KEY}": {{"profile": "heads.json"}}}}\' beside an installed pasta-chains.'
        )


def _message(error: Any) -> str:
    body = error.body if isinstance(error.body, Mapping) else {}
    return str(body.get("message") or error)
