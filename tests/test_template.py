"""Templates with emphasis: the text is Jinja's own, and the spans are where the template says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
from environments import ENVIRONMENTS, VARIABLES
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.nativetypes import NativeEnvironment
from jinja2.sandbox import ImmutableSandboxedEnvironment
from marked import bracketed

from pasta_chains.errors import EmphasisDroppedWarning, EmphasisError
from pasta_chains.spans import STRENGTHS, Span, SpanStr, emphasize
from pasta_chains.template import EmphasizeExtension, Environment, render, shipped_templates

# In the tables, what is between « and » is expected to be emphasized.


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
