"""`PromptReport`: what a model reads of one prompt, and answers without and with emphasis."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..spans import Span, SpanStr

if TYPE_CHECKING:
    from ..generation import Generation
    from ..profile import HeadProfile
    from ..shares import AttentionShares


class ReadToken(NamedTuple):
    """One token of a prompt.

    Attributes:
        id: Its number in the vocabulary.
        text: What it is called there.
        start: First of the characters that it stands for.
        end: End of these; equal to `start` if it stands for none.
        weight: By what its attention is multiplied in the steered heads, before renormalizing: 1
            for the strongest text.
        span: The emphasized or deemphasized text that it belongs to, if it does.
    """

    id: int
    text: str
    start: int
    end: int
    weight: float
    span: Span | None


class FirstToken(NamedTuple):
    """A token that an answer might begin with.

    Attributes:
        token: Its text.
        unsteered: Its probability without steering; None if it is not among the likeliest.
        steered: The same with steering.
    """

    token: str
    unsteered: float | None
    steered: float | None


@dataclass(frozen=True, eq=False)
class PromptReport:
    """What a model reads of one prompt, and what it answers without and with emphasis.

    In a notebook it shows itself.

    Attributes:
        model: Name of the model, or of its folder.
        alpha: Of spans that have none of their own.
        profile: The heads that are steered; None if the model has none, and nothing is emphasized.
        text: The prompt as the model reads it, chat template included, with its emphasis.
        tokens: Its tokens.
        unsteered: The answer without steering.
        steered: The answer with it; None if nothing is emphasized.
        shares: How much of their attention the heads give to the emphasized text, if that can be
            measured.
        remark: Why there is less to see than there could be, if that is so.
    """

    model: str
    alpha: float
    profile: HeadProfile | None
    text: SpanStr
    tokens: tuple[ReadToken, ...]
    unsteered: Generation
    steered: Generation | None
    shares: AttentionShares | None
    remark: str | None = None

    @property
    def first_tokens(self) -> list[FirstToken]:
        """What the answer might begin with, likeliest first."""
        plain, steered = _first(self.unsteered), _first(self.steered)
        found = [
            FirstToken(token, plain.get(token), steered.get(token)) for token in plain | steered
        ]
        return sorted(found, key=lambda one: -max(one.unsteered or 0, one.steered or 0))

    def to_dict(self) -> dict[str, Any]:
        """Everything, as what JSON can hold; see docs/how-to/inspection.md for what is in it."""
        heads = self.profile and {str(layer): [*them] for layer, them in self.profile.heads.items()}
        return {
            "model": self.model,
            "alpha": self.alpha,
            "heads": heads,
            "prompt": self.text.to_dict(),
            "tokens": [
                {**token._asdict(), "span": token.span and token.span._asdict()}
                for token in self.tokens
            ],
            "unsteered": asdict(self.unsteered),
            "steered": self.steered and asdict(self.steered),
            "first_tokens": [token._asdict() for token in self.first_tokens],
            "attention": self.shares and self.shares.to_dict(),
            "remark": self.remark,
        }

    def to_html(self) -> str:
        """A page that needs nothing else, for a file or a review."""
        from .page import page_of

        return page_of(self)

    def _repr_html_(self) -> str:
        from .page import fragment_of

        return fragment_of(self)


def _first(answer: Generation | None) -> dict[str, float]:
    if answer is None or not answer.logprobs:
        return {}
    found: dict[str, float] = {}
    for token, logprob in answer.logprobs[0].top:
        # Parts of characters look alike: �.
        found[token] = found.get(token, 0.0) + math.exp(logprob)
    return found
