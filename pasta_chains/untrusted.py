"""Text that may not become control tokens, such as the role markers of a chat.

No text of a message should be able to forge a control token: `<|user|>` in a retrieved document has
to stay text. Which characters are trusted is known beside the text, which is never changed. Neither
is the tokenizer: where a marker must stay text, copies of it that know no control tokens read all
that stands between the trusted ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import Any, Literal, TypeAlias

from transformers import PreTrainedTokenizerBase

from .chat import Range, RenderedChat
from .control import Encoded, Place, control_reader, written_by
from .errors import PromptError

ControlTokens: TypeAlias = Literal["template", "nowhere", "anywhere"]
"""What may become control tokens: "template" says the chat template's text and text prompts, which
are the application's; "nowhere" the chat template's text alone; "anywhere" is transformers' way."""


def check_control_tokens(policy: object) -> None:
    """Refuse a policy that does not exist.

    Raises:
        PromptError: It is not one of the three.
    """
    if policy not in ("template", "nowhere", "anywhere"):
        raise PromptError(
            f"control_tokens is {policy!r}; it must be 'template' (what messages hold stays text), "
            "'nowhere' (text prompts stay text, too) or 'anywhere' (as in transformers)."
        )


def encode(
    rendered: RenderedChat, tokenizer: PreTrainedTokenizerBase, *, add_special_tokens: bool
) -> Encoded:
    """Tokenize a text of which some ranges, `rendered.messages`, may not become control tokens.

    Where none of it would, the tokens are exactly those of `tokenizer(text)`.

    Raises:
        PromptError: A control token cannot be told from the template's own, or cannot be written as
            text.
    """
    text = rendered.text.text
    whole = _encoded(tokenizer, text, add_special_tokens)
    if not rendered.messages and not rendered.mixed:
        return whole
    reader = control_reader(tokenizer)
    places = reader.places(text, whole)
    _check_told_apart(places, rendered, tokenizer)
    if not any(_touches(place.core, rendered.messages) for place in places):
        return whole
    # Read apart from the messages, for a marker that reaches into one may have hidden another.
    trusted = [
        Place(place.start + start, place.end + start, place.token, place.core)
        for start, end in _outside(rendered.messages, len(text))
        for place in reader.places(text[start:end], _encoded(tokenizer, text[start:end], False))
    ]
    inner = reader.encode(text, trusted)
    before, after = _added(tokenizer, text) if add_special_tokens else ([], [])
    none = [(0, 0)]
    return Encoded(
        [*before, *inner.ids, *after],
        [*none * len(before), *inner.offsets, *none * len(after)],
    )


def control_ranges(text: str, encoded: Encoded, tokenizer: PreTrainedTokenizerBase) -> list[Range]:
    """The ranges of a text that became control tokens."""
    return [(place.start, place.end) for place in control_reader(tokenizer).places(text, encoded)]


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str, add_special_tokens: bool) -> Encoded:
    try:
        encoded: Any = tokenizer(
            text,
            add_special_tokens=add_special_tokens,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
    except TypeError as error:  # what tokenizers says of text that is not Unicode
        half = next((place for place, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)
        if half is None:
            raise
        raise PromptError(
            f"Character {half} of the prompt is {text[half]!r}, half of a character, which no "
            "tokenizer reads. Decode the text with errors='replace'."
        ) from error
    return Encoded(encoded["input_ids"], encoded["offset_mapping"])


def _added(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[int]]:
    """The tokens that a tokenizer puts before and after a text."""
    encoded: Any = tokenizer(text, return_special_tokens_mask=True, verbose=False)
    tokens = list(zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True))
    before = [token for token, _ in takewhile(lambda pair: pair[1], tokens)]
    after = [token for token, _ in takewhile(lambda pair: pair[1], reversed(tokens))]
    return before, after[::-1]


def _check_told_apart(
    places: Iterable[Place], rendered: RenderedChat, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse a control token where the template mixed its own text with that of messages."""
    if not rendered.mixed:
        return
    own = "\0".join([written_by(tokenizer.chat_template), *tokenizer.all_special_tokens])
    for place in places:
        name = tokenizer.added_tokens_decoder[place.token].content
        forged = name not in own or any(name in source for source in rendered.sources)
        if forged and _touches(place.core, rendered.mixed):
            raise PromptError(
                f"The chat template formats text of the messages, which hold {name!r}, into its "
                "own, so nobody can tell whose control token it is. Take it out of the messages, "
                "or load the model with control_tokens='anywhere' if you trust them."
            )


def _touches(range_: Range, ranges: Iterable[Range]) -> bool:
    start, end = range_
    return any(first < end and start < last for first, last in ranges)


def _outside(ranges: Iterable[Range], length: int) -> list[Range]:
    """What lies between ranges that are in order."""
    position, between = 0, []
    for start, end in [*ranges, (length, length)]:
        if position < start:
            between.append((position, start))
        position = end
    return between
