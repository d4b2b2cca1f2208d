"""The filters `emphasize`, `deemphasize` and `plain`, and Jinja's own where they must keep spans.

Most of Jinja's filters call string methods on their value and so keep its spans as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeAlias

from jinja2 import pass_context
from jinja2.filters import do_indent, do_title
from jinja2.runtime import Context
from markupsafe import Markup, soft_str

from pasta_chains import spans
from pasta_chains.errors import EmphasisError
from pasta_chains.spans import SpanStr, carries_emphasis, warn_dropped

Filter: TypeAlias = Callable[..., Any]

_DROPPING = (
    *("e", "escape", "forceescape", "format", "pprint", "safe", "striptags", "tojson"),
    *("urlencode", "urlize", "wordwrap", "xmlattr"),
)


def emphasis_filters(jinja_filters: Mapping[str, Filter]) -> dict[str, Filter]:
    """Returns our filters, and those of `jinja_filters` that need help to keep spans or to warn."""
    filters = {name: _dropping(name, jinja_filters[name]) for name in _DROPPING}
    filters["join"] = _keeping_join(jinja_filters["join"])
    filters["replace"] = _keeping_replace(jinja_filters["replace"])
    return filters | {
        "title": _title,
        "indent": _indent,
        "emphasize": _emphasize,
        "deemphasize": _deemphasize,
        "plain": _plain,
    }


# A filter that wants the context is never computed while compiling, where spans would be lost.
@pass_context
def _emphasize(
    context: Context, value: Any, alpha: float | None = None, name: str | None = None
) -> str:
    return _mark(context, value, alpha, name, deemphasized=False)


@pass_context
def _deemphasize(
    context: Context, value: Any, alpha: float | None = None, name: str | None = None
) -> str:
    return _mark(context, value, alpha, name, deemphasized=True)


def _mark(
    context: Context, value: Any, alpha: float | None, name: str | None, deemphasized: bool
) -> str:
    text = soft_str(value)
    if not text:
        raise EmphasisError(
            "the emphasis marks no text, because what it holds is empty here. "
            "Guard it with {% if … %}."
        )
    marked = spans.emphasize(text, alpha, name, deemphasized)
    if isinstance(text, Markup) and context.eval_ctx.autoescape:
        warn_dropped("autoescape")
        return text
    return marked


def _plain(value: Any) -> str:
    text = soft_str(value)
    return text.text if isinstance(text, SpanStr) else text


def _title(value: Any) -> str:
    text = soft_str(value)
    return text.cased(do_title) if isinstance(text, SpanStr) else do_title(text)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    if not isinstance(text, SpanStr):
        return do_indent(text, width, first, blank)
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
    return text.edited(edits)


def _bare(line: str) -> str:
    return line.splitlines()[0]


def _keeping_join(join: Filter) -> Filter:
    @wraps(join)
    def keeping(context: Any, value: Any, d: Any = "", attribute: str | int | None = None) -> Any:
        return join(context, value, _tracked(d), attribute)

    return keeping


def _keeping_replace(replace: Filter) -> Filter:
    @wraps(replace)
    def keeping(context: Any, s: Any, old: str, new: str, count: int | None = None) -> Any:
        return replace(context, _tracked(s), old, new, count)

    return keeping


def _tracked(value: Any) -> Any:
    """A `SpanStr` takes in emphasized pieces, where a plain `str` would drop their spans."""
    return SpanStr(value) if type(value) is str else value


def _dropping(name: str, jinja_filter: Filter) -> Filter:
    @wraps(jinja_filter)
    def dropping(*args: Any, **kwargs: Any) -> Any:
        operation = f"the filter {name}"
        if any(map(carries_emphasis, (*args, *kwargs.values()))):
            warn_dropped(operation)
        bare = [arg.text if isinstance(arg, SpanStr) else arg for arg in args]
        return jinja_filter(*bare, **kwargs)

    return dropping
