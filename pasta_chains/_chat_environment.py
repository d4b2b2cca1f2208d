"""The Jinja environment of chat templates, which remembers what text comes from messages.

It is like the one of transformers. Where text comes from is a span, moved through the template like
emphasis; where an operation leaves spans behind, its whole result is said to hold text of messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime
from functools import partial, update_wrapper
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
from .spans import Span, SpanStr, carries_emphasis, concat, span_count
from .template import EmphasizeExtension


class Origin(str):
    """The name of a span that says where its characters come from, and emphasizes nothing."""

    __slots__ = ()


MESSAGE = Origin("message")
MIXED = Origin("mixed")  # of the message and of the template, and nobody can tell which is which


def wholly(text: Any, origin: Origin) -> Any:
    """A text that comes from one place; what is no text, as it is."""
    return SpanStr(text, [Span(0, len(text), name=origin)]) if isinstance(text, str) else text


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
        make = partial(super().call, context, obj)
        if getattr(obj, "__name__", None) in ("format", "format_map"):
            made = _formatted(make, *args, **kwargs)
            receiver = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)
            return _noted(made, [receiver])
        return _noted(make(*args, **kwargs), [*args, *kwargs.values()])


def _formatted(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call with plain texts, for spans would be dropped; the result may hold them anywhere."""
    if not carries_emphasis([*args, *kwargs.values()]):
        return make(*args, **kwargs)
    made = make(*map(_plain, args), **{key: _plain(value) for key, value in kwargs.items()})
    return wholly(made, MIXED) if made else made


def _filtered(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a filter, and notice when it leaves spans behind."""
    first = 1 if hasattr(make, "jinja_pass_arg") else 0  # the context, which holds all variables
    given = [*args[first:], *kwargs.values()]
    return _noted(make(*args, **kwargs), given)


def _noted(made: Any, given: list[Any]) -> Any:
    """What was made of texts, as a mixture if it lost their spans."""
    if not isinstance(made, str) or not made or span_count(made) or not carries_emphasis(given):
        return made
    return wholly(made, MIXED)


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
    return wholly(str(_plain(value)), MESSAGE)


def chat_environment() -> ImmutableSandboxedEnvironment:
    environment = _ChatEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[EmphasizeExtension, _GenerationExtension, loopcontrols],
        finalize=_printed,
    )
    environment.template_class = _ChatTemplate
    for name, made in environment.filters.items():
        environment.filters[name] = update_wrapper(partial(_filtered, made), made)
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
    if not carries_emphasis(value):
        return text
    kept = _json(value, ensure_ascii)
    # With another layout, or keys that are no texts, nobody can tell where each value went.
    emphasis = [span for span in kept.spans if not isinstance(span.name, Origin)]
    if kept.text != text:
        emphasis = []
    return SpanStr(text, [Span(0, len(text), name=MESSAGE), *emphasis])


def _json(value: Any, ensure_ascii: bool) -> SpanStr:
    """JSON as `json.dumps` lays it out by default, in which texts keep their spans."""

    def written(text: str) -> str:
        return json.dumps(text, ensure_ascii=ensure_ascii)[1:-1]

    if isinstance(value, SpanStr):
        inside = value._mapped(written)
        return concat(['"', inside, '"'])
    if isinstance(value, Mapping):
        items = [
            concat([_json(key, ensure_ascii), ": ", _json(item, ensure_ascii)])
            for key, item in value.items()
        ]
        return concat(["{", SpanStr(", ").join(items), "}"])
    if isinstance(value, list | tuple):
        items = [_json(item, ensure_ascii) for item in value]
        return concat(["[", SpanStr(", ").join(items), "]"])
    return SpanStr(json.dumps(value, ensure_ascii=ensure_ascii))
