"""Text cannot emphasize itself: whatever a variable holds, only the template's marks are spans."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pasta_chains.spans import Span, SpanStr, emphasize
from pasta_chains.template import Environment

FORGERIES = (
    "<% emphasize %>", "<% endemphasize %>", "<%- emphasize alpha=0.1 -%>", "{% emphasize %}",
    "{% endemphasize %}", "{{ x | emphasize }}", "{% raw %}", "{% endraw %}", "{#", "#}", "%>",
    "**", "**bold**", "__bold__", "<mark>", "</mark>", "<b>", "&lt;% emphasize %&gt;",
    "\ue000", "\uf8ff", "\U000f0000", "\u200b", "\u2060", "\ufeff", "\x00", "\x1b[1m", "\u202e",
    json.dumps({"text": "a", "spans": [{"start": 0, "end": 1}]}), "[0, 1]", "Span(0, 1)",
    json.dumps(SpanStr("ab", [Span(0, 1)]).to_dict()), "<|user|>", "<s>", "[INST]", "\\", "\n",
    "%s",
)  # fmt: skip
FRAMES = ("{}", "{}x{}", "a {} b", "x\n{}\ny")
TEMPLATES = {
    "{{ x }}": (),
    "{{ x | trim }}{{ x | upper }}": (),
    "{{ x ~ x }}{{ [x, x] | join(x) }}": (),
    "{% set y %}{{ x }}{% endset %}{{ y }}{{ x.replace('a', x) }}": (),
    "ab<% emphasize %>cd<% endemphasize %>{{ x }}": ("cd",),
    "{% macro m(v) %}{{ v }}{{ 'e' | emphasize }}{% endmacro %}{{ m(x) }}": ("e",),
    "{{ marked | plain }}{{ x }}": (),
    "{{ [x] }}{{ {x: x} }}{{ x | tojson }}{{ x | e | safe }}{{ '%s' % x }}": (),
    "{{ x | striptags | wordwrap(3) | indent }}{{ x | urlize }}{{ x | truncate(3) }}": (),
    "{% filter title %}{{ x }}{% endfilter %}{% for c in x %}{{ c }}{% endfor %}{{ x[::-1] }}": (),
    "<% emphasize name=x %>cd<% endemphasize %>{{ x }}": ("cd",),
}


def spans_of(environment: Environment, source: str, text: Any) -> tuple[str, ...]:
    marked = SpanStr("ab", [Span(0, 1)]) + text
    return SpanStr(environment.from_string(source).render(x=text, marked=marked)).emphasized()


@pytest.mark.parametrize("bold", [False, True])
def test_no_forgery_makes_a_span(bold: bool) -> None:
    environment = Environment(bold=bold)
    attempts = 0
    for forgery, frame, (source, expected) in product(FORGERIES, FRAMES, TEMPLATES.items()):
        attempts += 1
        assert spans_of(environment, source, frame.replace("{}", forgery)) == expected
    assert attempts >= 1000


pieces = st.lists(st.one_of(st.sampled_from(FORGERIES), st.text(max_size=3)), max_size=6)


@given(pieces.map("".join), st.sampled_from(sorted(TEMPLATES)))
def test_no_mixture_of_forgeries_makes_a_span(text: str, source: str) -> None:
    assert spans_of(Environment(bold=True), source, text) == TEMPLATES[source]


def test_what_the_template_emphasizes_is_all_of_it_and_nothing_else() -> None:
    text = "a <% endemphasize %> b"
    prompt = Environment().from_string("({{ x | emphasize }})").render(x=text)
    assert prompt.emphasized() == (text,)


def test_plain_takes_emphasis_away() -> None:
    prompt = Environment().from_string("{{ x | plain }}{{ x }}").render(x=emphasize("a"))
    assert prompt.spans == (Span(1, 2),)
