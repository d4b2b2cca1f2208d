"""How emphasis travels to a server: a small schema, its version, and what it may say.

It is one JSON text under the name `pasta_chains` among the `vllm_xargs` of a request.
`docs/how-to/vllm.md` describes it for people who write clients.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any, Literal, Self

from .errors import EmphasisError, MissingExtraError
from .spans import SpanStr
from .tokens import Offset, token_spans

try:
    from pydantic import BaseModel, ConfigDict, Field, ValidationError
except ImportError as error:
    raise MissingExtraError("pydantic", "remote") from error

KEY = "pasta_chains"
"""Name of the value among a request's `vllm_xargs`, and of the server's own routes."""

VERSION = 1
"""Of the schema. A server refuses others."""

MOST_SPANS = 1000
"""Of a prompt or of a message: reading them takes time for each token."""

Mark = Annotated[list[Any], Field(min_length=2, max_length=5)]
"""A span as a list: start, end[, alpha[, name[, deemphasized]]], as in LangChain's messages."""

_EXAMPLE = 'It looks like \'{"version": 1, "spans": [[6, 14], [20, 29, 0.001]]}\'.'


class Emphasis(BaseModel):
    """What one request emphasizes.

    Attributes:
        version: Of this schema.
        unit: What `spans` count: characters or tokens.
        spans: Of a prompt that is one text, or one list of token ids.
        messages: Of the contents of chat messages, in characters, by their numbers from 0.
        alpha: Instead of the profile's, for spans that have none of their own.
        profile: Digest of the head profile that the client counts on, if it does.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[1]
    unit: Literal["characters", "tokens"] = "characters"
    spans: list[Mark] = Field(default_factory=list, max_length=MOST_SPANS)
    messages: dict[str, Annotated[list[Mark], Field(max_length=MOST_SPANS)]] = Field(
        default_factory=dict, max_length=MOST_SPANS
    )
    alpha: float | None = Field(default=None, gt=0, le=1)
    profile: str | None = None

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read what a client sent.

        Raises:
            EmphasisError: It is no JSON of this schema; the message says where.
        """
        if not isinstance(text, str):
            raise EmphasisError(f"{KEY} is {str(text)[:80]}; it must be a JSON text. {_EXAMPLE}")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = f" at {'.'.join(map(str, found['loc']))}" if found["loc"] else ""
            raise EmphasisError(f"{KEY} is malformed{where}: {found['msg']}. {_EXAMPLE}") from error

    def dump(self) -> str:
        """The JSON text that `parse` reads."""
        return json.dumps(self.model_dump(exclude_defaults=True))

    @property
    def is_empty(self) -> bool:
        """Whether it has no span."""
        return not self.spans and not any(self.messages.values())


def marked(text: str, marks: Sequence[Mark]) -> SpanStr:
    """A text with the spans that came over the wire.

    Raises:
        EmphasisError: A span is malformed, or reaches beyond the text.
    """
    return SpanStr(text, [tuple(mark) for mark in marks])


def token_marks(text: SpanStr, offsets: Sequence[Offset]) -> list[list[Any]]:
    """The spans of a text as spans of its tokens, none of which overlap.

    Args:
        text: The prompt.
        offsets: Half-open range of characters of each token.

    Raises:
        EmphasisError: A span covers no token.
    """
    marks, position = [], 0
    for span, owned in groupby(token_spans(text, offsets)):
        end = position + len(list(owned))
        if span is not None:
            marks.append([*span._replace(start=position, end=end, name=None)])
        position = end
    return marks


def marks_of(text: str) -> list[list[Any]]:
    """The spans of a text, as they go over the wire."""
    return [list(span) for span in text.spans] if isinstance(text, SpanStr) else []
