"""From chat messages to one `SpanStr`, through the model's own chat template.

The template is rendered by an environment like the one of transformers, except that it tracks
spans: emphasis in a message's content comes out at the right place of the final text, whatever
the template trims, drops or moves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import PromptError
from .spans import SpanStr
from .template import EmphasizeExtension

Message = Mapping[str, Any]


def is_chat(prompt: object) -> bool:
    """Whether a prompt is a list of chat messages."""
    return (
        isinstance(prompt, Sequence)
        and not isinstance(prompt, str)
        and len(prompt) > 0
        and all(isinstance(message, Mapping) for message in prompt)
    )


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse messages that no chat template can take.

    Raises:
        PromptError: A message lacks its role, or its content is not text.
    """
    for number, message in enumerate(messages):
        if not isinstance(message.get("role"), str):
            raise PromptError(f"Chat message {number} has no role: {dict(message)!r}.")
        if not isinstance(message.get("content"), str):
            raise PromptError(
                f"The content of chat message {number} is {message.get('content')!r}; it must be "
                "one text. Never split the text of a message into blocks: templates treat each "
                "block differently."
            )


def render_chat(
    messages: Sequence[Message],
    chat_template: str,
    *,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> SpanStr:
    """Render chat messages with a model's chat template, keeping their emphasis.

    Args:
        messages: Each with `role` and `content`; contents may be `SpanStr`.
        chat_template: Source of the template.
        add_generation_prompt: End with the start of the assistant's answer.
        **variables: Further variables of the template: `bos_token` and the like, `tools`, ….

    Raises:
        PromptError: The messages are malformed, the template refuses them, or it drops the text of
            a message that has emphasis.
    """
    check_messages(messages)
    numbered, names = _numbered(messages)
    try:
        rendered = _compiled(chat_template).render(
            messages=numbered,
            add_generation_prompt=add_generation_prompt,
            **variables,
        )
    except Exception as error:  # a template is a program of its own, and may fail in any way
        raise PromptError(f"The model's chat template refuses these messages: {error}") from error
    text = rendered if isinstance(rendered, SpanStr) else SpanStr(rendered)
    kept = {span.name for span in text.spans if isinstance(span.name, _Number)}
    if len(kept) < len(names):
        raise PromptError(
            f"The chat template kept {len(kept)} of {len(names)} emphasized spans: it drops or "
            "rewrites the messages that contain the others. Emphasize text in another message, or "
            "render the prompt yourself and pass it as one text."
        )
    return SpanStr(
        text.text,
        [
            span._replace(name=names[int(span.name)]) if isinstance(span.name, _Number) else span
            for span in text.spans
        ],
    )


class _Number(str):
    """Stands in for the name of a span, since a template may render one twice and drop another."""

    __slots__ = ()


def _numbered(messages: Sequence[Message]) -> tuple[list[dict[str, Any]], list[str | None]]:
    """The messages with their spans numbered, and the names that the numbers stand for."""
    names: list[str | None] = []
    numbered = [dict(message) for message in messages]
    for message in numbered:
        for key, value in message.items():
            if isinstance(value, SpanStr):
                spans = enumerate(value.spans, len(names))
                message[key] = SpanStr(
                    value.text, [span._replace(name=_Number(n)) for n, span in spans]
                )
                names += [span.name for span in value.spans]
    return numbered, names


@lru_cache(maxsize=16)
def _compiled(chat_template: str) -> jinja2.Template:
    return _environment().from_string(chat_template)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[EmphasizeExtension, _GenerationExtension, loopcontrols],
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


class _GenerationExtension(Extension):
    """`{% generation %}` marks the assistant's text for training; here it only renders."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        tag = next(parser.stream)
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=tag.lineno)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, **layout: Any) -> str:
    # Unlike Jinja's own filter this one does not escape HTML, as transformers' does not.
    return json.dumps(value, ensure_ascii=ensure_ascii, **layout)
