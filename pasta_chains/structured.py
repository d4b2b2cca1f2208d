"""Answers of a form that was asked for: JSON of a schema, a pattern, or one of several texts.

At each step the model chooses among the tokens with which such an answer can go on. llguidance says
which these are: it is small, needs no GPU, and knows the tokenizers of transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, PreTrainedTokenizerBase

from .errors import MissingExtraError, PromptError

# As Python's json writes it; white space anywhere would let a model write nothing else for long.
_WRITTEN = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
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

    Raises:
        PromptError: The schema or pattern is none, or says something that cannot be enforced.
        MissingExtraError: The extra "structured" is not installed.
    """

    grammar: str

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
        text = json.dumps({"type": "object"} if schema is None else dict(schema))
        grammar = _llguidance().LLMatcher.grammar_from_json_schema(text, overrides=_WRITTEN)
        return cls(grammar)

    @classmethod
    def regex(cls, pattern: str) -> Self:
        """Text that a regular expression matches from its first to its last character."""
        return cls(_llguidance().LLMatcher.grammar_from_regex(pattern))

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
        return cls.lark(f"start: {shown}")

    @classmethod
    def lark(cls, grammar: str) -> Self:
        """Text of a context-free grammar, in llguidance's kind of Lark."""
        return cls(_llguidance().LLMatcher.grammar_from_lark(grammar))

    @staticmethod
    def json_rule(schema: Mapping[str, Any]) -> str:
        """The right side of a rule of such a grammar, for JSON of a schema."""
        return f"%json {json.dumps({**schema, 'x-guidance': _WRITTEN})}"


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
    """Lets each row of a batch go on only as its structure allows.

    Args:
        tokenizer: From `grammar_tokenizer`.
        structure: The form of every answer.
        prompt_tokens: How many tokens stand before the answers.
    """

    def __init__(self, tokenizer: Any, structure: Structure, prompt_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._structure = structure
        self._prompt_tokens = prompt_tokens
        self._rows: list[Any] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Returns scores, shape (rows, vocabulary), minus infinity where a row cannot go on."""
        if not self._rows:
            new = _llguidance().LLMatcher
            self._rows = [new(self._tokenizer, self._structure.grammar) for _ in input_ids]
        if input_ids.shape[1] > self._prompt_tokens:
            for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
                if not row.is_stopped():
                    row.consume_token(token)
        return torch.stack([self._allowed(*one) for one in zip(self._rows, scores, strict=True)])

    def _allowed(self, row: Any, scores: Tensor) -> Tensor:
        if row.is_error():
            raise PromptError(f"The answer cannot be given its form: {row.get_error()}")
        if row.is_stopped():  # the answer is whole
            only = torch.full_like(scores, float("-inf"))
            only[self._tokenizer.eos_token] = 0.0
            return only
        packed = torch.frombuffer(bytearray(row.compute_bitmask()), dtype=torch.uint8)
        allowed = (packed[:, None] >> _BITS & 1).flatten()[: len(scores)].bool()
        return scores.masked_fill(~allowed.to(scores.device), float("-inf"))
