"""The shares of attention that each head of a model gives to the emphasized text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from .errors import PromptError
from .spans import Span, SpanStr

if TYPE_CHECKING:
    from rich.table import Table

Measure = Literal["last_unsteered", "last_steered", "answer_unsteered", "answer_steered"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


class HeadShare(NamedTuple):
    """One head and its share.

    Attributes:
        layer: Number of the layer.
        head: Number of the query head in it.
        share: Share of the head's attention, from 0 to 1.
    """

    layer: int
    head: int
    share: float


@dataclass(frozen=True, eq=False)
class AttentionShares:
    """What share of its attention each head gives to the emphasized text.

    The tensors have the shape (layers, heads) and are float32 on the CPU; a head that a layer does
    not have is NaN. Row i belongs to the layer of number `layers[i]`. A share is a part of all
    attention of a head, that on its attention sink included.

    Attributes:
        layers: Numbers of the layers that have attention.
        text: The prompt as the model read it, with its emphasis.
        spans: The spans of this text whose shares are summed.
        answer: What the model wrote, and then read in both ways.
        last_unsteered: Shares for the last token of the prompt, which writes the first of the
            answer, without steering.
        last_steered: The same with steering; None if the model has no head profile.
        answer_unsteered: Means over all tokens of the answer, each at the moment when it is
            written, without steering.
        answer_steered: The same with steering; None if the model has no head profile.
        by_span: The shares of each of several spans alone, in the order of `spans`.
    """

    layers: tuple[int, ...]
    text: SpanStr
    spans: tuple[Span, ...]
    answer: str
    last_unsteered: Tensor
    last_steered: Tensor | None
    answer_unsteered: Tensor
    answer_steered: Tensor | None
    by_span: tuple[AttentionShares, ...] = ()

    @classmethod
    def of_layers(
        cls,
        text: SpanStr,
        spans: Sequence[Span],
        answer: str,
        unsteered: Mapping[int, Tensor],
        steered: Mapping[int, Tensor] | None,
    ) -> AttentionShares:
        """Put the layers together.

        Args:
            text: The prompt.
            spans: Its emphasized spans.
            answer: What the model wrote.
            unsteered: For each layer its shares, (spans, heads, queries), from that of the
                prompt's last token on.
            steered: The same with steering.
        """
        last, mean = _taken(unsteered)
        last_steered, mean_steered = _taken(steered)
        taken = dict(zip(MEASURES, (last, last_steered, mean, mean_steered), strict=True))

        def of(chosen: list[int], by_span: tuple[AttentionShares, ...] = ()) -> AttentionShares:
            own: dict[str, Any] = {
                measure: shares if shares is None else shares[chosen].sum(0)
                for measure, shares in taken.items()
            }
            of_these = tuple(spans[number] for number in chosen)
            return cls(tuple(unsteered), text, of_these, answer, by_span=by_span, **own)

        every = list(range(len(spans)))
        return of(every, tuple(of([number]) for number in every) if len(spans) > 1 else ())

    def of(self, name: str) -> AttentionShares:
        """The shares of the spans of one name alone.

        Raises:
            PromptError: No span has this name.
        """
        parts = self.by_span or (self,)
        named = [part for part in parts if part.spans[0].name == name]
        if not named:
            names = sorted({span.name for span in self.spans if span.name is not None})
            raise PromptError(
                f"No emphasized span is named {name!r}. "
                + (f"There are {', '.join(map(repr, names))}." if names else "None has a name.")
            )
        sums = {
            measure: sum(getattr(part, measure) for part in named)
            for measure in MEASURES
            if getattr(self, measure) is not None
        }
        spans = tuple(part.spans[0] for part in named)
        return replace(self, spans=spans, by_span=tuple(named) if len(named) > 1 else (), **sums)

    def top(self, count: int = 10, measure: Measure = "answer_unsteered") -> list[HeadShare]:
        """The heads with the largest shares, largest first.

        Args:
            count: How many, at most.
            measure: Which of the four tensors.

        Raises:
            PromptError: There is no such measure, or it was not taken, as the model has no profile.
        """
        if measure not in MEASURES:
            raise PromptError(f"There is no measure {measure!r}; use one of {', '.join(MEASURES)}.")
        shares: Tensor | None = getattr(self, measure)
        if shares is None:
            raise PromptError(
                f"There is no {measure}: the model has no head profile, so nothing was steered."
            )
        heads = [
            HeadShare(layer, head, share)
            for layer, row in zip(self.layers, shares.tolist(), strict=True)
            for head, share in enumerate(row)
            if not math.isnan(share)
        ]
        return sorted(heads, key=lambda head: head.share, reverse=True)[:count]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the prompt's other text, as lists and numbers that JSON can hold.

        A head that a layer does not have is None.
        """
        return {
            "layers": list(self.layers),
            "answer": self.answer,
            "spans": [_described(span, self.text) for span in self.spans],
            **{measure: _listed(getattr(self, measure)) for measure in MEASURES},
            "by_span": [
                {measure: _listed(getattr(part, measure)) for measure in MEASURES}
                for part in self.by_span
            ],
        }

    def __rich__(self) -> Table:
        """The heads that read the emphasis most without steering, beside the same heads steered."""
        from rich.table import Table

        table = Table("layer", "head", "last token", "steered", "answer", "steered")
        for layer, head, _ in self.top():
            row = self.layers.index(layer)
            taken = (getattr(self, measure) for measure in MEASURES)
            shown = ("-" if shares is None else f"{shares[row, head]:.1%}" for shares in taken)
            table.add_row(str(layer), str(head), *shown)
        return table


def _taken(layers: Mapping[int, Tensor] | None) -> tuple[Tensor | None, Tensor | None]:
    """Shares for the first query and their means over all: (spans, layers, heads) each."""
    if layers is None:
        return None, None
    heads = max(shares.shape[1] for shares in layers.values())

    def together(of_layers: Iterable[Tensor]) -> Tensor:
        wide = [nn.functional.pad(x, (0, heads - x.shape[1]), value=math.nan) for x in of_layers]
        return torch.stack(wide, 1).float()

    every = layers.values()
    return together(x[..., 0] for x in every), together(x.mean(-1) for x in every)


def _described(span: Span, text: SpanStr) -> dict[str, Any]:
    return {**span._asdict(), "text": text.text[span.start : span.end]}


def _listed(shares: Tensor | None) -> list[list[float | None]] | None:
    if shares is None:
        return None
    return [[None if math.isnan(share) else share for share in row] for row in shares.tolist()]
