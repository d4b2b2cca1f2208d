"""Tags and bold are found where they stand as such, and nowhere else."""

from __future__ import annotations

import re

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from marked import bracketed

from pasta_chains.errors import EmphasisError
from pasta_chains.spans import Span
from pasta_chains.template import Environment, render

# Here the tags are only quoted, so the text is the same in plain Jinja.
QUOTED = {
    "{{ {'a': {'b': 1}} ~ '<% emphasize %>' }}": "{'a': {'b': 1}}<% emphasize %>",
    "{% raw %}<% emphasize %>{{ x }}<% endemphasize %>{% endraw %}": (
        "<% emphasize %>{{ x }}<% endemphasize %>"
    ),
    "{%- raw -%} <% emphasize %> {%- endraw -%}": "<% emphasize %>",
    "{# <% emphasize %> #}A": "A",
    "{{ '<% emphasize %>' }}": "<% emphasize %>",
    "{% set t = '<% emphasize %>' %}{{ t }}": "<% emphasize %>",
    "<% if x %>": "<% if x %>",
    "<% emphatic %>": "<% emphatic %>",
    "{# <% emphasise %> #}{% raw %}<% Emphasize %>{% endraw %}{{ '<% emphasise %>' }}": (
        "<% Emphasize %><% emphasise %>"
    ),
}


@pytest.mark.parametrize("source", QUOTED)
@pytest.mark.parametrize("is_async", [False, True])
def test_quoted_tags_stay_text(source: str, is_async: bool) -> None:
    rendered = Environment(enable_async=is_async).from_string(source).render(x="ab")
    plain = ImmutableSandboxedEnvironment().from_string(source).render(x="ab")
    assert bracketed(rendered) == plain == QUOTED[source]


def test_a_brace_before_a_tag_stays_a_brace() -> None:
    for tag in ("emphasize", "deemphasize"):
        text = render(f'{{<% {tag} %>"k": {{{{ 7 }}}}<% end{tag} %>}}')
        assert bracketed(text) == '{«"k": 7»}'


BOLD = {
    "Use **kwargs here. **Never guess.**": "Use **kwargs here. «Never guess.»",
    "f(**a) + g(**b)": "f(**a) + g(**b)",
    "**a **b** c**": "«a b c»",
    "{**a**}": "{«a»}",
    "**a\r\n\r\nb**": "**a\n\nb**",
    "2**3**2": "2«3»2",
    "**{{ x }}**{{ {'a': {'b': '**'}}.a.b }}**{{ x }}**": "«**v**»**«**v**»",
    "a **b** c": "a «b» c",
    "**{{ x }} is {{ 2 ** 3 }}** or ** not**": "«**v** is 8» or ** not**",
    "{% raw %}**x**{% endraw %}{{ x }}{# **x** #}": "**x****v**",
    "**a\n\nb**": "**a\n\nb**",
    "***a*** **": "***a*** **",
    "**a** and **b": "«a» and **b",
    "**a\nb** **c**.": "«a\nb» «c».",
    "{% if x %} **a {% if not x %}!{% endif %} b** {% endif %}": " «a  b» ",
    "<% emphasize %>a **b**<% endemphasize %>": "«a b»",
}


@pytest.mark.parametrize("source", BOLD)
@pytest.mark.parametrize("trim", [False, True])
def test_bold_in_the_source_is_emphasis(source: str, trim: bool) -> None:
    environment = Environment(bold=True, trim_blocks=trim, lstrip_blocks=trim)
    if not (trim and "{% if" in source):
        assert bracketed(environment.from_string(source).render(x="**v**")) == BOLD[source]
    assert not Environment().from_string("**b**").render().spans


def test_bold_and_tags_are_not_sought_in_line_statements_and_comments() -> None:
    environment = Environment(line_statement_prefix="#", line_comment_prefix="##")
    source = (
        "# set t = '<% emphasize %>'\n{{ t }} ## never <% emphasise %>\n"
        "<% emphasize %>a<% endemphasize %>"
    )
    assert bracketed(environment.from_string(source).render()) == "<% emphasize %>\n«a»"


def test_bold_beside_line_statements() -> None:
    environment = Environment(bold=True, line_statement_prefix="#", line_comment_prefix="##")
    source = "# set t = 2 ** 3 ** 1\n**a{{ t }}** ## **no\nb**"
    assert bracketed(environment.from_string(source).render()) == "«a8»\nb**"


def test_bold_keeps_its_white_space_whatever_is_trimmed() -> None:
    environment = Environment(bold=True, trim_blocks=True, lstrip_blocks=True)
    assert environment.from_string(" **a**\nb").render() == " a\nb"


def test_bold_that_crosses_a_block_is_an_error_with_its_line() -> None:
    with pytest.raises(jinja2.TemplateSyntaxError, match="endif") as caught:
        Environment(bold=True).from_string("\n{% if x %}**a{% endif %}b**")
    assert caught.value.lineno == 2


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    "{% raw %}",
                    "{% endraw %}",
                    "{%- raw -%}",
                    "{#",
                    "#}",
                    "{{ x }}",
                    "{{ '",
                    "' }}",
                ),
                *('{{ "', '" }}', "{% if '", "' %}", "{% endif %}", "\n", "text", "<% x %>"),
                *("<% emphasize %>", "<% endemphasize %>") * 4,
            ]
        ),
        max_size=9,
    )
)
def test_both_delimiters_mean_the_same_wherever_they_stand(parts: list[str]) -> None:
    def as_braces(text: str) -> str:
        return re.sub("<%( (?:end)?emphasize )%>", r"{%\1%}", text)

    def outcome(source: str) -> tuple[str, tuple[Span, ...]] | type[Exception]:
        try:
            text = render(source, x="v")
        except (jinja2.TemplateSyntaxError, EmphasisError) as error:
            return type(error)
        return as_braces(text.text), text.spans

    source = "".join(parts)
    assert outcome(source) == outcome(as_braces(source))


@pytest.mark.parametrize(
    "tag",
    [
        *("emphasise", "Emphasize", "emphasized", "emphasis", "endemphasise", "EndEmphasize"),
        *("deemphasise", "enddeemphasized", "emphasise alpha=0.1"),
    ],
)
@pytest.mark.parametrize("opening", ["<%", "<% ", "<%- ", "<%+\n"])
def test_a_misspelt_tag_is_an_error_with_the_right_line(tag: str, opening: str) -> None:
    environment = Environment(loader=jinja2.DictLoader({"page": f"a\r\n\n{opening}{tag} %>b"}))
    with pytest.raises(
        jinja2.TemplateSyntaxError, match=f"Unknown tag <% {tag.split()[0]} %>.*raw"
    ) as caught:
        environment.get_template("page")
    assert (caught.value.name, caught.value.lineno) == ("page", 3)


def test_an_open_tag_is_an_error() -> None:
    with pytest.raises(jinja2.TemplateSyntaxError, match="<% emphasize is not closed by %>"):
        render("<% emphasize alpha=0.1 >text")
