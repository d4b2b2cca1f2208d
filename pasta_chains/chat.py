"""From chat messages to one `SpanStr`, through the model's own chat template.

The template is rendered by an environment like the one of transformers, except that it tracks
spans: emphasis in a message's content comes out at the right place of the final text, whatever
the template trims, drops or moves. In the same way, as spans beside the characters, it tracks which
text comes from the messages: only the rest, the template's own, may hold control tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial, update_wrapper
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import soft_str

from ._runtime import EmphasisTemplate
from .errors import PromptError
from .spans import Span, SpanStr, carries_emphasis, concat
from .template import EmphasizeExtension

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
    **variables: Any,
) -> RenderedChat:
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
    tracked = _Tracked()
    try:
        rendered = _compiled(chat_template).render(
            messages=[tracked.message(message) for message in messages],
            add_generation_prompt=add_generation_prompt,
            **variables,
        )
    except Exception as error:  # a template is a program of its own, and may fail in any way
        raise PromptError(f"The model's chat template refuses these messages: {error}") from error
    text = rendered if isinstance(rendered, SpanStr) else SpanStr(rendered)
    names = tracked.names
    kept = {span.name for span in text.spans if isinstance(span.name, _Number)}
    if len(kept) < len(names):
        raise PromptError(
            f"The chat template kept {len(kept)} of {len(names)} emphasized spans: it drops or "
            "rewrites the messages that contain the others. Emphasize text in another message, or "
            "render the prompt yourself and pass it as one text."
        )
    emphasis = [
        span._replace(name=names[int(span.name)]) if isinstance(span.name, _Number) else span
        for span in text.spans
        if not isinstance(span.name, _Origin)
    ]
    return RenderedChat(
        SpanStr(text.text, emphasis),
        _ranges(text, _MESSAGE),
        _ranges(text, _MIXED),
        tuple(tracked.sources),
    )


class _Number(str):
    """Stands in for the name of a span, since a template may render one twice and drop another."""

    __slots__ = ()


class _Origin(str):
    """The name of a span that says where its characters come from, and emphasizes nothing."""

    __slots__ = ()


_MESSAGE, _MIXED = _Origin("message"), _Origin("mixed")


class _Tracked:
    """Messages whose texts know that they are messages' and whose spans are numbered.

    Attributes:
        names: The names of the spans that the numbers stand for.
        sources: Every text that was tracked.
    """

    def __init__(self) -> None:
        self.names: list[str | None] = []
        self.sources: list[str] = []

    def message(self, message: Message) -> dict[str, Any]:
        """A copy of a message; its role, which the application chose, is left as it is."""
        return {
            key: value if key == "role" else self._value(value) for key, value in message.items()
        }

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
        return SpanStr(text.text, [Span(0, len(text), name=_MESSAGE), *numbered])


def _ranges(text: SpanStr, origin: _Origin) -> tuple[Range, ...]:
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


def _wholly(text: Any, origin: _Origin) -> Any:
    return SpanStr(text, [Span(0, len(text), name=origin)]) if isinstance(text, str) else text


def literal_text(chat_template: str) -> str:
    """All that a chat template may write of its own accord, in pieces parted by null characters."""
    try:
        tree = _environment().parse(chat_template)
    except jinja2.TemplateSyntaxError:
        return ""  # rendering says what is wrong with it
    written = [node.data for node in tree.find_all(nodes.TemplateData)]
    written += [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    return "\0".join(written)


@lru_cache(maxsize=16)
def _compiled(chat_template: str) -> jinja2.Template:
    return _environment().from_string(chat_template)


class _ChatTemplate(EmphasisTemplate):
    """A chat template whose `~` prints what it joins as the template itself prints."""

    @classmethod
    def _from_namespace(
        cls,
        environment: jinja2.Environment,
        namespace: MutableMapping[str, Any],
        globals: MutableMapping[str, Any],
    ) -> jinja2.Template:
        template = super()._from_namespace(environment, namespace, globals)
        namespace["str_join"] = lambda values: concat(str(_printed(value)) for value in values)
        return template


class _ChatEnvironment(ImmutableSandboxedEnvironment):
    """Does not lose sight of messages' text where formatting leaves its spans behind."""

    intercepted_binops = frozenset({"%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        return _formatted(partial(super().call_binop, context, operator), left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        call = partial(super().call, context, obj)
        if getattr(obj, "__name__", None) in ("format", "format_map"):
            return _formatted(call, *args, **kwargs)
        return call(*args, **kwargs)


def _formatted(make: Any, *args: Any, **kwargs: Any) -> Any:
    """Call with plain texts; when one of them was a message's, so may be all that is made."""
    if not carries_emphasis([*args, *kwargs.values()]):
        return make(*args, **kwargs)
    made = make(*map(_plain, args), **{key: _plain(value) for key, value in kwargs.items()})
    return _wholly(made, _MIXED) if made else made


def _plain(value: Any) -> Any:
    if isinstance(value, SpanStr):
        return value.text
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def _printed(value: Any) -> Any:
    """What a template prints: a list or dict with text of messages is text of messages."""
    if isinstance(value, str) or not carries_emphasis(value):
        return value
    return _wholly(str(_plain(value)), _MESSAGE)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _ChatEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[EmphasizeExtension, _GenerationExtension, loopcontrols],
        finalize=_printed,
    )
    environment.template_class = _ChatTemplate
    for name in ("format", "pprint", "striptags", "urlize", "xmlattr"):
        environment.filters[name] = update_wrapper(
            partial(_formatted, FILTERS[name]), FILTERS[name]
        )
    environment.filters["string"] = lambda value: soft_str(_printed(value))
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
    text = json.dumps(value, ensure_ascii=ensure_ascii, **layout)
    return _wholly(text, _MESSAGE) if carries_emphasis(value) else text
