"""Templates that threads and tasks render at the same time, and environments that are copied."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from marked import bracketed

from pasta_chains.errors import EmphasisError
from pasta_chains.spans import Span, SpanStr, emphasize
from pasta_chains.template import EmphasizeExtension, Environment, render

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
