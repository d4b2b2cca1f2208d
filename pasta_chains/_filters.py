"""The filters `emphasize`, `deemphasize` and `plain`, and Jinja's own where they must keep spans.

Most of Jinja's filters call string methods on their value and so keep its spans as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, update_wrapper
from inspect import isawaitable
from typing import Any, TypeAlias

from jinja2 import pass_context
from jinja2.filters import do_indent, do_title, make_attrgetter
from jinja2.runtime import Context, Undefined
from markupsafe import Markup, soft_str

from pasta_chains import markup, spans
from pasta_chains.errors import EmphasisError
from pasta_chains.spans import (
    SpanStr,
    carries_emphasis,
    concat,
    drop_emphasis,
    span_count,
    warn_dropped,
)

Filter: TypeAlias = Callable[..., Any]

# These print what is no text: a list would lose the emphasis of what it holds.
_OF_TEXT = (
    *("capitalize", "center", "e", "escape", "forceescape", "indent", "lower", "plain"),
    *("replace", "string", "title", "trim", "truncate", "upper"),
)
_DROPPING = ("format", "pprint", "striptags", "urlize", "xmlattr")


def emphasis_filters(jinja_filters: Mapping[str, Filter]) -> dict[str, Filter]:
    """Returns our filters, and those of `jinja_filters` that need help to keep spans or to warn."""
    filters = {name: _around(jinja_filters[name], _dropping, name) for name in _DROPPING}
    for name, keeping in _KEEPING.items():
        filters[name] = _around(jinja_filters[name], keeping)
    filters |= {
        "title": _title,
        "indent": _indent,
        "e": markup.escape,
        "escape": markup.escape,
        "forceescape": _forceescape,
        "safe": markup.markup,
        "emphasize": _emphasize,
        "deemphasize": _deemphasize,
        "plain": _plain,
    }
    for name in _OF_TEXT:
        filters[name] = _around(filters.get(name) or jinja_filters[name], _noticing, name)
    return filters


# A filter that wants the context is never computed while compiling, where spans would be lost.
@pass_context
def _emphasize(context: Context, value: Any, *given: Any, **named: Any) -> str:
    alpha, name = _arguments("emphasize", given, named) if given or named else (None, None)
    return _mark("emphasize", value, alpha, name)


@pass_context
def _deemphasize(context: Context, value: Any, *given: Any, **named: Any) -> str:
    alpha, name = _arguments("deemphasize", given, named) if given or named else (None, None)
    return _mark("deemphasize", value, alpha, name)


def _arguments(
    filter_name: str, given: tuple[Any, ...], named: dict[str, Any]
) -> tuple[float | str | None, str | None]:
    arguments = dict(zip(("alpha", "name"), given, strict=False))
    wrong = [f"but got {name} twice" for name in named if name in arguments]
    wrong += [f"not {name!r}" for name in named if name not in ("alpha", "name")]
    wrong += [f"not {value!r}" for value in given[2:]]
    if wrong:
        raise EmphasisError(f"the filter {filter_name} takes alpha=… and name=…, {wrong[0]}.")
    arguments |= named
    for argument in arguments.values():
        if isinstance(argument, Undefined):
            str(argument)  # a strict environment says which variable is missing
    return arguments.get("alpha"), arguments.get("name")


def _mark(filter_name: str, value: Any, alpha: float | str | None, name: str | None) -> str:
    if not isinstance(value, str):
        if carries_emphasis(value):
            warn_dropped(f"the filter {filter_name}, of a list")
        value = str(value)
    if not value:
        raise EmphasisError(
            "the emphasis marks no text, because what it holds is empty here. "
            "Guard it with {% if … %}."
        )
    marked = spans.emphasize(value, alpha, name, filter_name == "deemphasize")
    return markup.markup(marked) if isinstance(value, Markup) else marked


def _plain(value: Any) -> str:
    text = soft_str(value)
    if not isinstance(text, SpanStr):
        return text
    return Markup(text.text) if isinstance(text, Markup) else text.text


def _forceescape(value: Any) -> Markup:
    text = soft_str(value.__html__() if hasattr(value, "__html__") else value)
    if isinstance(text, SpanStr):
        return markup.escape(SpanStr(text.text, text.spans))
    return markup.escape(str.__str__(text))


def _title(value: Any) -> str:
    text = soft_str(value)
    if not isinstance(text, SpanStr):
        return do_title(text)
    return SpanStr(text.text, text.spans)._cased(do_title)  # like Jinja's, not escaped any more


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    if isinstance(width, Markup) and not isinstance(text, Markup) and span_count(text):
        text = drop_emphasis(text, "the filter indent with escaped text")
    if not span_count(text):
        return do_indent(text, width, first, blank)
    text = SpanStr(text) if not isinstance(text, SpanStr) else text
    indention = width if isinstance(width, str) else " " * width
    # Like Jinja, let the text end in a line break, so that a last empty line counts as one.
    lines = f"{text.text}\n".splitlines(keepends=True)
    edits = [(0, 0, indention)] if first else []
    end = 0
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        start, end = end + len(_bare(line)), end + len(line)
        if following is None:
            edits.append((start, len(text), ""))
        else:
            edits.append((start, end, "\n" + (indention if blank or _bare(following) else "")))
    return text._edited(edits)


def _bare(line: str) -> str:
    return line.splitlines()[0]


def _join(
    join: Filter, eval_ctx: Any, value: Any, d: Any = "", attribute: str | int | None = None
) -> Any:
    if eval_ctx.autoescape and not hasattr(d, "__html__"):
        if hasattr(value, "__aiter__"):
            return _join_later(join, eval_ctx, value, d, attribute)
        value = list(value)
        items = value
        if attribute is not None:
            items = [*map(make_attrgetter(eval_ctx.environment, attribute), value)]
        # Like Jinja: one escaped item has all escaped.
        d = markup.escape(d) if any(hasattr(item, "__html__") for item in items) else d
    if attribute is None and isinstance(value, list | tuple):
        for item in value:
            if not isinstance(item, str) and carries_emphasis(item):
                warn_dropped("the filter join, of a list in a list,")
    return join(eval_ctx, value, _tracked(d), attribute)


async def _join_later(join: Filter, eval_ctx: Any, value: Any, d: Any, attribute: Any) -> Any:
    joined = _join(join, eval_ctx, [item async for item in value], d, attribute)
    return await joined if isawaitable(joined) else joined


def _replace(
    replace: Filter, eval_ctx: Any, s: Any, old: str, new: str, count: int | None = None
) -> Any:
    if eval_ctx.autoescape and (hasattr(old, "__html__") or hasattr(new, "__html__")):
        # Like Jinja: what is escaped escapes the text around it.
        s, old = markup.escape(s), str.__str__(soft_str(old))
    return replace(eval_ctx, _tracked(s), old, new, count)


def _wordwrap(wordwrap: Filter, environment: Any, s: Any, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(s, SpanStr):
        return wordwrap(environment, s, *args, **kwargs)
    wrapped = wordwrap(environment, s.text, *args, **kwargs)
    if "".join(wrapped.split()) != "".join(s.text.split()):  # a wrapstring that is seen
        drop_emphasis(s, "the filter wordwrap")
        return wrapped
    return SpanStr(s.text, s.spans)._realigned(wrapped)


def _urlencode(urlencode: Filter, value: Any) -> Any:
    if isinstance(value, SpanStr):
        return SpanStr(value.text, value.spans)._mapped(urlencode)
    return _dropping("urlencode", urlencode, value)


def _tojson(tojson: Filter, eval_ctx: Any, value: Any, indent: int | None = None) -> Any:
    if isinstance(value, SpanStr) and value.spans:
        inside = value._mapped(lambda text: str.__str__(tojson(eval_ctx, text, indent))[1:-1])
        written = tojson(eval_ctx, value.text, indent)
        if f'"{inside.text}"' == written:  # otherwise the policies say to write it otherwise
            return markup.markup(concat(('"', SpanStr(inside.text, inside.spans), '"')))
    return _dropping("tojson", tojson, eval_ctx, value, indent)


_KEEPING: dict[str, Filter] = {
    "join": _join,
    "replace": _replace,
    "tojson": _tojson,
    "urlencode": _urlencode,
    "wordwrap": _wordwrap,
}


def _tracked(value: Any) -> Any:
    """A `SpanStr` takes in emphasized pieces, where a plain `str` would drop their spans."""
    text = soft_str(value)
    if isinstance(text, SpanStr):
        return text
    return markup.SpanMarkup(text) if isinstance(text, Markup) else SpanStr(text)


def _dropping(name: str, jinja_filter: Filter, *args: Any, **kwargs: Any) -> Any:
    if any(map(carries_emphasis, (*args, *kwargs.values()))):
        warn_dropped(f"the filter {name}")
    named = {key: _bare_of(value) for key, value in kwargs.items()}
    return jinja_filter(*map(_bare_of, args), **named)


def _bare_of(value: Any) -> Any:
    if not isinstance(value, SpanStr):
        return value
    return Markup(value.text) if isinstance(value, Markup) else value.text


def _noticing(name: str, text_filter: Filter, *args: Any, **kwargs: Any) -> Any:
    at = 1 if hasattr(text_filter, "jinja_pass_arg") else 0  # the context may come first
    if len(args) > at and not isinstance(args[at], str) and carries_emphasis(args[at]):
        warn_dropped(f"the filter {name}, of what is no text,")
    return text_filter(*args, **kwargs)


def _around(jinja_filter: Filter, ours: Filter, *first: Any) -> Filter:
    """Returns a filter that calls ours; it can be pickled, as an environment can."""
    return update_wrapper(partial(ours, *first, jinja_filter), jinja_filter)
