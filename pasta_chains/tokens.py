"""From a `SpanStr` and its tokens' character offsets to one bias per token.

Nothing here knows a tokenizer or a tensor: offsets come in, numbers go out.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from .errors import EmphasisError
from .spans import Span, SpanStr

Offset = tuple[int, int]


def token_spans(text: SpanStr, offsets: Sequence[Offset]) -> list[Span | None]:
    """Say for each token which span it belongs to.

    A token belongs to a span when the two share a character that is not white space. Where spans
    nest, the innermost wins. Tokens without width (BOS and the like) belong to none.

    Args:
        text: The prompt.
        offsets: Half-open character range of each token in the prompt.

    Returns:
        For each token its span, or None.

    Raises:
        EmphasisError: A span shares no character with any token, or its only token with another
            span, so that it would steer nothing.
    """
    owners: list[Span | None] = [None] * len(offsets)
    starts = [start for start, _ in offsets]
    # Tokens come in order and some overlap their neighbours; `reach` finds the first to look at.
    reach = _running_ends(offsets)
    for span in text.spans:  # outer before inner: the last one to claim a token wins
        claimed = False
        for position in range(bisect_right(reach, span.start), len(offsets)):
            if starts[position] >= span.end:
                break
            start, end = offsets[position]
            shared = text.text[max(start, span.start) : min(end, span.end)]
            if shared.strip():
                owners[position] = span
                claimed = True
        if not claimed:
            raise EmphasisError(
                f"The emphasized text {text.text[span.start : span.end]!r} (characters "
                f"{span.start} to {span.end}) covers no token, so it would steer nothing. "
                "Emphasize text with at least one visible character."
            )
    _check_all_steer(text, offsets, owners)
    return owners


def token_bias(text: SpanStr, offsets: Sequence[Offset], alpha: float) -> list[float]:
    """Give each token the logarithm of its weight, 0 for the strongest.

    A token's weight is 1 in plain text, 1/alpha when emphasized and alpha when deemphasized. Added
    to the attention logits, `log(weight) - max(log(weight))` scales the attention to everything
    outside one span by alpha (PASTA, arXiv 2311.02262, equation 2, before renormalizing).

    Args:
        text: The prompt.
        offsets: Half-open character range of each token in the prompt.
        alpha: For spans that have none of their own; 0 < alpha <= 1.

    Returns:
        One number <= 0 per token; all 0 when nothing is emphasized.

    Raises:
        EmphasisError: Alpha is out of range, or a span covers no token.
    """
    logs = token_log_weights(text, offsets, alpha)
    # Relative to the strongest, so that generated tokens, which get no bias, are read like it.
    strongest = max(logs, default=0.0)
    return [log - strongest for log in logs]


def token_log_weights(text: SpanStr, offsets: Sequence[Offset], alpha: float) -> list[float]:
    """Give each token the logarithm of its weight, 0 for plain text.

    Args:
        text: The prompt.
        offsets: Half-open character range of each token in the prompt.
        alpha: For spans that have none of their own; 0 < alpha <= 1.

    Raises:
        EmphasisError: Alpha is out of range, or a span covers no token.
    """
    check_alpha(alpha)
    return [_log_weight(span, alpha) for span in token_spans(text, offsets)]


def check_alpha(alpha: float) -> None:
    """Refuse an alpha that is not a number in (0, 1].

    Raises:
        EmphasisError: It is not.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 1:
        raise EmphasisError(
            f"alpha is {alpha!r}; it must be a number above 0 and at most 1. Smaller steers more; "
            "1 does not steer."
        )


def _check_all_steer(
    text: SpanStr, offsets: Sequence[Offset], owners: Sequence[Span | None]
) -> None:
    """Refuse a span all of whose tokens went to its neighbours: it would steer nothing."""
    kept = set(owners)
    for first, last, span in text.runs():
        if span in kept:
            continue
        for (start, end), owner in zip(offsets, owners, strict=True):
            shared = text.text[max(start, first) : min(end, last)]
            nested = owner and span.start <= owner.start and owner.end <= span.end
            if shared.strip() and not nested:
                raise EmphasisError(
                    f"The emphasized text {text.text[span.start : span.end]!r} (characters "
                    f"{span.start} to {span.end}) shares its only token with another emphasized "
                    "text, so it would steer nothing. Emphasize whole words."
                )


def _log_weight(span: Span | None, alpha: float) -> float:
    if span is None:
        return 0.0
    strength = -math.log(alpha if span.alpha is None else span.alpha)
    return -strength if span.deemphasized else strength


def _running_ends(offsets: Sequence[Offset]) -> list[int]:
    ends: list[int] = []
    furthest = 0
    for _, end in offsets:
        furthest = max(furthest, end)
        ends.append(furthest)
    return ends
