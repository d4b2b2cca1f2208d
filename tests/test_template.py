"""Templates with emphasis: the text is Jinja's own, and the spans are where the template says."""

from __future__ import annotations

import asyncio
import pickle
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.nativetypes import NativeEnvironment
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment
from marked import bracketed

from pasta_chains.errors import EmphasisDroppedWarning, EmphasisError
from pasta_chains.spans import STRENGTHS, Span, SpanStr, emphasize
from pasta_chains.template import EmphasizeExtension, Environment, render, shipped_templates

ENVIRONMENTS: dict[str, jinja2.Environment] = {
    "ours": Environment(),
    "plain": jinja2.Environment(extensions=[EmphasizeExtension]),
    "sandboxed": SandboxedEnvironment(extensions=[EmphasizeExtension]),
    "asynchronous": Environment(enable_async=True),
}
"""The emphasis of each of them is the same."""

# In the tables, what is between « and » is expected to be emphasized.


VARIABLES: dict[str, Any] = {
    "x": "ab cd",
    "n": 7,
    "docs": ["one", "two", "three"],
    "loud": "so " + emphasize("loud"),
    "louds": [emphasize("L1"), "p", emphasize("L2")],
}

LANGUAGE = {
    "A <% emphasize %>B<% endemphasize %> C": "A «B» C",
    "A {% emphasize %}B{% endemphasize %} C": "A «B» C",
    "A <%- emphasize -%> B <%- endemphasize -%> C": "A«B»C",
    "<%emphasize%>{{ x }}<%endemphasize%>": "«ab cd»",
    "{% emphasize alpha=0.1, name='f' %}{{ n }}{% endemphasize %}": "«7»",
    '<% emphasize name="a %> b" %>B<% endemphasize %>': "«B»",
    "{{ x | emphasize }}!": "«ab cd»!",
    "{{ n | emphasize }}": "«7»",
    "{{ 'const' | emphasize | upper }}": "«CONST»",
    "{{ x | emphasize | plain }}": "ab cd",
    "{{ x | emphasize if n > 3 else x }}": "«ab cd»",
    "{{ loud }} {{ loud | plain }}": "so «loud» so loud",
    "{% for d in docs %}{{ d | emphasize if loop.first else d }} {% endfor %}": "«one» two three ",
    "{% emphasize %}{% for d in docs %}{{ d }}{% endfor %}{% endemphasize %}": "«onetwothree»",
    "{% macro m(t) %}<{{ t | emphasize }}>{% endmacro %}{{ m('q') }}{{ m(x) }}": "<«q»><«ab cd»>",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}"
    "{% call m() %}a{% emphasize %}b{% endemphasize %}{% endcall %}": "[a«b»]",
    "{% macro f(k) %}{{ k | string | emphasize }}{% if k %}-{{ f(k - 1) }}{% endif %}{% endmacro %}"
    "{{ f(2) }}": "«2»-«1»-«0»",
    "{% set s %}a{% emphasize %}b{% endemphasize %}{% endset %}{{ s }}{{ s }}": "a«b»a«b»",
    "{% set s = loud %}{{ s ~ '!' ~ n ~ s }}": "so «loud»!7so «loud»",
    "{{ '<' + loud + '>' }}": "<so «loud»>",
    "{% filter upper %}a{% emphasize %}b{% endemphasize %}c{% endfilter %}": "A«B»C",
    "{% filter trim %}  {% emphasize %} b {% endemphasize %}  {% endfilter %}": "«b»",
    "{% with y = loud %}{{ y }}{% endwith %}": "so «loud»",
    "{% for a in [1, 2] recursive %}{{ loud }}{{ loop([]) }}{% endfor %}": "so «loud»so «loud»",
    "{{ louds | join(', ') }}": "«L1», p, «L2»",
    "{{ [1, loud] | join(0) }}{{ 5 | replace('5', loud) }}": "10so «loud»so «loud»",
    "{{ ', '.join(louds) }}": "«L1», p, «L2»",
    "{{ 'a b'.replace(' ', loud) }}": "aso «loud»b",
    "{{ louds | map('upper') | list | last }}": "«L2»",
    "{{ loud | title }}": "So «Loud»",
    "{{ loud | capitalize }}": "So «loud»",
    "{{ loud | center(11) }}": "  so «loud»  ",
    "{{ loud | truncate(5, true, '', 0) }}": "so «lo»",
    "{{ loud | replace('o', '0') }}": "s0 «l0ud»",
    "{{ 'a-b' | replace('-', loud) }}": "aso «loud»b",
    "{{ loud | default('z') }}{{ loud | string }}": "so «loud»so «loud»",
    "{{ loud | reverse }}{{ loud | first }}{{ loud | last }}": "«duol» oss«d»",
    "{{ ('a\\nb' | emphasize) | indent }}": "«a\n    b»",
    "{{ ('a\\n\\nb' | emphasize) | indent(1, true, true) }}": " «a\n \n b»",
    "{{ loud[1:5] }}": "o «lo»",
    "{{ loud | wordwrap(3) }}": "so \n«lou\nd»",
    "{{ (loud ~ '&é') | urlencode }}": "so%20«loud»%26%C3%A9",
    "{{ (loud ~ '\"<') | tojson }}": '"so «loud»\\"\\u003c"',
    "{{ (loud ~ '<') | e }}{{ loud | safe }}": "so «loud»&lt;so «loud»",
    "{{ loud.split()[1] }}": "«loud»",
    "<% deemphasize %>a<% enddeemphasize %>{{ 'b' | deemphasize }}": "«a»«b»",
}


@pytest.mark.parametrize("source", LANGUAGE)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_language(source: str, name: str) -> None:
    rendered = ENVIRONMENTS[name].from_string(source).render(VARIABLES)
    assert bracketed(rendered) == LANGUAGE[source]


def without_emphasis(source: str) -> str:
    """The same template in plain Jinja: what emphasizes becomes the filter `string`."""
    inside = r"""([-+]?)\s*{}emphasize\b(?:"[^"]*"|[^%"])*?([-+]?)%[}}>]"""
    source = re.sub(r"[<{]%" + inside.format("(?:de)?"), r"{%\1 filter string \2%}", source)
    source = re.sub(r"[<{]%" + inside.format("end(?:de)?"), r"{%\1 endfilter \2%}", source)
    return re.sub(r"\| *(?:plain|(?:de)?emphasize(?:\([^)]*\))?)", "| string", source)


@pytest.mark.parametrize("source", LANGUAGE)
def test_text_is_that_of_plain_jinja(source: str) -> None:
    bare = {"loud": "so loud", "louds": ["L1", "p", "L2"]}
    expected = (
        ImmutableSandboxedEnvironment()
        .from_string(without_emphasis(source))
        .render(VARIABLES | bare)
    )
    assert render(source, **VARIABLES) == expected


def test_spans_carry_their_arguments() -> None:
    text = render(
        "{% emphasize alpha=k / 10 name='outer' %}a{{ 'b' | emphasize(0.5, 'inner') }}"
        "{% deemphasize %}c{% enddeemphasize %}{% endemphasize %}",
        k=2,
    )
    assert text.spans == (
        Span(0, 3, 0.2, "outer"),
        Span(1, 2, 0.5, "inner"),
        Span(2, 3, deemphasized=True),
    )


@pytest.mark.parametrize(
    "written", ["'strong'", "alpha='strong'", "level", "'str' ~ 'ong'", "0.001"]
)
def test_a_strength_may_stand_first_and_have_a_name(written: str) -> None:
    expected = (Span(0, 1, STRENGTHS["strong"], "f"),)
    block = f"<% emphasize {written}, name='f' %>a<% endemphasize %>"
    assert render(block, level="strong").spans == expected
    value = f"{{{{ 'a' | emphasize({written}, name='f') }}}}"
    assert render(value, level="strong").spans == expected


def test_arguments_are_those_before_the_block() -> None:
    body = "{% set a = 0.001 %}{% set b = 'c' %}x"
    text = render(f"<% emphasize a, name=b %>{body}<% endemphasize %>", a=0.5, b="d")
    assert text.spans == (Span(0, 1, 0.5, "d"),)


@pytest.mark.parametrize("argument", ["level", "name=level"])
def test_an_undefined_argument_is_named(argument: str) -> None:
    with pytest.raises(jinja2.UndefinedError, match="'level' is undefined"):
        render(f"<% emphasize {argument} %>a<% endemphasize %>")


def test_a_folder_of_templates_comes_before_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "rag").mkdir()
    (tmp_path / "rag" / "qa.jinja").write_text("mine: {% include 'shipped/rag/qa.jinja' %}")
    environment = Environment(templates=tmp_path)
    text = environment.get_template("rag/qa.jinja").render(documents=[], question="Why?")
    assert text.startswith("mine: Answer the question")
    with pytest.raises(jinja2.TemplateNotFound):
        environment.get_template("../secret.jinja")
    with pytest.raises(jinja2.TemplateNotFound, match="no folder"):
        Environment(templates=[tmp_path, tmp_path / "none"])
    with pytest.raises(EmphasisError, match="not both"):
        Environment(templates=tmp_path, loader=jinja2.DictLoader({}))


def test_render_returns_a_span_string_without_emphasis_too() -> None:
    assert isinstance(render("plain"), SpanStr)
    assert isinstance(render("{{ source }}", source="s"), SpanStr)


def test_templates_of_several_files() -> None:
    files = {
        "base": "<{% block a %}base {{ 'A' | emphasize }}{% endblock %}>{{ self.a() }}",
        "child": "{% extends 'base' %}{% block a %}{{ super() }}+{% emphasize %}c{% endemphasize %}"
        "{% endblock %}",
        "part": "part {{ loud }}{% macro m(t) %}({{ t | emphasize }}){% endmacro %}",
        "page": "{% include 'part' %}|{% import 'part' as p %}{{ p.m('q') }}|{{ p }}|"
        "{% from 'part' import m with context %}{{ m('r') }}",
        "around": "{% emphasize %}{% block b %}b{% endblock %}{% include 'plain' %}"
        "{% endemphasize %}",
        "plain": "!",
    }
    expected = {
        "child": "<base «A»+«c»>base «A»+«c»",
        "page": "part so «loud»|(«q»)|part so «loud»|(«r»)",
        "around": "«b!»",
    }
    for is_async in (False, True):
        environment = Environment(loader=jinja2.DictLoader(files), enable_async=is_async)
        environment.globals["loud"] = VARIABLES["loud"]
        for name, text in expected.items():
            assert bracketed(environment.get_template(name).render()) == text


def test_emphasis_outside_the_blocks_of_a_child_is_an_error() -> None:
    files = {"base": "text", "child": "{% extends 'base' %}\n{% emphasize %}x{% endemphasize %}"}
    template = Environment(loader=jinja2.DictLoader(files)).get_template("child")
    with pytest.raises(EmphasisError, match=r"child, line 2: .* marks no text"):
        template.render()


def test_asynchronous_rendering() -> None:
    template = Environment(enable_async=True).from_string(
        "{% emphasize %}{{ f() }}{% endemphasize %}"
        "{% for d in docs() %}{{ d | emphasize }},{% endfor %}"
    )

    async def f() -> str:
        return "f"

    async def docs() -> Any:
        for document in ("a", "b"):
            yield document

    text = asyncio.run(template.render_async(f=f, docs=docs))
    assert bracketed(text) == "«f»«a»,«b»,"


def test_generate_yields_pieces_with_their_spans() -> None:
    template = Environment().from_string("a {{ loud }}{% emphasize %}b{% endemphasize %}")
    assert bracketed(SpanStr("").join(template.generate(VARIABLES))) == "a so «loud»«b»"


def test_trimmed_blocks() -> None:
    source = "a\n  <% emphasize %>\n  b\n  <% endemphasize %>\nc"
    environment = Environment(trim_blocks=True, lstrip_blocks=True)
    assert bracketed(environment.from_string(source).render()) == "a\n«  b\n»c"


def test_any_environment_and_any_delimiters() -> None:
    source = "<% emphasize %>[[ x ]]<% endemphasize %>[% emphasize %]y[% endemphasize %]{{ x }}"
    environment = jinja2.Environment(
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        extensions=[EmphasizeExtension],
    )
    assert bracketed(environment.from_string(source).render(x="x")) == "«x»«y»{{ x }}"
    own = jinja2.Environment("<%", "%>", extensions=[EmphasizeExtension])
    assert (
        bracketed(own.overlay().from_string("<% emphasize %>x<% endemphasize %>").render()) == "«x»"
    )


def test_arguments_stand_where_jinja_has_them() -> None:
    environment = Environment("[%", "%]", "[[", "]]", trim_blocks=True)
    source = "[% if 1 %]\n[[ 'x' | emphasize ]]<% emphasize %>{{ x }}<% endemphasize %>[% endif %]"
    assert bracketed(environment.from_string(source).render()) == "«x»«{{ x }}»"
    with pytest.raises(EmphasisError, match=r"Say what 'prompts' is: templates=…"):
        Environment("prompts")
    with pytest.raises(TypeError, match="multiple values"):
        Environment("[%", "%]", block_start_string="[%")


def test_a_native_environment_is_refused() -> None:
    with pytest.raises(EmphasisError, match="NativeEnvironment"):
        NativeEnvironment(extensions=[EmphasizeExtension])


def test_other_environments_are_left_alone() -> None:
    Environment()
    assert type(jinja2.Environment().from_string("{{ loud }}").render(VARIABLES)) is str


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


# Text cannot emphasize itself


HOSTILE = (
    st.text()
    | st.text(alphabet="<%{}#-+ \n\ue000\ue001\U000f0000\u200b\u2060emphasiz")
    | st.sampled_from(
        [
            "<% emphasize %>x<% endemphasize %>",
            "{% emphasize %}x{% endemphasize %}",
            "<% endemphasize %>",
            "{{ 'x' | emphasize }}",
            "{% endraw %}<% emphasize %>",
            '{"text": "x", "spans": [{"start": 0, "end": 1}]}',
            "-%}",
        ]
    )
)


@settings(max_examples=200)
@given(HOSTILE)
def test_a_variable_cannot_emphasize_itself(text: str) -> None:
    rendered = render(
        "{{ t }}{{ t | upper }}{{ t ~ t }}{% set s %}{{ t }}{% endset %}{{ s }}{{ [t] }}"
        "{% for c in [t] %}{{ c }}{% endfor %}{{ [t, t] | join(t) }}"
        "<% emphasize %>.<% endemphasize %>",
        t=text,
    )
    assert rendered.spans == (Span(len(rendered) - 1, len(rendered)),)


@given(HOSTILE)
def test_plain_takes_emphasis_away(text: str) -> None:
    untrusted = SpanStr(text, [(0, len(text))] if text else [])
    assert render("{{ t | plain }}", t=untrusted).spans == ()


def test_the_sandbox_holds() -> None:
    with pytest.raises(jinja2.exceptions.SecurityError):
        render("{{ x.__class__.__mro__ }}", x=emphasize("a"))
    with pytest.raises(jinja2.exceptions.SecurityError):
        render("{{ docs.append(1) }}", docs=[])
    with pytest.raises(jinja2.exceptions.SecurityError), pytest.warns(EmphasisDroppedWarning):
        render("{{ x.format(x) }}", x=emphasize("{0.__class__}"))


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


# Templates that come with the package, and threads


@pytest.mark.parametrize("trusted", [1, "false", "yes", None, False, [True]])
def test_only_true_is_trusted_by_the_shipped_template(trusted: object) -> None:
    template = Environment().get_template("rag/qa.jinja")
    documents = [{"text": "A", "trusted": trusted}, {"text": "B", "trusted": True}, {"text": "C"}]
    text = SpanStr(template.render(documents=documents, question="Who?"))
    assert text.emphasized() == ("B",)


def test_shipped_templates_are_found() -> None:
    assert shipped_templates().is_dir()
    with pytest.raises(jinja2.TemplateNotFound):
        Environment().get_template("../pyproject.toml")


SHARED = (
    "{% for d in docs %}{{ d | emphasize(name=who) if loop.index0 % step else d }}{% endfor %}"
    "{% set s %}<% emphasize name=who %>{{ who }}<% endemphasize %>{% endset %}{{ s }}",
    "{% macro m(d) %}<% deemphasize name=who %>{{ d }}<% enddeemphasize %>-{% endmacro %}"
    "{% for d in docs %}{{ m(d) | upper }}{% endfor %}",
    "<% emphasize 'strong', name=who %>{% for d in docs %}{{ d }}{% endfor %} of {{ who }}"
    "<% endemphasize %>{{ step }}",
)
"""Templates with different emphasis, each of them rendered by all at the same time."""

RENDERERS, RENDERINGS = 16, 1000


def variables_of(renderer: int, number: int) -> dict[str, Any]:
    docs = ["d" * (number % 7 + 1)] * (renderer % 5 + 2)
    return {"docs": docs, "who": f"t{renderer}", "step": renderer % 3 + 1}


def told(text: str) -> tuple[str, tuple[Span, ...]]:
    assert isinstance(text, SpanStr)
    return text.text, text.spans


def one_after_the_other(renderer: int) -> list[tuple[str, tuple[Span, ...]]]:
    """Every rendering of a renderer that there is: its variables and templates come in turns."""
    templates = [Environment().from_string(source) for source in SHARED]
    rounds = 7 * len(SHARED)
    return [
        told(templates[number % len(SHARED)].render(variables_of(renderer, number)))
        for number in range(rounds)
    ]


def test_threads_do_not_see_each_other() -> None:
    environment = Environment()
    templates = [environment.from_string(source) for source in SHARED]
    expected = [one_after_the_other(renderer) for renderer in range(RENDERERS)]
    together = Barrier(RENDERERS)

    def wrong(renderer: int) -> int:
        together.wait()
        count = 0
        for number in range(RENDERINGS):
            text = templates[number % len(SHARED)].render(variables_of(renderer, number))
            count += told(text) != expected[renderer][number % len(expected[renderer])]
        return count

    with ThreadPoolExecutor(RENDERERS) as pool:
        assert list(pool.map(wrong, range(RENDERERS))) == [0] * RENDERERS


def test_tasks_do_not_see_each_other() -> None:
    environment = Environment(enable_async=True)
    templates = [environment.from_string(source) for source in SHARED]
    expected = [one_after_the_other(renderer) for renderer in range(RENDERERS)]

    async def slowly(docs: list[str]) -> AsyncIterator[str]:
        for doc in docs:
            await asyncio.sleep(0)  # lets the other tasks go on in the middle of this rendering
            yield doc

    async def wrong(renderer: int) -> int:
        count = 0
        for number in range(RENDERINGS):
            values = variables_of(renderer, number)
            values["docs"] = slowly(values["docs"])
            text = await templates[number % len(SHARED)].render_async(values)
            count += told(text) != expected[renderer][number % len(expected[renderer])]
        return count

    async def together() -> list[int]:
        return await asyncio.gather(*map(wrong, range(RENDERERS)))

    assert asyncio.run(together()) == [0] * RENDERERS


def test_buffered_streams_keep_emphasis() -> None:
    template = Environment().from_string("a{{ x }}b{% for i in range(4) %}{{ x }}{% endfor %}")
    stream = template.stream(x=emphasize("x"))
    stream.enable_buffering(3)
    assert bracketed(SpanStr("").join(stream)) == "a«x»b«x»«x»«x»«x»"


def test_an_overlay_leaves_its_environment_alone() -> None:
    base = jinja2.Environment()
    base.overlay(extensions=[EmphasizeExtension])
    assert "emphasize" not in base.filters


def test_a_list_that_holds_itself_is_printed() -> None:
    values: list[Any] = ["a"]
    values.append(values)
    assert render("{{ values }}", values=values) == "['a', [...]]"


def test_names_of_jinjas_own_objects_are_printed_as_ever() -> None:
    source = "{% macro m() %}{% endmacro %}{{ m }}{{ self }}"
    assert render(source) == ImmutableSandboxedEnvironment().from_string(source).render()


@pytest.mark.parametrize(
    "environment", [Environment(), jinja2.Environment(extensions=[EmphasizeExtension])]
)
def test_an_environment_can_be_pickled(environment: jinja2.Environment) -> None:
    source = (
        "{{ xs | join(', ') | upper }} <% emphasize %>{{ x | replace('a', 'b') }}<% endemphasize %>"
    )
    copied = pickle.loads(pickle.dumps(environment))
    assert copied is not environment
    for one in (environment, copied):
        rendered = one.from_string(source).render(xs=[emphasize("a"), "c"], x="a")
        assert bracketed(rendered) == "«A», C «b»"
        with pytest.raises(EmphasisError, match="<template>, line 1: the emphasis marks no text"):
            one.from_string("{{ '' | emphasize }}").render()
