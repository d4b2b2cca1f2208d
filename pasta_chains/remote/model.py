"""`RemoteModel`: a model on a vLLM server that reads emphasis, asked like one that runs here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Self

from ..asked import Asked, ProfileLike, check_streamable
from ..emphasis_model import EmphasisModel
from ..errors import ProfileError, ServerError
from ..generation import Generation
from ..overflow import Overflow
from ..profile import HeadProfile
from ..prompts import Prompt
from ..scoring import continuation_ids
from ..streaming import Cancelled, Decoding, TextStream
from ..untrusted import ControlTokens
from .answers import generation_of, logprobs_of, prompt_logprob
from .body import cancellations, completion_bodies, scoring_body
from .connection import Connection
from .stream import RemoteStream


class RemoteModel(EmphasisModel):
    """A model on a server.

    Prompts are read here, with the server's own tokenizer, and go over as token ids, so a prompt is
    the same tokens as for a `SteeredModel`. The server steers the heads that it was started with.

        model = pasta_chains.connect("http://localhost:8000")

    Args:
        connection: To the server.
        control_tokens: Which text may become control tokens, as for `EmphasisModel`.

    Raises:
        ServerError: The server does not steer.
    """

    def __init__(
        self, connection: Connection, *, control_tokens: ControlTokens = "template"
    ) -> None:
        super().__init__(connection.tokenizer(), control_tokens)
        self._connection = connection
        self._about = connection.about
        self._profile = HeadProfile.from_dict(self._about["profile"])

    @classmethod
    def connect(
        cls,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 600.0,
        retries: int = 2,
        control_tokens: ControlTokens = "template",
    ) -> Self:
        """Connect to a server.

        Args:
            base_url: Where it is, such as `http://localhost:8000`.
            api_key: What it was started with, if it was.
            timeout: Longest time for an answer, in seconds.
            retries: How often a request is sent again that failed for want of a connection, or
                because the server was overloaded or failed.
            control_tokens: Which text may become control tokens, as for the class itself.

        Raises:
            ServerError: There is no server, or one that does not steer.
        """
        connection = Connection(base_url, api_key, timeout=timeout, retries=retries)
        return cls(connection, control_tokens=control_tokens)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    @property
    def name(self) -> str:
        """Name that the server serves the model by."""
        return str(self._about["model"])

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._connection.url

    @property
    def context_length(self) -> int:
        """Most tokens that prompt and answer may have together."""
        return int(self._about["context_length"])

    @property
    def profile(self) -> HeadProfile:
        """The heads that the server steers."""
        return self._profile

    @property
    def head_counts(self) -> dict[int, int]:
        """For each layer of the model how many heads it has."""
        return dict.fromkeys(range(self._about["layers"]), int(self._about["heads"]))

    def check_profile(self, profile: HeadProfile) -> None:
        """Refuse a profile with other heads than the server's, unless it has none.

        Raises:
            ProfileError: It has others.
        """
        if len(profile) and _heads(profile) != _heads(self._profile):
            raise ProfileError(
                f"The server at {self._connection.url} steers the heads that it was started with, "
                "and this profile has others. Start a server with it, or leave profile out."
            )

    def score(
        self,
        prompt: Prompt,
        continuations: Sequence[str],
        *,
        alpha: float | None = None,
        profile: ProfileLike | None = None,
        overflow: Overflow = "error",
    ) -> list[float]:
        """Log-probability of each continuation after the prompt, in nats; see `EmphasisModel`."""
        answers = continuation_ids(self.tokenizer, continuations)
        room = self._context.room_for_prompt(max(map(len, answers), default=0), overflow)
        chosen = self._chosen(profile) or self._profile
        alpha = chosen.alpha if alpha is None else alpha
        read = self._tokenize(prompt, alpha, chosen, room)
        for ids in answers:
            self._context.check_fits(len(read.ids) + len(ids), 1)  # vLLM writes one token more
        bodies = [scoring_body(read, ids, self._about, chosen, alpha) for ids in answers]
        told = _result(self._connection.start(self._connection.complete_all, bodies))
        return [
            prompt_logprob(answer.choices[0], len(read.ids), ids)
            for answer, ids in zip(told, answers, strict=True)
        ]

    def _run(self, asked: Asked) -> list[Generation]:
        return self._generations(asked, _result(self._begin(asked)))

    async def _arun(self, asked: Asked) -> list[Generation]:
        return self._generations(asked, await asyncio.wrap_future(self._begin(asked)))

    def _begin(self, asked: Asked) -> Future[list[Any]]:
        most = [
            self._context.room_for_answer(len(prompt.ids), asked.max_new_tokens)
            for prompt in asked.prompts
        ]
        bodies = completion_bodies(asked, self._about, most)
        given = cancellations(asked)
        work = self._connection.start(self._connection.complete_all, bodies)
        for cancelled in given:
            cancelled.then(work.cancel)
        return work

    def _stream(self, asked: Asked) -> TextStream:
        check_streamable(asked, self.tokenizer)
        (prompt,) = asked.prompts
        most = self._context.room_for_answer(len(prompt.ids), asked.max_new_tokens)
        (body,) = completion_bodies(asked, self._about, [most])
        cancelled = Cancelled()
        for other in cancellations(asked):
            other.then(cancelled.set)
        return RemoteStream(self._connection, body, asked, self._decoding(asked), cancelled)

    def _generations(self, asked: Asked, answers: list[Any]) -> list[Generation]:
        decode = self._decoding(asked)
        return [
            generation_of(
                prompt,
                list(choice.token_ids),
                choice.finish_reason,
                logprobs_of(choice, decode, asked.logprobs),
                decode,
                asked.stop,
            )
            for prompt, answer in zip(asked.prompts, answers, strict=True)
            for choice in answer.choices
        ]

    def _decoding(self, asked: Asked) -> Decoding:
        return Decoding(self.tokenizer, self._defaults.get("eos_token_id"), asked.special_tokens)

    @property
    def _defaults(self) -> dict[str, Any]:
        return dict(self._about["generation"])


def _result(work: Future[list[Any]]) -> list[Any]:
    """Wait for answers; who is interrupted wants none any more."""
    try:
        return work.result()
    except CancelledError as error:
        raise ServerError("The request was given up, or its connection was closed.") from error
    except BaseException:  # such as an interrupt
        work.cancel()
        raise


def _heads(profile: HeadProfile) -> dict[int, tuple[int, ...]]:
    return {layer: numbers for layer, numbers in profile.heads.items() if numbers}
