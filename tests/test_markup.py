"""With autoescape the text is Jinja's own, and spans stand where their text went."""

from __future__ import annotations

import html
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

from pasta_chains import markup
from pasta_chains.errors import EmphasisDroppedWarning
from pasta_chains.markup import SpanMarkup
from pasta_chains.spans import Span, SpanStr, emphasize
from pasta_chains.template import Environment

BARE: dict[str, Any] = {
    "x": "<a & b>",
    "m": Markup("<i>M</i>"),
    "loud": "a<b&c>d",
    "louds": ["L<1", "p", Markup("<b>"), "&2"],
}
VALUES = BARE | {
    "loud": "a<" + emphasize("b&c") + ">d",
    "louds": [emphasize("L<1"), "p", Markup("<b>"), emphasize("&2")],
}
# The marked pieces of each template's text.
KEPT = {
    "{{ x }}{{ loud }}": ["b&amp;c"],
    "{{ loud | e | e }}": ["b&amp;c"],
    "{{ loud | e | forceescape }}": ["b&amp;amp;c"],
    "{{ m ~ loud }}{{ loud ~ m }}": ["b&amp;c"] * 2,
    "{{ m + loud }}{{ loud + m }}": ["b&amp;c"] * 2,
    "{{ loud | safe }}": ["b&c"],
    "{{ louds | join('<') }}": ["L&lt;1", "&amp;2"],
    "{{ louds | map('upper') | join(', ') }}": ["L&lt;1", "&amp;2"],
    "{{ m.join(louds) }}": ["L&lt;1", "&amp;2"],
    "{{ loud | upper }}{{ loud | e | upper }}": ["B&amp;C", "B&AMP;C"],
    "{{ loud | e | title }}": ["b&amp;amp;c"],
    "{{ loud | replace('d', m) }}": ["b&amp;c"],
    "{{ m | replace('M', loud) }}": ["b&amp;c"],
    "{{ loud | wordwrap(9) }}": ["b&amp;c"],
    "{{ loud | tojson }}": ["b\\u0026c"],
    "{{ loud | e | indent(2, true) }}{{ loud | e | center(30) }}": ["b&amp;c"] * 2,
    "{{ (loud | e) * 2 }}{{ (loud | e)[6:9] }}": ["b&amp;c", "b&amp;c", "&am"],
    "{{ loud | plain }}{{ loud | e | plain }}": [],
    "{% macro k(t) %}<b>{{ t }}</b>{% endmacro %}{{ k(loud) }}": ["b&amp;c"],
    "{% macro k() %}<{{ caller() }}>{% endmacro %}{% call k() %}<{{ loud }}>{% endcall %}": [
        "b&amp;c"
    ],
    "{% set s %}<{{ loud }}>{% endset %}{{ s }}{{ s | upper }}": ["b&amp;c", "B&AMP;C"],
    "{% filter upper %}<p>{{ loud }}{% endfilter %}": ["B&AMP;C"],
    "{% block b %}{{ loud }}<p>{% endblock %}{{ self.b() }}": ["b&amp;c"] * 2,
    "{% for v in [loud] recursive %}{{ v }}<{{ loop([]) }}{% endfor %}": ["b&amp;c"],
}
# Without emphasis: escaped text is `Markup` again, as Jinja's filters expect it.
BARE_ONLY = (
    "{{ m | replace('M', '?') | urlize }}{{ m | replace('M', '?') | pprint }}{{ [m + 'x'] }}",
    "{% for c in m | replace('M', '?') %}{{ c }}{% endfor %}{{ m.join(['<a>']) | first }}",
    "{{ f | replace('!', '?') | format('<b>') }}{{ f % (x | e | replace('a', 'b')) }}",
    "{{ f | format(x | e) }}{{ m + h }}{{ h + m }}",
    "{{ ['a\\n<', x] | join | indent('> ' | safe) }}",
)
OURS = {
    "{{ x | emphasize }}": ["&lt;a &amp; b&gt;"],
    "{{ m | emphasize }}": ["<i>M</i>"],
    "<% emphasize %><p>{{ x }}<% endemphasize %>": ["<p>&lt;a &amp; b&gt;"],
}


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("source", KEPT | OURS)
def test_spans_follow_the_escaped_text(source: str, is_async: bool) -> None:
    environment = Environment(autoescape=True, enable_async=is_async)
    text = SpanStr(environment.from_string(source).render(VALUES))
    assert list(text.emphasized()) == (KEPT | OURS)[source]


@pytest.mark.parametrize("autoescape", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("source", KEPT)
def test_the_text_is_that_of_plain_jinja(source: str, is_async: bool, autoescape: bool) -> None:
    options = {"autoescape": autoescape, "enable_async": is_async}
    plain = ImmutableSandboxedEnvironment(**options)
    plain.filters["plain"] = lambda value: value
    ours = Environment(**options).from_string(source).render(VALUES)
    assert ours == plain.from_string(source).render(BARE)


class Html:
    """An object that says how it looks as HTML."""

    def __html__(self) -> str:
        return "<h>"


@pytest.mark.parametrize("source", BARE_ONLY)
@pytest.mark.parametrize("autoescape", [False, True])
def test_without_emphasis_markup_is_jinjas_own(source: str, autoescape: bool) -> None:
    values = BARE | {"f": Markup("<i>%s</i>!"), "h": Html()}
    plain = ImmutableSandboxedEnvironment(autoescape=autoescape)
    expected = plain.from_string(source).render(values)
    assert Environment(autoescape=autoescape).from_string(source).render(values) == expected


@given(st.text("a<&>'\"é ", max_size=8), st.text("a<&>'\"é ", max_size=8))
def test_escaping_marks_what_the_marked_text_became(before: str, marked: str) -> None:
    text = SpanStr(before + marked, [Span(len(before), len(before + marked))] if marked else [])
    escaped = markup.escape(text)
    assert escaped == escape(before + marked)
    assert isinstance(escaped, Markup)
    if marked:
        assert isinstance(escaped, SpanMarkup)
        assert escaped.emphasized() == (str(escape(marked)),)


DROPPING = {
    "%": lambda text: text % (),
    "format": lambda text: text.format(),
    "Markup.format": lambda text: Markup("{}").format(text),
    "unescape": lambda text: text.unescape(),
    "striptags": lambda text: text.striptags(),
    "adding": lambda text: emphasize("<") + Markup("b"),
}


@pytest.mark.parametrize("operation", DROPPING)
def test_what_cannot_keep_emphasis_warns(operation: str) -> None:
    text = SpanMarkup("a &amp; b", [Span(0, 1)])
    with pytest.warns(EmphasisDroppedWarning):
        result = DROPPING[operation](text)
    expected = DROPPING[operation](Markup("a &amp; b")) if operation != "adding" else "&lt;b"
    assert result == expected
    assert type(result) is type(Markup("a").unescape()) or isinstance(result, Markup)


def test_escaped_text_stays_escaped() -> None:
    text = markup.markup(SpanStr("&lt;b", [Span(0, 4)]))
    assert text + "<" == "&lt;b&lt;"
    assert "<" + text == "&lt;&lt;b"
    assert text + Html() == "&lt;b<h>"
    assert Html() + text == "<h>&lt;b"
    assert "".join(text) == "&lt;b"
    assert not isinstance(next(iter(text)), Markup)
    assert text.join(["<", "x"]) == "&lt;&lt;bx"
    assert text.replace("b", "<") == "&lt;&lt;"
    assert html.unescape(text[:4].text) == "<"
    for result in (text + "<", text.upper(), text[:4], text.with_alpha(0.5), text.strip()):
        assert isinstance(result, SpanMarkup)
        assert result.spans
    assert not isinstance(str(text), Markup)
