"""Makes a report: asks a model without and with emphasis, and looks at what its heads read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..asked import ProfileLike
from ..emphasis_model import EmphasisModel
from ..engine import SteeredModel
from ..errors import UnsupportedModelError
from ..profile import HeadProfile
from ..prompts import Prompt, TokenizedPrompt
from ..shares import AttentionShares
from ..tokens import token_spans
from .report import PromptReport, ReadToken

NO_EMPHASIS = "Nothing in this prompt is emphasized, so there is nothing to compare."
ON_A_SERVER = "The model runs on a server, which does not show its attention."


def inspect_prompt(
    model: EmphasisModel,
    prompt: Prompt,
    *,
    max_new_tokens: int | None = None,
    alpha: float | None = None,
    profile: ProfileLike | None = None,
    top: int = 10,
) -> PromptReport:
    """Ask a model one prompt without and with its emphasis, and tell what it reads.

    Both answers are greedy.

    Args:
        model: One that runs here, or on a server; a server shows no attention.
        prompt: As for `generate`, one only.
        max_new_tokens: Longest answer; by default 256 or what the context leaves.
        alpha: Instead of the profile's, for spans that have none of their own.
        profile: As for `run`.
        top: How many of the likeliest first tokens are told.

    Raises:
        PastaError: As `run` does.
    """
    read = model.read_prompt(prompt, alpha=alpha, profile=profile)
    chosen = model.profile if profile is None else model.read_profile(profile)
    asked: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "do_sample": False,
        "logprobs": top,
    }
    (plain,) = model.run([prompt], profile=HeadProfile({}), **asked)
    steered, shares = None, None
    remark: str | None = NO_EMPHASIS
    if read.text.spans:
        (steered,) = model.run([prompt], profile=profile, alpha=alpha, **asked)
        shares, remark = _shares(model, prompt, max_new_tokens, alpha, profile)
    used = alpha if alpha is not None else chosen.alpha if chosen else 1.0
    name = Path(model.name)
    return PromptReport(
        name.name if name.is_absolute() else model.name,
        used,
        chosen,
        read.text,
        _tokens(model, read),
        plain,
        steered,
        shares,
        remark,
    )


def _tokens(model: EmphasisModel, read: TokenizedPrompt) -> tuple[ReadToken, ...]:
    names = model.tokenizer.convert_ids_to_tokens(read.ids)
    owners = token_spans(read.text, read.offsets)
    rows = zip(read.ids, names, read.offsets, read.bias, owners, strict=True)
    return tuple(
        ReadToken(number, name, start, end, math.exp(bias), owner)
        for number, name, (start, end), bias, owner in rows
    )


def _shares(
    model: EmphasisModel,
    prompt: Prompt,
    max_new_tokens: int | None,
    alpha: float | None,
    profile: ProfileLike | None,
) -> tuple[AttentionShares | None, str | None]:
    """What the heads read, or why that cannot be told."""
    if not isinstance(model, SteeredModel):
        return None, ON_A_SERVER
    if not model.read_prompt(prompt, alpha=alpha, profile=profile).text.emphasized():
        return None, "Only deemphasized text is marked, whose share of attention is not measured."
    try:
        taken = model.attention_to_spans(
            prompt, max_new_tokens=max_new_tokens, alpha=alpha, profile=profile
        )
    except UnsupportedModelError as error:
        return None, str(error)
    return taken, None
