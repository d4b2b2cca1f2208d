"""A machine writes random templates; an oracle says which characters are emphasized.

The oracle is plain Jinja: the same template, with private-use characters printed where emphasis
begins and ends, which are taken out of the rendered text again. It shares nothing with the
package. `TEMPLATE_EXAMPLES=20000` runs so many templates instead of some hundred.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from dataclasses import dataclass, field
from typing import Any

import jinja2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from jinja2.sandbox import ImmutableSandboxedEnvironment
from marked import innermost
from marked_filters import DROPPED, EMPTY, END, FIRST, KINDS, MARKED_FILTERS, begin, parse, plain

from pasta_chains.errors import EmphasisDroppedWarning, EmphasisError
from pasta_chains.spans import Span, SpanStr
from pasta_chains.template import Environment

ARGUMENTS: tuple[tuple[str, Span], ...] = (
    ("", Span(0, 1)),
    ("alpha=0.5", Span(0, 1, 0.5)),
    ("'strong', name='f'", Span(0, 1, 0.001, "f")),
    ("name=k", Span(0, 1, None, "kk")),
    ("0.25", Span(0, 1, 0.25, None, True)),
)
assert len(ARGUMENTS) == KINDS
VALUES = {"x": "a<b", "loud": SpanStr("c d", [Span(0, 1, 0.5), Span(2, 3)]), "k": "kk", "none": ""}
BARE = VALUES | {"loud": "c d"}
MARKED = VALUES | {"loud": f"{begin(1)}c{END} {begin(0)}d{END}"}
TAGS = tuple("deemphasize" if span.deemphasized else "emphasize" for _, span in ARGUMENTS)
WITHOUT_MARKS = dict.fromkeys([*range(FIRST, FIRST + KINDS), ord(END)])

FILTERS = (
    *("upper", "lower", "replace('a', 'xy')", "string", "e", "trim", "trim | upper", "capitalize"),
    *("title", "reverse", "center(7)", "indent(2)", "truncate(3, true, '', 0)", "tojson"),
    *("truncate(4, false, '..', 0)", "urlencode", "striptags"),
)
SHOWN = (
    *("{{ n }}", "{{ n ~ '-' ~ n }}", "{{ n + '<' + n }}", "{{ '<' + n }}", "{{ n * 2 }}"),
    *("{{ [n, 'z', n] | join(n) }}", "{{ '-'.join([n, n]) }}", "{{ '[%s]' % n }}"),
    *("{{ 'a-b'.replace('-', n) }}", "{{ [n, x] | map('upper') | join }}", "{{ {'k': n}.k }}"),
    "{% for c in [n, n] %}{{ loop.index }}{{ c }}{% endfor %}",
)


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


dashes = st.sampled_from(["", "", "-", "+"])
arguments = st.integers(0, len(ARGUMENTS) - 1)


class Templates(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.main = Source()
        self.files: dict[str, Source] = {}
        self.names = 0
        self.uses: list[str] = []
        self.options: dict[str, Any] = {}

    def name(self) -> str:
        self.names += 1
        return f"n{self.names}"

    @initialize(trim=st.booleans(), lstrip=st.booleans(), autoescape=st.booleans())
    def choose(self, trim: bool, lstrip: bool, autoescape: bool) -> None:
        self.options = {"trim_blocks": trim, "lstrip_blocks": lstrip, "autoescape": autoescape}

    @rule(text=st.text("aB \n}*<>\u200b\ue0ff", max_size=4))
    def text(self, text: str) -> None:
        self.main.add(text)

    @rule(name=st.sampled_from([*VALUES, "none"]))
    def variable(self, name: str) -> None:
        self.main.add(f"{{{{ {name} }}}}")

    @rule(number=arguments, name=st.sampled_from(["x", "loud"]))
    def emphasized_variable(self, number: int, name: str) -> None:
        written = f"{TAGS[number]}({ARGUMENTS[number][0]})"
        self.main.add(f"{{{{ {name} | {written} }}}}", f"{begin(number)}{{{{ {name} }}}}{END}")

    @rule(
        number=arguments,
        dash=st.tuples(dashes, dashes, dashes, dashes),
        marks=st.sampled_from([("<%", "%>"), ("{%", "%}")]),
        first=st.sampled_from([" a", "{{ loud }}", "\n b", ""]),
    )
    def emphasize(
        self, number: int, dash: tuple[str, str, str, str], marks: tuple[str, str], first: str
    ) -> None:
        a, b, c, d = dash
        start, end = marks
        # An outer and an inner block, so that white space is trimmed around the oracle's marks.
        self.main.open(
            f"{start}{a} {TAGS[number]} {ARGUMENTS[number][0]} {b}{end}",
            f"{start}{c} end{TAGS[number]} {d}{end}",
            f"{{%{a} if true +%}}{begin(number)}{{%+ if true {b}%}}",
            f"{{%{c} endif +%}}{END}{{%+ endif {d}%}}",
        )
        self.main.add(first)

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

    @rule(shown=st.sampled_from(SHOWN), first=st.sampled_from(["{{ loud }}", ""]))
    def set_block(self, shown: str, first: str) -> None:
        name = self.name()
        shown = shown.replace(" n", f" {name}").replace("[n", f"[{name}").replace("(n", f"({name}")
        twin = shown.replace(f"% {name}", f"% ({name} | drop)")
        self.main.open(
            f"{{% set {name} %}}", f"{{% endset %}}{shown}",
            f"{{% set {name} %}}", f"{{% endset %}}{twin}",
        )  # fmt: skip
        self.main.add(first)

    @rule(change=st.sampled_from(FILTERS), first=st.sampled_from(["\n{{ loud }}", ""]))
    def filter_block(self, change: str, first: str) -> None:
        self.main.open(f"{{% filter {change} %}}", "{% endfilter %}")
        self.main.add(first)

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
            use = f"{{% import '{name}' as {name} with context %}}{{{{ {name}.m() }}}}"
        elif how == "include":
            self.files[name] = old
            use = f"{{% include '{name}' %}}"
        else:
            self.files[name] = Source(f"<{{% block b %}}{old.ours}{{% endblock %}}>",
                                      f"<{{% block b %}}{old.twin}{{% endblock %}}>")  # fmt: skip
            child = self.name()
            body = f"{{% extends '{name}' %}}{{% block b %}}{{{{ super() }}}}!{{% endblock %}}"
            self.files[child] = Source(body, body)
            use = f"{{% include '{child}' %}}"
        self.uses.append(use)
        self.main.add(use)

    @precondition(lambda self: self.uses and self.main.closing)
    @rule(data=st.data())
    def other_file_again(self, data: st.DataObject) -> None:
        """A file is used inside whatever block is open."""
        self.main.add(data.draw(st.sampled_from(self.uses)))

    def teardown(self) -> None:
        while self.main.closing:
            self.main.close()
        text, marks, remembered = self.expected()
        if EMPTY not in remembered:
            assert self.without_emphasis() == text
        for is_async in (False, True):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                rendered = self.rendered(is_async)
            assert (rendered is None) == (EMPTY in remembered)
            if rendered is None:
                continue
            assert {warning.category for warning in caught} <= {EmphasisDroppedWarning}
            assert bool(caught) == (DROPPED in remembered)
            for one in rendered:
                assert one == text
                assert innermost(one) == marks

    def expected(self) -> tuple[str, list[Span | None], str]:
        """The text without the oracle's characters, each one's mark, and what is remembered."""
        twins = {name: source.twin for name, source in self.files.items()}
        oracle = ImmutableSandboxedEnvironment(loader=jinja2.DictLoader(twins), **self.options)
        oracle.filters |= MARKED_FILTERS
        characters, remembered = parse(oracle.from_string(self.main.twin).render(MARKED))
        marks = [None if kind is None else ARGUMENTS[kind][1] for _, kind in characters]
        return plain(characters), marks, remembered

    def without_emphasis(self) -> str:
        """What Jinja renders where nothing is emphasized."""
        bare = {name: source.twin.translate(WITHOUT_MARKS) for name, source in self.files.items()}
        jinjas = ImmutableSandboxedEnvironment(loader=jinja2.DictLoader(bare), **self.options)
        jinjas.filters["drop"] = lambda value: value
        return jinjas.from_string(self.main.twin.translate(WITHOUT_MARKS)).render(BARE)

    def rendered(self, is_async: bool) -> list[SpanStr] | None:
        """Our renderings, whole and in pieces; None where an empty text is emphasized."""
        ours = {name: source.ours for name, source in self.files.items()}
        environment = Environment(
            loader=jinja2.DictLoader(ours), enable_async=is_async, **self.options
        )
        template = environment.from_string(self.main.ours)

        async def later() -> list[SpanStr]:
            pieces = [piece async for piece in template.generate_async(VALUES)]
            return [SpanStr(await template.render_async(VALUES)), SpanStr("").join(pieces)]

        try:
            if is_async:
                return asyncio.run(later())
            pieces = template.generate(VALUES)
            return [SpanStr(template.render(VALUES)), SpanStr("").join(pieces)]
        except EmphasisError:
            return None


Templates.TestCase.settings = settings(
    max_examples=int(os.environ.get("TEMPLATE_EXAMPLES", "150")),
    deadline=None,
    stateful_step_count=20,
)
TestTemplates = Templates.TestCase
