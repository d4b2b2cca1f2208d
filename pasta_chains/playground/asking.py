"""What a visitor asks, and both answers as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from ..emphasis_model import EmphasisModel
from ..profile import HeadProfile
from ..prompts import Prompt
from ..report import PromptReport, inspect_prompt
from ..spans import SpanStr

NEW_TOKENS = 120
"""Longest answer."""


@dataclass(frozen=True)
class Question:
    """What stands on the page when a visitor asks.

    Attributes:
        text: The prompt.
        alpha: How much plain text counts beside the emphasis.
        share: Which part of the profile's heads is steered, from 0 to 1.
        chat: Whether the prompt is one user message of a chat.
    """

    text: SpanStr
    alpha: float
    share: float = 1.0
    chat: bool = False

    @property
    def prompt(self) -> Prompt:
        """What the model is given."""
        return [{"role": "user", "content": self.text}] if self.chat else self.text

    def profile(self, model: EmphasisModel) -> HeadProfile | None:
        """The heads that are steered; None for all of the model's."""
        if model.profile is None or self.share >= 1:
            return None
        every = [(layer, head) for layer, heads in model.profile.heads.items() for head in heads]
        kept: dict[int, list[int]] = {}
        for layer, head in every[: round(self.share * len(every))]:
            kept.setdefault(layer, []).append(head)
        return HeadProfile(kept, alpha=model.profile.alpha)


async def answers(model: EmphasisModel, asked: Question) -> AsyncGenerator[tuple[str, str]]:
    """The answers without and with emphasis so far, whenever there is more of one.

    Closing it stops the model.
    """
    common = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
    streams = [model.astream(asked.prompt, profile=HeadProfile({}), **common)]
    if asked.text.spans:
        profile = asked.profile(model)
        streams.append(model.astream(asked.prompt, profile=profile, alpha=asked.alpha, **common))
    texts = ["", ""]
    waiting = {asyncio.ensure_future(anext(stream)): n for n, stream in enumerate(streams)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for piece in done:
                number = waiting.pop(piece)
                try:
                    texts[number] += piece.result()
                except StopAsyncIteration:
                    continue
                waiting[asyncio.ensure_future(anext(streams[number]))] = number
            yield texts[0], texts[1]
    finally:
        for piece in waiting:
            piece.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


def report_of(model: EmphasisModel, asked: Question) -> PromptReport:
    """The report on what was asked."""
    return inspect_prompt(
        model,
        asked.prompt,
        max_new_tokens=NEW_TOKENS,
        alpha=asked.alpha,
        profile=asked.profile(model),
    )
