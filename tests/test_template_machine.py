"""A machine writes random templates; an oracle says which characters are emphasized.

The oracle is plain Jinja: the same template, with private-use characters printed where emphasis
begins and ends, which are taken out of the rendered text again. It shares nothing with the
package. `TEMPLATE_EXAMPLES=20000` runs so many templates instead of some hundred.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any

import jinja2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from jinja2.sandbox import ImmutableSandboxedEnvironment
from marked import innermost

from pasta_chains.errors import EmphasisError
from pasta_chains.spans import Span, SpanStr
from pasta_chains.template import Environment

FIRST, END = 0xE000, "\uf8ff"
"""Where an emphasis of some arguments begins: a character from FIRST on; and where any ends."""

ARGUMENTS: tuple[tuple[str, Span], ...] = (
    ("", Span(0, 1)),
    ("alpha=0.5", Span(0, 1, 0.5)),
    ("'strong', name='f'", Span(0, 1, 0.001, "f")),
    ("name=k", Span(0, 1, None, "kk")),
)
VALUES = {"x": "ab", "loud": SpanStr("c d", [Span(0, 1, 0.5), Span(2, 3)]), "k": "kk", "none": ""}
MARKED = VALUES | {"loud": f"{chr(FIRST + 1)}c{END} {chr(FIRST)}d{END}"}


def begin(number: int) -> str:
    return chr(FIRST + number)


@dataclass
class Source:
    """A template under construction, and its twin for the oracle."""

    ours: str = ""
    twin: str = ""
    closing: list[tuple[str, str]] = field(default_factory=list)

    def add(self, ours: str, twin: str | None = None) -> None:
        self.ours += ours
        self.twin += ours if twin is None else twin

    def open(self, ours: str, end: str, twin: str | None = None, twin_end: str = "") -> None:
        self.add(ours, twin)
        self.closing.append((end, end if twin is None else twin_end))

    def close(self) -> None:
        self.add(*self.closing.pop())


def expected(text: str) -> tuple[str, list[Span | None], bool]:
    """The text without the oracle's characters, each one's mark, and whether a mark is empty."""
    plain, marks, stack, empty = "", [], [], False
    for character in text:
        if character == END:
            _, begun = stack.pop()
            empty |= begun == len(plain)
        elif FIRST <= ord(character) < FIRST + len(ARGUMENTS):
            stack.append((ARGUMENTS[ord(character) - FIRST][1], len(plain)))
        else:
            plain += character
            marks.append(stack[-1][0] if stack else None)
    assert not stack
    return plain, marks, empty


dashes = st.sampled_from(["", "", "-", "+"])
arguments = st.integers(0, len(ARGUMENTS) - 1)


class Templates(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.main = Source()
        self.files: dict[str, Source] = {}
        self.names = 0

    def name(self) -> str:
        self.names += 1
        return f"n{self.names}"

    @rule(text=st.text("aB \n}*<>\u200b\ue0ff", max_size=4))
    def text(self, text: str) -> None:
        self.main.add(text)

    @rule(name=st.sampled_from([*VALUES, "none"]))
    def variable(self, name: str) -> None:
        self.main.add(f"{{{{ {name} }}}}")

    @rule(number=arguments, name=st.sampled_from(["x", "loud"]))
    def emphasized_variable(self, number: int, name: str) -> None:
        written = ARGUMENTS[number][0]
        self.main.add(
            f"{{{{ {name} | emphasize({written}) }}}}", f"{begin(number)}{{{{ {name} }}}}{END}"
        )

    @rule(
        number=arguments,
        dash=st.tuples(dashes, dashes, dashes, dashes),
        marks=st.sampled_from([("<%", "%>"), ("{%", "%}")]),
    )
    def emphasize(
        self, number: int, dash: tuple[str, str, str, str], marks: tuple[str, str]
    ) -> None:
        a, b, c, d = dash
        start, end = marks
        # An outer and an inner block, so that white space is trimmed around the oracle's marks.
        self.main.open(
            f"{start}{a} emphasize {ARGUMENTS[number][0]} {b}{end}",
            f"{start}{c} endemphasize {d}{end}",
            f"{{%{a} if true +%}}{begin(number)}{{%+ if true {b}%}}",
            f"{{%{c} endif +%}}{END}{{%+ endif {d}%}}",
        )

    @rule(count=st.integers(0, 2), dash=dashes)
    def loop(self, count: int, dash: str) -> None:
        self.main.open(f"{{%{dash} for i in range({count}) %}}", "{{ i }}{% endfor %}")

    @rule(condition=st.sampled_from(["x", "none", "loud == 'c d'"]))
    def condition(self, condition: str) -> None:
        twin = condition.replace("loud == 'c d'", "true")
        self.main.open(
            f"{{% if {condition} %}}", "{% else %}e{% endif %}",
            f"{{% if {twin} %}}", "{% else %}e{% endif %}",
        )  # fmt: skip

    @rule(calls=st.integers(0, 2))
    def macro(self, calls: int) -> None:
        name = self.name()
        call = f"{{{{ {name}('q') }}}}" * calls
        self.main.open(f"{{% macro {name}(p) %}}", f"{{{{ p }}}}{{% endmacro %}}{call}")

    @rule()
    def call_block(self) -> None:
        name = self.name()
        self.main.add(f"{{% macro {name}() %}}[{{{{ caller() }}}}]{{% endmacro %}}")
        self.main.open(f"{{% call {name}() %}}", "{% endcall %}")

    @rule(joined=st.booleans())
    def set_block(self, joined: bool) -> None:
        name = self.name()
        shown = f"{{{{ {name} ~ '-' ~ {name} }}}}" if joined else f"{{{{ {name} }}}}"
        self.main.open(f"{{% set {name} %}}", f"{{% endset %}}{shown}")

    @rule(change=st.sampled_from(["upper", "lower", "replace('a', 'xy')", "string"]))
    def filter_block(self, change: str) -> None:
        self.main.open(f"{{% filter {change} %}}", "{% endfilter %}")

    @rule()
    def with_block(self) -> None:
        self.main.open("{% with y = loud %}{{ y }}", "{{ y }}{% endwith %}")

    @rule()
    def raw(self) -> None:
        self.main.add("{% raw %}<% emphasize %>{{ x }}{% endraw %}")

    @precondition(lambda self: self.main.closing)
    @rule()
    def close(self) -> None:
        self.main.close()

    @precondition(lambda self: not self.main.closing)
    @rule(how=st.sampled_from(["include", "import", "extends"]))
    def other_file(self, how: str) -> None:
        """What was written so far becomes a file that the rest uses."""
        name = self.name()
        old, self.main = self.main, Source()
        if how == "import":
            wrapped = Source(f"{{% macro m() %}}{old.ours}{{% endmacro %}}",
                             f"{{% macro m() %}}{old.twin}{{% endmacro %}}")  # fmt: skip
            self.files[name] = wrapped
            self.main.add(f"{{% import '{name}' as {name} with context %}}{{{{ {name}.m() }}}}")
        elif how == "include":
            self.files[name] = old
            self.main.add(f"{{% include '{name}' %}}")
        else:
            self.files[name] = Source(f"<{{% block b %}}{old.ours}{{% endblock %}}>",
                                      f"<{{% block b %}}{old.twin}{{% endblock %}}>")  # fmt: skip
            child = self.name()
            body = f"{{% extends '{name}' %}}{{% block b %}}{{{{ super() }}}}!{{% endblock %}}"
            self.files[child] = Source(body, body)
            self.main.add(f"{{% include '{child}' %}}")

    def teardown(self) -> None:
        while self.main.closing:
            self.main.close()
        for options in ({}, {"trim_blocks": True, "lstrip_blocks": True}):
            self.compare(options)

    def compare(self, options: dict[str, Any]) -> None:
        ours = {name: source.ours for name, source in self.files.items()}
        twins = {name: source.twin for name, source in self.files.items()}
        oracle = ImmutableSandboxedEnvironment(loader=jinja2.DictLoader(twins), **options)
        text, marks, empty = expected(oracle.from_string(self.main.twin).render(MARKED))
        for is_async in (False, True):
            environment = Environment(
                loader=jinja2.DictLoader(ours), enable_async=is_async, **options
            )
            template = environment.from_string(self.main.ours)
            try:
                rendered = (
                    asyncio.run(template.render_async(VALUES))
                    if is_async
                    else template.render(VALUES)
                )
            except EmphasisError:
                assert empty
                continue
            assert not empty
            assert rendered == text
            assert innermost(SpanStr(rendered)) == marks
            if not is_async:
                assert innermost(SpanStr("").join(template.generate(VALUES))) == marks


Templates.TestCase.settings = settings(
    max_examples=int(os.environ.get("TEMPLATE_EXAMPLES", "150")),
    deadline=None,
    stateful_step_count=20,
)
TestTemplates = Templates.TestCase
