"""The control tokens of a tokenizer, and text read without them.

Control tokens are what a text must not become unless it is trusted. The tokenizer is shared between
threads, and transformers' `split_special_tokens=True` changes it; so untrusted text is read by
copies of it, made once, that know no control tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from .chat import Range, literal_text
from .errors import PromptError


class Encoded(NamedTuple):
    """The tokens of a text, each with the range of characters that it stands for."""

    ids: list[int]
    offsets: list[Range]


class Place(NamedTuple):
    """Where a text became a control token.

    Attributes:
        start: Index of its first character, white space that it takes in included.
        end: Index after the last.
        token: Its id.
        core: The range of its own characters.
    """

    start: int
    end: int
    token: int
    core: Range


class ControlReader:
    """What is known of a tokenizer's control tokens, and its copies that know none."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer: Tokenizer = tokenizer._tokenizer
        self.key = _key(tokenizer)
        self._control = _control_tokens(tokenizer)
        # What a tokenizer writes for text that it has no token for may be a special token.
        self._makeshift = {
            number
            for number, token in self._control.items()
            if number == tokenizer.unk_token_id or _BYTE.fullmatch(token.content)
        }
        self._words = tokenizer.added_tokens_decoder.keys() - self._control
        self._copies: dict[str, Tokenizer] = {}

    def places(self, text: str, encoded: Encoded) -> list[Place]:
        """Where a text became control tokens."""
        return [
            Place(start, end, token, self._core(text, start, end, token))
            for token, (start, end) in zip(*encoded, strict=True)
            if token in self._control and start < end and self._is_control(token, text[start:end])
        ]

    def encode(self, text: str, trusted: Sequence[Place]) -> Encoded:
        """Tokenize a text whose only control tokens stand where they are trusted."""
        encoded = Encoded([], [])
        position, kind = 0, "first"
        for place in trusted:
            start, end = self._with_space(text, place)
            self._encode_plain(text, position, max(start, position), kind, encoded)
            encoded.ids.append(place.token)
            encoded.offsets.append((max(start, position), end))
            position = end
            # Such a token is found in normalized text, so what follows is not normalized anew.
            kind = "normalized" if self._control[place.token].normalized else "later"
        self._encode_plain(text, position, len(text), kind, encoded)
        return encoded

    def _encode_plain(self, text: str, start: int, end: int, kind: str, encoded: Encoded) -> None:
        """Tokenize a part of a text without any control token."""
        pieces = self._parts(text, start, end, kind)[::-1]
        while pieces:
            start, end, kind = pieces.pop()
            found = self._copy(kind).encode(text[start:end], add_special_tokens=False)
            offsets = [(first + start, last + start) for first, last in found.offsets]
            formed = [
                place
                for place in zip(found.ids, offsets, strict=True)
                if self._is_control(place[0], text[slice(*place[1])])
            ]
            if not formed:
                encoded.ids.extend(found.ids)
                encoded.offsets.extend(offsets)
                continue
            # The vocabulary itself has the marker as a word: part its characters.
            cuts = [start, *(self._inside(text, first, last) for _, (first, last) in formed), end]
            parts = [
                part
                for first, last in pairwise(cuts)
                for part in self._parts(text, first, last, kind if first == start else "inside")
            ]
            pieces += reversed(parts)

    def _parts(self, text: str, start: int, end: int, kind: str) -> list[tuple[int, int, str]]:
        """A piece of text, parted where a word that was added to the vocabulary begins it anew."""
        middle = end
        if self._words and kind in ("normalized", "inside"):
            found = self._copy("later").encode(text[start:end], add_special_tokens=False)
            tokens = zip(found.ids, found.offsets, strict=True)
            middle = next((start + at for token, (at, _) in tokens if token in self._words), end)
        parts = [(start, middle, kind), (middle, end, "later")]
        return [part for part in parts if part[0] < part[1]]

    def _inside(self, text: str, start: int, end: int) -> int:
        if end - start < 2:
            raise PromptError(
                f"The tokenizer can write {text[start:end]!r} only as a control token, and it "
                "stands in text that may hold none. Take it out, or load the model with "
                "control_tokens='anywhere' if you trust that text."
            )
        return start + 1

    def _is_control(self, token: int, text: str) -> bool:
        known = self._control.get(token)
        if known is None:
            return False
        return token not in self._makeshift or text.strip() == known.content

    def _core(self, text: str, start: int, end: int, token: int) -> Range:
        known = self._control[token]
        if known.lstrip:
            start = end - len(text[start:end].lstrip())
        if known.rstrip:
            end = start + len(text[start:end].rstrip())
        return start, end

    def _with_space(self, text: str, place: Place) -> Range:
        """The range of a token with the white space that it takes in."""
        start, end, known = place.start, place.end, self._control[place.token]
        while known.lstrip and start and _is_white(text[start - 1]):
            start -= 1
        while known.rstrip and end < len(text) and _is_white(text[end]):
            end += 1
        return start, end

    def _copy(self, kind: str) -> Tokenizer:
        if kind not in self._copies:  # two threads may both make one, which does no harm
            self._copies[kind] = _without_control_tokens(self._tokenizer, self._control, kind)
        return self._copies[kind]


_READERS: WeakKeyDictionary[PreTrainedTokenizerBase, ControlReader] = WeakKeyDictionary()


def control_reader(tokenizer: PreTrainedTokenizerBase) -> ControlReader:
    """The reader of a tokenizer; the same one until the tokenizer is changed."""
    reader = _READERS.get(tokenizer)
    if reader is None or reader.key != _key(tokenizer):
        reader = _READERS[tokenizer] = ControlReader(tokenizer)
    return reader


def _key(tokenizer: PreTrainedTokenizerBase) -> tuple[Any, ...]:
    """What a reader depends on and an application may change."""
    return (
        len(tokenizer),
        tokenizer.all_special_tokens,
        tokenizer.chat_template,
        getattr(tokenizer, "chat_control_tokens", None),
    )


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, AddedToken]:
    """The tokens that untrusted text may not become, by their ids.

    As for transformers' `sanitize_control_tokens` they are the special tokens, those that
    `tokenizer.chat_control_tokens` lists, and those that the chat template writes, white space
    aside; and all that look like `<|this|>`, which a template may put together from pieces.
    """
    listed = set(getattr(tokenizer, "chat_control_tokens", None) or ())
    written = written_by(tokenizer.chat_template)
    return {
        number: token
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special
        or token.content in listed
        or _MARKER.fullmatch(token.content)
        or (token.content in written and not token.content.isspace())
    }


_MARKER = re.compile("<[|\uff5c].*[|\uff5c]>", re.DOTALL)
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def written_by(chat_template: object) -> str:
    """All that a chat template, or several, may write of its own accord."""
    templates = chat_template.values() if isinstance(chat_template, Mapping) else [chat_template]
    return "\0".join(_literal_text(source) for source in templates if isinstance(source, str))


_literal_text = lru_cache(maxsize=16)(literal_text)


def _without_control_tokens(
    tokenizer: Tokenizer, control: Mapping[int, AddedToken], kind: str
) -> Tokenizer:
    """Copy a tokenizer so that it reads control tokens as text.

    Args:
        tokenizer: The one that transformers uses, which threads share: it is not touched.
        control: The control tokens.
        kind: "first" for the beginning of a prompt, "later" for text after a control token,
            "normalized" for text after one that is found in normalized text, and "inside" for text
            that follows other text.
    """
    try:
        data = json.loads(tokenizer.to_str())
    except Exception as error:  # tokenizers raises no class of its own
        raise PromptError(
            f"Text in the prompt would become a control token, and the tokenizer cannot be copied "
            f"to keep it text: {error}. Take the control tokens out of it, or load the model with "
            "control_tokens='anywhere' if you trust it."
        ) from error
    data |= {"truncation": None, "padding": None}
    for token in data["added_tokens"]:
        token["special"] |= token["id"] in control
    if kind != "first":
        data["pre_tokenizer"] = _as_later(data["pre_tokenizer"], kind)
        data["normalizer"] = _as_later(data["normalizer"], kind)
    copy: Tokenizer = Tokenizer.from_str(json.dumps(data))
    copy.encode_special_tokens = True
    return copy


def _as_later(step: Any, kind: str) -> Any:
    """A step of a tokenizer that adds no space where text goes on."""
    if step is None:
        return None
    if step["type"] == "Sequence":
        inner = "normalizers" if "normalizers" in step else "pretokenizers"
        kept = [_as_later(part, kind) for part in step[inner]]
        return {**step, inner: [part for part in kept if part is not None]}
    if step["type"] == "Metaspace" and (kind == "inside" or step["prepend_scheme"] == "first"):
        return {**step, "prepend_scheme": "never"}
    if step["type"] == "ByteLevel" and kind == "inside":
        return {**step, "add_prefix_space": False}
    if step["type"] == "Prepend" and kind in ("normalized", "inside"):
        return None
    return step


def _is_white(character: str) -> bool:
    # The tokenizers' white space is Unicode's; Python's has four separators more.
    return character.isspace() and character not in "\x1c\x1d\x1e\x1f"
