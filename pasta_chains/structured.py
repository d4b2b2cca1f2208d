"""Answers of a form that was asked for: JSON of a schema, a pattern, or one of several texts.

At each step the model chooses among the tokens with which such an answer can go on. llguidance says
which these are: it is small, needs no GPU, and knows the tokenizers of transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedTokenizerBase

from .errors import MissingExtraError, PromptError

# As Python's json writes it; white space anywhere would let a model write nothing else for long.
_WRITTEN = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# What ends texts, objects and lists, begins and ends numbers, and parts what must follow.
_CLOSING = ('"', "}", "]", "0", ", ", ",")
_REPEATED = 4  # so far back what ends something is not tried again: it may be text of a pattern
_CHOICES = 64  # after so many that are not forced, a way is not looked for any longer
_GROWTH = 16  # tokens by which one token can lengthen the way, a few together
# Each token of the last steps is tried before it is written: it may begin what takes many to end.
_SPARE = 64
_TRIED = 8
_BITS = torch.arange(8, dtype=torch.uint8)


def _llguidance() -> Any:
    try:
        import llguidance
        import llguidance.hf
    except ImportError as error:
        raise MissingExtraError("llguidance", "structured") from error
    return llguidance


@dataclass(frozen=True)
class Structure:
    """A form that an answer must have; made by `json`, `regex` or `choice`.

    Attributes:
        grammar: As llguidance writes it.
        told: The same as vLLM is asked for it, in its `structured_outputs`.
        closes: Whether an answer that runs out of tokens is closed early. JSON is, since half of it
            is worth nothing; a choice never is, for it would be another choice.

    Raises:
        PromptError: The schema or pattern is none, or says something that cannot be enforced.
        MissingExtraError: The extra "structured" is not installed.
    """

    grammar: str
    closes: bool = False
    told: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        error = _llguidance().LLMatcher.validate_grammar(self.grammar)
        if error:
            raise PromptError(f"No answer can be given this form: {error}")

    @classmethod
    def json(cls, schema: Mapping[str, Any] | None = None) -> Self:
        """JSON of a schema.

        Args:
            schema: A JSON schema; None is any object.
        """
        schema = {"type": "object"} if schema is None else dict(schema)
        grammar = _llguidance().LLMatcher.grammar_from_json_schema(
            json.dumps(schema), overrides=_WRITTEN
        )
        return cls(grammar, closes=True, told={"json": schema})

    @classmethod
    def regex(cls, pattern: str) -> Self:
        """Text that a regular expression matches from its first to its last character."""
        return cls(_llguidance().LLMatcher.grammar_from_regex(pattern), told={"regex": pattern})

    @classmethod
    def choice(cls, options: Sequence[str]) -> Self:
        """One of several texts.

        Args:
            options: The texts.
        """
        if isinstance(options, str) or not options or not all(options):
            raise PromptError(
                f"The options are {options!r}; they must be texts, none of them empty."
            )
        shown = " | ".join(json.dumps(option) for option in options)
        return replace(cls.lark(f"start: {shown}"), told={"choice": list(options)})

    @classmethod
    def lark(cls, grammar: str) -> Self:
        """Text of a context-free grammar, in llguidance's kind of Lark."""
        known = _llguidance().LLMatcher.grammar_from_lark(grammar)
        return cls(known, told={"grammar": grammar})

    @staticmethod
    def json_rule(schema: Mapping[str, Any]) -> str:
        """The right side of a rule of such a grammar, for JSON of a schema."""
        return f"%json {json.dumps({**schema, 'x-guidance': _WRITTEN})}"


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema whose objects have no properties but those that it names.

    What a schema does not forbid a model may write; functions and classes take only what they name.
    """

    def inside(value: Any) -> Any:
        if isinstance(value, Mapping):
            found = {key: inside(item) for key, item in value.items()}
            if isinstance(found.get("properties"), Mapping) and found.get("type") == "object":
                found.setdefault("additionalProperties", False)
            return found
        return [inside(item) for item in value] if isinstance(value, list) else value

    found: dict[str, Any] = inside(schema)
    return found


def grammar_tokenizer(
    tokenizer: PreTrainedTokenizerBase, vocabulary: int, ends: int | list[int] | None
) -> Any:
    """A tokenizer as llguidance wants it.

    Args:
        tokenizer: The model's.
        vocabulary: Number of the model's logits.
        ends: The model's end tokens.

    Raises:
        PromptError: llguidance does not know tokenizers of this kind.
    """
    try:
        return _llguidance().hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=ends)
    except (ValueError, TypeError) as error:
        raise PromptError(f"Answers of this model cannot be given a form: {error}") from error


def check_structure_fits(arguments: Mapping[str, Any], defaults: GenerationConfig) -> None:
    """Refuse ways to generate that choose tokens otherwise than one after the other.

    Args:
        arguments: Those of transformers' `generate`.
        defaults: The model's own.

    Raises:
        PromptError: One of them is asked for.
    """
    refused = ("num_beams", "assistant_model", "prompt_lookup_num_tokens", "min_new_tokens")
    for name in refused:
        if arguments.get(name, getattr(defaults, name, None)) not in (None, 0, 1):
            raise PromptError(f"structure cannot be combined with {name}. Leave one of them out.")


class StructuredWriting(LogitsProcessor):
    """Lets each row of a batch go on only as its structure allows, and ends it in time.

    When no more tokens are left than a row needs to become whole, it takes a short way there: it
    ends the text that it is in, leaves out what may be left out, and closes what is open.

    Args:
        tokenizer: From `grammar_tokenizer`.
        structure: The form of every answer.
        prompt_tokens: How many tokens stand before the answers.
        most: How many tokens an answer may have.

    Attributes:
        shortened: The numbers of the rows that were made to end.
    """

    def __init__(self, tokenizer: Any, structure: Structure, prompt_tokens: int, most: int) -> None:
        self._tokenizer = tokenizer
        self._structure = structure
        self._prompt_tokens = prompt_tokens
        self._most = most
        self._rows: list[Any] = []
        self._ending = _Ending(tokenizer)
        self.shortened: set[int] = set()
        self._due: dict[int, int] = {}
        self._following: dict[int, list[int]] = {}

    def _new_row(self) -> Any:
        return _llguidance().LLMatcher(self._tokenizer, self._structure.grammar)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Returns scores, shape (rows, vocabulary), minus infinity where a row cannot go on."""
        if not self._rows:
            self._rows = [self._new_row() for _ in input_ids]
        if input_ids.shape[1] > self._prompt_tokens:
            for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
                if not row.is_stopped():
                    row.consume_token(token)
        left = self._most - (input_ids.shape[1] - self._prompt_tokens)
        return torch.stack([self._allowed(number, one, left) for number, one in enumerate(scores)])

    def _allowed(self, number: int, scores: Tensor, left: int) -> Tensor:
        row = self._rows[number]
        if row.is_error():
            raise PromptError(f"The answer cannot be given its form: {row.get_error()}")
        if row.is_stopped():  # the answer is whole
            return _only([self._tokenizer.eos_token], scores)
        allowed = _mask(row)[: len(scores)].to(scores.device)
        scores = scores.masked_fill(~allowed, float("-inf"))
        if self._following.get(number):
            return _only([self._following[number].pop(0)], scores)
        if not self._structure.closes or left > self._due.get(number, left):
            return scores
        way = self._ending.way(row, left)
        spare = left - len(way) if way is not None else 0
        if way is None or spare > _SPARE:
            # Looked at again once what is open may need so much more to end.
            self._due[number] = left - max(1, (spare - _SPARE) // _GROWTH)
            return scores
        wanted = [token for token in scores.topk(_TRIED).indices.tolist() if allowed[token]]
        fitting = [token for token in wanted if self._ending.fits(row, token, left)]
        if fitting[:1] != wanted[:1]:
            self.shortened.add(number)
        if not fitting:
            # To its end: from the middle of a pattern another way may be looked for, and not found.
            fitting, self._following[number] = way[:1], way[1:]
        return _only(fitting, scores)


def _only(tokens: list[int], scores: Tensor) -> Tensor:
    only = torch.full_like(scores, float("-inf"))
    only[tokens] = scores[tokens].nan_to_num(neginf=0.0)
    return only


def _mask(row: Any) -> Tensor:
    """Which tokens may follow; shape (at least as many as there are tokens,)."""
    return _unpacked(row.compute_bitmask())


def _unpacked(mask: bytes) -> Tensor:
    packed = torch.frombuffer(bytearray(mask), dtype=torch.uint8)
    return (packed[:, None] >> _BITS & 1).flatten().bool()


@dataclass
class _Tried:
    """What was chosen on one way since something was forced.

    Attributes:
        tokens: The tokens.
        known: Which tokens could have been chosen so far.
    """

    tokens: list[int] = field(default_factory=list)
    known: Tensor | None = None


class _Ending:
    """Finds a short way in which a row can end."""

    def __init__(self, tokenizer: Any) -> None:
        closing = [tokenizer.tokenize_str(text) for text in _CLOSING]
        self._closing: list[int] = [tokens[0] for tokens in closing if len(tokens) == 1]

    def way(self, row: Any, most: int) -> list[int] | None:
        """The tokens with which a row becomes whole; None if none were found within `most`."""
        row = row.deep_copy()
        way: list[int] = []
        tried = _Tried()
        while not (row.is_accepting() or row.is_stopped()):
            tokens = row.compute_ff_tokens()
            if tokens:
                tried = _Tried()
            else:
                tokens = [self._choice(row.compute_bitmask(), tried)]
            way += tokens
            if len(way) > most or len(tried.tokens) > _CHOICES or not row.consume_tokens(tokens):
                return None
        return way if len(way) <= most else None

    def _choice(self, allowed: bytes, tried: _Tried) -> int:
        """What ends something, or else what could not stand here before, or was not tried yet."""
        for token in self._closing:
            if _allows(allowed, token) and token not in tried.tokens[-_REPEATED:]:
                tried.tokens.append(token)
                return token
        mask = _unpacked(allowed)
        new = mask if tried.known is None else mask & ~tried.known
        if not new.any():
            new = mask.clone()
            new[tried.tokens] = False
        token = int((new if new.any() else mask).int().argmax().item())
        tried.known = mask if tried.known is None else tried.known | mask
        tried.tokens.append(token)
        return token

    def fits(self, row: Any, token: int, left: int) -> bool:
        """Whether a row that goes on with a token can become whole with what is left then."""
        row = row.deep_copy()
        return bool(row.consume_token(token)) and self.way(row, left - 1) is not None


def _allows(mask: bytes, token: int) -> bool:
    return bool(mask[token >> 3] >> (token & 7) & 1)
