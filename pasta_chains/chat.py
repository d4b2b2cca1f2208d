"""From chat messages to one `SpanStr`, through the model's own chat template.

The template is rendered by an environment like the one of transformers, except that it tracks
spans: emphasis in a message's content comes out at the right place of the final text, whatever
the template trims, drops or moves. In the same way, as spans beside the characters, it tracks which
text comes from the messages: only the rest, the template's own, may hold control tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes

from ._chat_environment import MESSAGE, MIXED, Origin, chat_environment
from .errors import PromptError
from .spans import Span, SpanStr

Message = Mapping[str, Any]
Range = tuple[int, int]


@dataclass(frozen=True)
class RenderedChat:
    """Chat messages as the model's chat template writes them.

    Attributes:
        text: The whole text, with the emphasis of the messages.
        messages: The ranges of characters that come from the messages, in order and apart. Roles
            are not among them: they are the application's.
        mixed: Ranges in which the template formatted text of its own and of messages into one, as
            with `%`, so that nobody can tell which is which.
        sources: Every text of the messages, as it was given.
    """

    text: SpanStr
    messages: tuple[Range, ...] = ()
    mixed: tuple[Range, ...] = ()
    sources: tuple[str, ...] = ()


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
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    **variables: Any,
) -> RenderedChat:
    """Render chat messages with a model's chat template, keeping their emphasis.

    Args:
        messages: Each with `role` and `content`; contents may be `SpanStr`.
        chat_template: Source of the template.
        add_generation_prompt: End with the start of the assistant's answer.
        tools: Schemas of functions that the model may call. Their text is read like that of
            messages: no part of it can become a control token.
        documents: Retrieved documents for the template, read in the same way; they may have
            emphasis.
        **variables: Further variables of the template: `bos_token` and the like.

    Raises:
        PromptError: The messages are malformed, the template refuses them, it drops the text of a
            message that has emphasis, or it does not show a tool.
    """
    check_messages(messages)
    tracked = _Tracked()
    try:
        rendered = _compiled(chat_template).render(
            messages=[tracked.message(*numbered) for numbered in enumerate(messages)],
            add_generation_prompt=add_generation_prompt,
            tools=tools and tracked.listed(tools, "the tools"),
            documents=documents and tracked.listed(documents, "the documents"),
            **variables,
        )
    except Exception as error:  # a template is a program of its own, and may fail in any way
        raise PromptError(f"The model's chat template refuses these messages: {error}") from error
    text = rendered if isinstance(rendered, SpanStr) else SpanStr(rendered)
    _check_shows(tools or (), text.text)
    names = tracked.names
    kept = {int(span.name) for span in text.spans if isinstance(span.name, _Number)}
    lost = sorted({tracked.owners[n] for n in range(len(names)) if n not in kept})
    if lost:
        raise PromptError(
            f"The chat template kept {len(kept)} of {len(names)} emphasized spans: it drops or "
            f"rewrites emphasized text of {' and of '.join(lost)}. Emphasize text elsewhere, or "
            "render the prompt yourself and pass it as one text."
        )
    emphasis = [
        span._replace(name=names[int(span.name)]) if isinstance(span.name, _Number) else span
        for span in text.spans
        if not isinstance(span.name, Origin)
    ]
    return RenderedChat(
        SpanStr(text.text, emphasis),
        _ranges(text, MESSAGE),
        _ranges(text, MIXED),
        tuple(tracked.sources),
    )


def _check_shows(tools: Sequence[Mapping[str, Any]], text: str) -> None:
    for tool in tools:
        name = str(tool["function"]["name"])
        if name not in text:
            raise PromptError(
                f"The model's chat template does not show the tool {name!r}, so the model cannot "
                "know of it. Use a model whose template takes tools, or describe them in a message."
            )


class _Number(str):
    """Stands in for the name of a span, since a template may render one twice and drop another."""

    __slots__ = ()


class _Tracked:
    """Messages whose texts know that they are messages' and whose spans are numbered.

    Attributes:
        names: The names of the spans that the numbers stand for.
        owners: Where each of them is from, in words.
        sources: Every text that was tracked.
    """

    def __init__(self) -> None:
        self.names: list[str | None] = []
        self.owners: list[str] = []
        self.sources: list[str] = []

    def message(self, number: int, message: Message) -> dict[str, Any]:
        """A copy of a message; its role, which the application chose, is left as it is."""
        copied = {
            key: value if key == "role" else self._value(value) for key, value in message.items()
        }
        self._belong_to(f"message {number} (role {message['role']!r})")
        return copied

    def listed(self, given: Sequence[Mapping[str, Any]], owner: str) -> list[Any]:
        """A copy of tools or documents."""
        copied = [self._value(one) for one in given]
        self._belong_to(owner)
        return copied

    def _belong_to(self, owner: str) -> None:
        """Say where the spans that nobody owns yet are from."""
        self.owners += [owner] * (len(self.names) - len(self.owners))

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(SpanStr(value)) if value else value
        if isinstance(value, Mapping):
            return {key: self._value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            items = [self._value(item) for item in value]
            return items if isinstance(value, list) else tuple(items)
        return value

    def _text(self, text: SpanStr) -> SpanStr:
        self.sources.append(text.text)
        spans = enumerate(text.spans, len(self.names))
        numbered = [span._replace(name=_Number(n)) for n, span in spans]
        self.names += [span.name for span in text.spans]
        return SpanStr(text.text, [Span(0, len(text), name=MESSAGE), *numbered])


def _ranges(text: SpanStr, origin: Origin) -> tuple[Range, ...]:
    """The ranges of one origin; those that touch are one, for no character parts them."""
    joined: list[Range] = []
    for span in text.spans:
        if span.name is not origin:
            continue
        if joined and span.start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], span.end))
        else:
            joined.append((span.start, span.end))
    return tuple(joined)


def literal_text(chat_template: str) -> str:
    """All that a chat template may write of its own accord, in pieces parted by null characters."""
    try:
        tree = chat_environment().parse(chat_template)
    except jinja2.TemplateSyntaxError:
        return ""  # rendering says what is wrong with it
    written = [node.data for node in tree.find_all(nodes.TemplateData)]
    written += [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    return "\0".join(written)


@lru_cache(maxsize=16)
def _compiled(chat_template: str) -> jinja2.Template:
    return chat_environment().from_string(chat_template)
