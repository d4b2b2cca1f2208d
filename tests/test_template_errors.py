"""Templates: what cannot keep emphasis says so, and what is wrong says where."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest
from environments import ENVIRONMENTS, VARIABLES
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from marked import bracketed

from pasta_chains.errors import EmphasisDroppedWarning, EmphasisError
from pasta_chains.spans import SpanStr, emphasize
from pasta_chains.template import Environment, render

# What cannot keep emphasis says so


@pytest.mark.parametrize(
    "expression",
    [
        "louds | tojson",
        "{'k': [loud]} | pprint",
        "'%s' | format(loud)",
        "'{}'.format(loud)",
        "loud.format()",
        "'%s' % loud",
        "'%s %d' % (loud, 7)",
        "'a %(x)s' % {'x': loud}",
        "[loud]",
        "[loud] | string",
        "[loud] | upper",
        "[[loud]] | join",
        "{'k': loud}.values()",
        "{loud: 1}",
        "loud % ()",
        "'<' ~ [loud]",
        "{'k': loud}",
    ],
)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_dropping_warns(expression: str, name: str) -> None:
    source = "{{ " + expression + " }}"
    template = ENVIRONMENTS[name].from_string(source)
    with pytest.warns(EmphasisDroppedWarning, match="cannot keep emphasis"):
        text = template.render(VARIABLES)
    assert SpanStr(text).spans == ()
    plain = {"loud": "so loud", "louds": ["L1", "p", "L2"]}
    expected = ImmutableSandboxedEnvironment().from_string(source).render(plain)
    assert text == expected == template.render(plain)


def test_operators_that_the_application_intercepts_are_still_noticed() -> None:
    class Careful(Environment):
        intercepted_binops = frozenset({"**", "%"})

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            if operator == "**":
                raise jinja2.exceptions.SecurityError("too much")
            return super().call_binop(context, operator, left, right)

    environment = Careful()
    with pytest.raises(jinja2.exceptions.SecurityError, match="too much"):
        environment.from_string("{{ 9 ** 9 }}").render()
    with pytest.warns(EmphasisDroppedWarning, match="the % operator"):
        assert environment.from_string("{{ '%s' % (x,) }}").render(x=emphasize("a")) == "a"


# Errors say where


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\n\n<% emphasize %>{{ nothing }}<% endemphasize %>", "page, line 3: .* marks no text"),
        ("a\n{{ nothing | emphasize }}", "page, line 2: .* marks no text.*{% if"),
        ("\n<% emphasize alpha=0 %>b<% endemphasize %>", "page, line 2: alpha is 0,"),
        ("\n{{ 'b' | emphasize(alpha='0.1') }}", "page, line 2: There is no strength '0.1'"),
        (
            "\n{{ 'b' | emphasize(beta=1) }}",
            "page, line 2: the filter emphasize .* not 'beta'",
        ),
        ("\n{{ 'b' | deemphasize(1, 'n', 7) }}", "page, line 2: the filter deemphasize .* not 7"),
        ("\n{{ 'b' | emphasize(1, alpha=1) }}", "page, line 2: .* but got alpha twice"),
        ("\n\n{{ ['b', ''] | map('emphasize') | join }}", "page, line 3: .* marks no text"),
        ("\n{% include 'part' %}", "part, line 4: alpha is 2"),
        ("{% from 'part' import m %}\n{{ m() }}", "part, line 2: .* marks no text"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_wrong_emphasis_names_template_and_line(
    source: str, message: str, is_async: bool
) -> None:
    part = (
        "{% macro m() %}\n{% emphasize %}{% endemphasize %}{% endmacro %}\n\n"
        "{% if alpha is defined %}{{ 'x' | emphasize(alpha=alpha) }}{% endif %}"
    )
    loader = jinja2.DictLoader({"page": source, "part": part})
    template = Environment(loader=loader, enable_async=is_async).get_template("page")
    with pytest.raises(EmphasisError, match=message):
        template.render(nothing="", alpha=2)


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ("\n<% emphasize %>a", 2, "looking for the following tags: 'endemphasize'"),
        ("\n\n<% endemphasize %>", 3, "unknown tag 'endemphasize'"),
        ("\n<% emphasize %>{% if x %}\n<% endemphasize %>{% endif %}", 3, "'endemphasize'"),
        ("<% emphasize %>\n<% enddeemphasize %>", 2, "'enddeemphasize'"),
        ("\n<% emphasize beta=1 %>a<% endemphasize %>", 2, "not 'beta'"),
        ("\n<% emphasize = 0.1 %>a<% endemphasize %>", 2, "unexpected '='"),
        ("\n<% emphasize %}a<% emphasize %>b<% endemphasize %>", 2, "not closed by %>"),
        ("\n<% emphasize name='a' name='b' %>a<% endemphasize %>", 2, "got name twice"),
        ("\n<% emphasize 0.1 alpha=0.1 %>a<% endemphasize %>", 2, "got alpha twice"),
        ("\n<% emphasize name='a' 0.1 %>a<% endemphasize %>", 2, "takes a strength first"),
        ("<% emphasize\n alpha=0.1\n %>a<% endemphasize %>\n{{ }}", 4, "Expected an expression"),
        (
            "{% for d in x %}<% emphasize %>\n{% break %}<% endemphasize %>{% endfor %}",
            2,
            "loop cannot be left",
        ),
    ],
)
def test_syntax_errors_are_jinjas_own_with_the_right_line(
    source: str, line: int, message: str
) -> None:
    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    with pytest.raises(jinja2.TemplateSyntaxError, match=message) as caught:
        environment.from_string(source)
    assert caught.value.lineno == line


def test_a_loop_inside_emphasis_can_be_left() -> None:
    environment = Environment(extensions=["jinja2.ext.loopcontrols"])
    source = "<% emphasize %>{% for d in 'abc' %}{{ d }}{% break %}{% endfor %}<% endemphasize %>"
    assert bracketed(environment.from_string(source).render()) == "«a»"


def test_undefined_variables_are_errors() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'nothing' is undefined"):
        render("{{ nothing }}")
