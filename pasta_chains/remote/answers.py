"""What a server answered, in the words of `Generation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import ServerError
from ..generation import Generation, read_generation
from ..logprobs import TokenLogprob
from ..prompts import TokenizedPrompt
from ..streaming import Decoding, StopStrings

_TOKEN = "token_id:"


def generation_of(
    prompt: TokenizedPrompt,
    ids: list[int],
    reason: str | None,
    logprobs: Sequence[TokenLogprob],
    decode: Decoding,
    stop: Sequence[str],
) -> Generation:
    """One answer.

    Args:
        prompt: What the model read.
        ids: What it wrote.
        reason: Why it ended, as the server says.
        logprobs: Of the tokens, if they were asked for.
        decode: Makes text of them.
        stop: What was to end the answer.

    Raises:
        ServerError: The server gave the answer up.
    """
    if reason not in ("stop", "length"):
        raise ServerError(
            f"The server ended its answer after {len(ids)} tokens, before it was whole ({reason}). "
            "Ask again."
        )
    found = read_generation(decode, prompt, ids, StopStrings(decode.tokenizer, stop, 0))
    ended = "stop" if reason == "stop" else found.finish_reason
    return replace(found, finish_reason=ended, logprobs=tuple(logprobs[: found.new_tokens]))


def logprobs_of(choice: Any, decode: Decoding, wanted: bool | int) -> list[TokenLogprob]:
    """The log-probabilities in a choice, or in a chunk of one.

    Args:
        choice: What the server told.
        decode: Makes text of tokens.
        wanted: Of how many of the likeliest tokens in each place; True is none but the chosen one.
    """
    told = choice.logprobs
    if told is None:
        return []
    ranked = told.top_logprobs if wanted is not True and wanted else None
    tops = ranked or [None] * len(told.tokens)
    return [
        TokenLogprob(_text(token, decode), value, _top(top, decode))
        for token, value, top in zip(told.tokens, told.token_logprobs, tops, strict=True)
    ]


def _top(told: dict[str, float] | None, decode: Decoding) -> tuple[tuple[str, float], ...]:
    ranked = sorted((told or {}).items(), key=lambda one: -one[1])
    return tuple((_text(token, decode), value) for token, value in ranked)


def _text(token: str, decode: Decoding) -> str:
    return decode.whole([int(token.removeprefix(_TOKEN))])


def prompt_logprob(choice: Any, first: int, answer: Sequence[int]) -> float:
    """How likely a server found the end of a prompt, in nats.

    Args:
        choice: Of a request with `prompt_logprobs`.
        first: Where that end begins.
        answer: Its tokens.
    """
    told = choice.prompt_logprobs[first:]
    return sum(float(one[str(token)]["logprob"]) for one, token in zip(told, answer, strict=True))
