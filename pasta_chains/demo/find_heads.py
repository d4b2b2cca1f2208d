"""Finds the embedded model's head profile: `python -m pasta_chains.demo.find_heads MODEL`.

Each head is steered alone on validation questions with two disagreeing documents. The heads that
most often bring the emphasized document's answer are then joined one by one, and the shortest
list with the best result is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from ..engine import SteeredModel
from ..profile import FILE_NAME, HeadProfile
from .questions import AGREEING, DISAGREEING, Case, answer_all, draw_cases, outcome, prompt_of

_SEEDS = (101, 102, 103)
"""For ranking, choosing among disagreeing questions, and choosing among the others."""

Head = tuple[int, int]


def find_heads(
    model: Annotated[Path, typer.Argument(help="Folder of the model.")],
    questions: Annotated[int, typer.Option(help="Questions for ranking single heads.")] = 100,
    most: Annotated[int, typer.Option(help="Longest list of heads to try.")] = 8,
    alpha: Annotated[float, typer.Option(help="Coefficient for other text.")] = 0.01,
    report: Annotated[Path | None, typer.Option(help="Write the numbers as Markdown.")] = None,
) -> None:
    """Rank all heads, choose how many to steer, and write the profile into the model's folder."""
    steered = SteeredModel.from_pretrained(model, HeadProfile({}))
    config = steered.model.config
    every = [
        (layer, head)
        for layer in range(config.num_hidden_layers)
        for head in range(config.num_attention_heads)
    ]
    cases = draw_cases(DISAGREEING, questions, _SEEDS[0])
    alone = {
        head: _share(steered, [head], alpha, cases) for head in track(every, "each head alone")
    }
    ranked = sorted(every, key=lambda head: -alone[head])
    disagreeing = draw_cases(DISAGREEING, 2 * questions, _SEEDS[1])
    agreeing = draw_cases(AGREEING, 2 * questions, _SEEDS[2])
    together: dict[int, tuple[float, float]] = {}
    for count in track([*range(most + 1), len(every)], "the best together"):
        chosen = ranked[:count]
        together[count] = (
            _share(steered, chosen, alpha, disagreeing),
            _share(steered, chosen, alpha, agreeing),
        )
    best = max(range(1, most + 1), key=lambda count: (min(together[count]), -count))
    source = (
        f"pasta_chains.demo.find_heads: the best {best} of {len(every)} heads, each steered alone "
        f"on {questions} validation questions"
    )
    _profile(ranked[:best], alpha, model.name, source).save(model / FILE_NAME)
    lines = _report(ranked[:most], alone, together, best)
    typer.echo("\n".join(lines))
    if report:
        report.write_text("\n".join(["# Heads of the embedded model", "", *lines, ""]))


def _report(
    ranked: list[Head],
    alone: dict[Head, float],
    together: dict[int, tuple[float, float]],
    best: int,
) -> list[str]:
    return [
        "Share of validation questions answered from the emphasized document, each head steered "
        "alone, two documents disagreeing:",
        "",
        "| layer | head | share |",
        "| ---: | ---: | ---: |",
        *(f"| {layer} | {head} | {alone[layer, head]:.1%} |" for layer, head in ranked),
        "",
        f"The best of them together (0 is no steering, {max(together)} is every head). The shipped "
        f"profile steers {best}.",
        "",
        "| heads | two documents disagree | one document answers |",
        "| ---: | ---: | ---: |",
        *(f"| {count} | {steer:.1%} | {keep:.1%} |" for count, (steer, keep) in together.items()),
    ]


def _share(model: SteeredModel, heads: list[Head], alpha: float, cases: list[Case]) -> float:
    """Share of the questions answered from the emphasized document."""
    model.profile = _profile(heads, alpha, None, None)
    prompts = [prompt_of(case, emphasized=case.trusted) for case in cases]
    answers = answer_all(model, prompts, chat=True)
    return sum(map(lambda a, c: outcome(a, c) == "wanted", answers, cases)) / len(cases)


def _profile(heads: list[Head], alpha: float, model: str | None, source: str | None) -> HeadProfile:
    layers = {layer: [h for at, h in heads if at == layer] for layer, _ in heads}
    return HeadProfile(layers, alpha, model, source)


if __name__ == "__main__":
    typer.run(find_heads)
