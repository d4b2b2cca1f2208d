"""Draws the figures of `docs/explanation` from runs of the embedded model.

    python benchmarks/figures.py --out docs/figures --report docs/results/alpha.md

All are of the demo's disagreement: two documents name two keepers of one lighthouse. The page has
the numbers that the figure of alpha shows.
"""

from __future__ import annotations

import math
import platform
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import matplotlib as mpl
import typer
from machine import processor, versions

from pasta_chains import AttentionShares, HeadProfile, SpanStr, SteeredModel, emphasize
from pasta_chains.demo import DOCUMENTS, MODEL
from pasta_chains.demo.questions import DISAGREEING, answer_all, draw_cases, outcome, prompt_of
from pasta_chains.demo.run import QUESTION

mpl.use("Agg")
from matplotlib import pyplot as plt

PACKAGES = ("pasta-chains", "torch", "transformers", "matplotlib")
ALPHAS = (1.0, 0.5, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
OFFICE, BLOG = (
    (DOCUMENTS / name).read_text("utf-8").strip()
    for name in ("harbor-office.txt", "travel-blog.txt")
)
PASSAGES = (
    ("instruction", "Answer the question from the documents."),
    (None, "\n\n[1] "),
    ("document 1", OFFICE),
    (None, "\n\n[2] "),
    ("document 2", BLOG),
    (None, "\n\n"),
    ("question", f"Question: {QUESTION}"),
    (None, "\nAnswer:"),
)
"""The prompt of `rag/qa.jinja`, in pieces; each named one is measured."""

ANSWERS = tuple(
    f" The keeper of the Marrow lighthouse is {name}." for name in ("Ines Aldane", "Tobias Renk")
)
TRUSTED = "document 1"
HEAD = (2, 3)
"""Layer and head of the figure of attention."""

_COLUMNS, _SIZE = 76, 13.8
_EMPHASIZED, _PLAIN, _OTHER = "#1b6ca8", "#c9ced6", "#d9822b"


def demo_prompt(*, measured: bool = False) -> SpanStr:
    """The demo's prompt with its first document emphasized.

    Args:
        measured: Name every passage; those with alpha 1 are measured and not steered.
    """

    def piece(name: str | None, text: str) -> str:
        if name == TRUSTED:
            return emphasize(text, name=name)
        return emphasize(text, alpha=1.0, name=name) if name and measured else text

    return SpanStr("").join(piece(name, text) for name, text in PASSAGES)


class Token(NamedTuple):
    """A token of the prompt: its text, and what attention to it is multiplied by."""

    text: str
    weight: float


def tokens_of(model: SteeredModel, prompt: SpanStr) -> list[Token]:
    """The tokens that stand for text; BOS does not."""
    read = model.read_prompt(prompt)
    return [
        Token(read.text.text[start:end], math.exp(bias))
        for (start, end), bias in zip(read.offsets, read.bias, strict=True)
        if end > start
    ]


def draw_tokens(tokens: list[Token]) -> Any:
    """The prompt as it is read, each token on the color of its weight."""
    places, column, line = [], 0, 0
    for token in tokens:
        if column + len(token.text) > _COLUMNS:
            column, line = 0, line + 1
        places.append((column, line, token))
        column += len(token.text)
        if token.text == "\n":
            column, line = 0, line + 1
    figure, axes = plt.subplots(figsize=(9, 0.36 * (line + 3)))
    for column, line, (text, weight) in places:
        color, ink = (_EMPHASIZED, "white") if weight == 1 else (_PLAIN, "black")
        box = plt.Rectangle((column + 0.09, line + 0.08), len(text) - 0.18, 0.84, color=color)
        axes.add_patch(box)
        shown = text.replace("\n", "↵")
        axes.text(column, line + 0.5, shown, color=ink, family="monospace", size=_SIZE, va="center")
    weights = sorted({weight for _, weight in tokens}, reverse=True)
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in (_EMPHASIZED, _PLAIN)]
    labels = [f"weight {weight:g}: bias {math.log(weight):.2f}" for weight in weights]
    axes.set(xlim=(0, _COLUMNS), ylim=(places[-1][1] + 1, 0))
    axes.axis("off")
    figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False)
    return figure


def draw_attention(shares: AttentionShares, head: tuple[int, int]) -> Any:
    """How one head divides its attention among the passages, before and after."""
    names = [name for name, _ in PASSAGES if name]
    bars = {}
    for label, measure in (("unsteered", "last_unsteered"), ("steered", "last_steered")):
        found = [float(getattr(shares.of(name), measure)[head]) for name in names]
        bars[label] = [*found, 1 - sum(found)]
    figure, axes = plt.subplots(figsize=(8, 3.6))
    for number, ((label, values), color) in enumerate(
        zip(bars.items(), (_PLAIN, _EMPHASIZED), strict=True)
    ):
        rows = [row + 0.38 * number for row in range(len(values))]
        drawn = axes.barh(rows, [100 * x for x in values], 0.36, color=color, label=label)
        axes.bar_label(drawn, [f"{x:.1%}" for x in values], padding=3)
    axes.set_yticks([row + 0.19 for row in range(len(names) + 1)], [*names, "all else"])
    axes.get_yticklabels()[names.index(TRUSTED)].set_fontweight("bold")
    axes.set(xlim=(0, 110), xlabel=f"attention of layer {head[0]}, head {head[1]}, %")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return figure


@dataclass(frozen=True)
class Point:
    """What one alpha does.

    Attributes:
        alpha: It.
        probabilities: Of the two answers to the demo's question, the trusted document's first.
        outcomes: Shares of held-out questions answered as the trusted document, as the other, and
            as neither.
    """

    alpha: float
    probabilities: tuple[float, float]
    outcomes: tuple[float, float, float]


def measure_alphas(model: SteeredModel, questions: int) -> list[Point]:
    """Answer the same questions with each alpha."""
    cases = draw_cases(DISAGREEING, questions, 1)
    points = []
    for alpha in ALPHAS:
        scores = model.score(demo_prompt(), ANSWERS, alpha=alpha)
        prompts = [prompt_of(case, case.trusted).with_alpha(alpha) for case in cases]
        answers = answer_all(model, prompts, chat=False)
        found = [outcome(answer, case) for answer, case in zip(answers, cases, strict=True)]
        shares = [found.count(kind) / questions for kind in ("wanted", "other", "neither")]
        trusted, other = map(math.exp, scores)
        points.append(Point(alpha, (trusted, other), (shares[0], shares[1], shares[2])))
    return points


def draw_alphas(points: list[Point], questions: int) -> Any:
    """Both sides: one question's probabilities, and how many questions are answered how."""
    figure, sides = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
    alphas = [point.alpha for point in points]
    lines = (
        ("the emphasized document", _EMPHASIZED, "o-"),
        ("the other document", _OTHER, "s--"),
        ("neither", "0.45", "^:"),
    )
    titles = ("one question: probability of each answer", f"{questions} questions: answers given")
    for axes, title, field in zip(sides, titles, ("probabilities", "outcomes"), strict=True):
        for (label, color, style), values in zip(
            lines, zip(*(getattr(point, field) for point in points), strict=True), strict=False
        ):
            axes.plot(alphas, [100 * x for x in values], style, color=color, label=label)
        axes.set_xscale("log")
        axes.invert_xaxis()
        axes.set_xticks([1, 0.1, 0.01, 0.001], ["1", "0.1", "0.01", "0.001"])
        axes.set_title(title, size=10)
        axes.set(xlabel="alpha, smaller is stronger", ylim=(-3, 103))
        axes.grid(alpha=0.3)
    sides[0].set_ylabel("%")
    handles = sides[1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_shares(pairs: list[tuple[float, float]], alpha: float) -> Any:
    """A head's share on the emphasis before and after, as the formula says and as it was read."""
    figure, axes = plt.subplots(figsize=(6, 4))
    shares = [number / 1000 for number in range(1001)]
    for strength, style in ((1.0, ":"), (0.1, "-."), (0.01, "--"), (0.001, "-")):
        after = [100 * r / (r + strength * (1 - r)) for r in shares]
        axes.plot(
            [100 * r for r in shares], after, style, color="0.25", label=f"alpha {strength:g}"
        )
    before, after = ([100 * x for x in some] for some in zip(*pairs, strict=True))
    label = f"layer 0 of the embedded model, alpha {alpha:g}"
    axes.plot(before, after, "o", color=_EMPHASIZED, label=label, clip_on=False)
    axes.set(xlabel="share without steering, %", ylabel="share with steering, %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    return figure


def measure_first_layer(model: SteeredModel) -> tuple[list[tuple[float, float]], float]:
    """Shares of all heads of layer 0, which read the same with and without steering before them."""
    profile = HeadProfile({0: range(model.head_counts[0])}, alpha=0.01)
    shares = model.attention_to_spans(demo_prompt(), max_new_tokens=40, profile=profile)
    assert shares.last_steered is not None
    pairs = zip(shares.last_unsteered[0].tolist(), shares.last_steered[0].tolist(), strict=True)
    return list(pairs), profile.alpha


def page_of(points: list[Point], questions: int) -> str:
    """The numbers of the figure of alpha."""
    lines = [
        "# What alpha does to the embedded model",
        "",
        f"The demo's question, and {questions} held-out ones in which two documents disagree and "
        "one of them is emphasized: the probability of both answers to the first, and which "
        "document the greedy answers to the others follow.",
        "",
        "| alpha | emphasized document's answer | other's | questions answered as the emphasized "
        "document | as the other | as neither |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for point in points:
        cells = [f"{point.alpha:g}", *(f"{x:.1%}" for x in point.probabilities + point.outcomes)]
        lines.append(f"| {' | '.join(cells)} |")
    command = shlex.join(["python", "benchmarks/figures.py", *sys.argv[1:]])
    lines += [
        "",
        "![Both as curves](../figures/answers-by-alpha.svg)",
        "",
        f"By `{command}`, which draws the figures of [how it works](../explanation/how-it-works.md)"
        f", too: {versions(*PACKAGES)}, Python {platform.python_version()}; {processor()}.",
        "",
    ]
    return "\n".join(lines)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the figures.")],
    report: Annotated[Path | None, typer.Option(help="Write the page.")] = None,
    questions: Annotated[int, typer.Option(help="Held-out questions for each alpha.")] = 200,
) -> None:
    """Run the embedded model, and draw."""
    model = SteeredModel.from_pretrained(MODEL)
    points = measure_alphas(model, questions)
    out.mkdir(parents=True, exist_ok=True)
    style = {"svg.hashsalt": "figures", "figure.constrained_layout.use": True}
    with plt.rc_context(style):
        shares = model.attention_to_spans(demo_prompt(measured=True), max_new_tokens=40)
        drawn = {
            "token-weights": draw_tokens(tokens_of(model, demo_prompt())),
            "attention-of-a-head": draw_attention(shares, HEAD),
            "answers-by-alpha": draw_alphas(points, questions),
            "shares-steered": draw_shares(*measure_first_layer(model)),
        }
        for name, figure in drawn.items():
            figure.savefig(out / f"{name}.svg", facecolor="white", metadata={"Date": None})
            plt.close(figure)
    page = page_of(points, questions)
    typer.echo(page)
    if report is not None:
        report.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
