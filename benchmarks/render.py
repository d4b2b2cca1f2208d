"""Times rendering beside plain Jinja: `python benchmarks/render.py`.

A retrieval prompt of 100 documents and 100 kB, in Jinja's sandboxed environment without emphasis,
and in ours without and with an emphasis on each document.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import jinja2
import typer
from jinja2.sandbox import ImmutableSandboxedEnvironment
from machine import processor

import pasta_chains
from pasta_chains import Environment
from pasta_chains.spans import span_count

HEAD = "Answer the question from the documents.\n\n{% for document in documents -%}\n"
TAIL = "\n\n{% endfor -%}\nQuestion: {{ question }}\nAnswer:"
PLAIN = f"{HEAD}[{{{{ loop.index }}}}] {{{{ document.text }}}}{TAIL}"
FILTER = f"{HEAD}[{{{{ loop.index }}}}] {{{{ document.text | emphasize }}}}{TAIL}"
BLOCK = (
    f"{HEAD}[{{{{ loop.index }}}}] <% emphasize %>{{{{ document.text }}}}<% endemphasize %>{TAIL}"
)


def seconds(render: Callable[[], str], rounds: int) -> float:
    """Median time of a call."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        render()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main(
    rounds: Annotated[int, typer.Option(help="Renderings of each kind.")] = 500,
    report: Annotated[Path | None, typer.Option(help="Write the table as Markdown.")] = None,
) -> None:
    """Time the renderings and print a table."""
    sentence = "The keeper of the lighthouse is known by all who sail here. "
    variables = {
        "documents": [{"text": (sentence * 20)[:990]} for _ in range(100)],
        "question": "Who is the keeper?",
    }
    sandboxed = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    ours = Environment()
    kinds = {
        "Jinja's sandboxed environment": sandboxed.from_string(PLAIN),
        "`pasta_chains.Environment`, no emphasis": ours.from_string(PLAIN),
        "the same, 100 spans by filter": ours.from_string(FILTER),
        "the same, 100 spans by block": ours.from_string(BLOCK),
    }
    texts = [template.render(variables) for template in kinds.values()]
    assert len(set(texts)) == 1, "all must render the same text"
    assert [span_count(text) for text in texts] == [0, 0, 100, 100]
    # In turns, so that a machine that slows down slows down all.
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(10):
        for kind, template in kinds.items():
            times[kind].append(seconds(lambda t=template: t.render(variables), rounds // 10))
    medians = {kind: statistics.median(found) for kind, found in times.items()}
    base = next(iter(medians.values()))
    lines = [
        "| rendering | time | relative |",
        "| --- | ---: | ---: |",
        *(f"| {kind} | {t * 1e6:.0f} µs | {t / base:.2f} |" for kind, t in medians.items()),
    ]
    typer.echo("\n".join(lines))
    if report:
        report.write_text("\n".join([*_preface(len(texts[0])), *lines, *_origin(rounds)]) + "\n")


def _preface(size: int) -> list[str]:
    return [
        "# Time to render",
        "",
        f"A retrieval prompt of 100 documents, {size:,} characters:",
        "",
    ]


def _origin(rounds: int) -> list[str]:
    return [
        "",
        f"Median of {rounds} renderings, by `python benchmarks/render.py --report "
        f"docs/results/rendering-speed.md`: pasta-chains {pasta_chains.__version__}, Jinja "
        f"{version('jinja2')}, Python {platform.python_version()}, {processor()}.",
    ]


if __name__ == "__main__":
    typer.run(main)
