"""Figures of what a search found, as the paper draws them (Zhang et al., arXiv 2311.02262)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import MissingExtraError
from .findings import Findings, HeadList

try:
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt
except ImportError as error:
    raise MissingExtraError(error.name or "matplotlib", "evaluation") from error

_PERCENT = 100.0


def draw_figures(found: Findings, folder: Path) -> list[Path]:
    """Draw all figures that the findings have numbers for, as SVG.

    Args:
        found: What was measured.
        folder: Where to; it is made if it is not there.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    with plt.rc_context({"svg.hashsalt": "pasta-chains", "figure.constrained_layout.use": True}):
        for task in found.alone:
            drawn.append(_save(_violins(found, task), folder / f"heads-{task}.svg"))
            drawn.append(_save(_heat_map(found, task), folder / f"map-{task}.svg"))
        drawn.append(_save(_by_size(found), folder / "number-of-heads.svg"))
        if found.alphas:
            drawn.append(_save(_by_alpha(found), folder / "alpha.svg"))
    return drawn


def _save(figure: Any, file: Path) -> Path:
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return file


def _grid(found: Findings, task: str) -> Any:
    """Scores of single heads in percent, of shape (layers, heads); NaN where not measured."""
    places = {tuple(map(int, head.split(":"))): score for head, score in found.alone[task].items()}
    layers = 1 + max(layer for layer, _ in places)
    heads = 1 + max(head for _, head in places)
    grid = np.full((layers, heads), np.nan)
    for place, score in places.items():
        grid[place] = score * _PERCENT
    return grid


def _violins(found: Findings, task: str) -> Any:
    """Each head alone, a violin for each layer; whole layers; all heads; and nothing steered."""
    figure, axes = plt.subplots(figsize=(8, 4))
    grid = _grid(found, task)
    rows = {layer: row[~np.isnan(row)] for layer, row in enumerate(grid)}
    rows = {layer: row for layer, row in rows.items() if len(row)}
    axes.violinplot([*rows.values()], positions=[*rows], widths=0.8, showextrema=False)
    for layer, row in rows.items():
        axes.scatter([layer] * len(row), row, s=8, color="tab:blue", alpha=0.6)
    whole = found.layers.get(task, {})
    axes.scatter(
        [int(layer) for layer in whole],
        [score * _PERCENT for score in whole.values()],
        marker="_",
        s=200,
        color="tab:orange",
        label="all heads of a layer",
    )
    axes.axhline(found.unsteered[task] * _PERCENT, color="black", label="unsteered")
    if task in found.every:
        axes.axhline(
            found.every[task] * _PERCENT, color="tab:red", linestyle="--", label="all heads"
        )
    axes.set(xlabel="layer", ylabel="mean of metrics, %", title=f"{task}: heads steered alone")
    axes.legend()
    return figure


def _heat_map(found: Findings, task: str) -> Any:
    """What each head alone adds to no steering."""
    figure, axes = plt.subplots(figsize=(7, 4))
    gains = _grid(found, task) - found.unsteered[task] * _PERCENT
    most = max(float(np.nanmax(np.abs(gains))), 1.0)
    image = axes.imshow(gains, cmap="RdBu", vmin=-most, vmax=most, aspect="auto", origin="lower")
    figure.colorbar(image, label="points above unsteered")
    axes.set(xlabel="head", ylabel="layer", title=f"{task}: one head steered")
    return figure


def _by_size(found: Findings) -> Any:
    """Lists of heads by their length, on the validation split; a line for each strategy."""
    figure, axes = plt.subplots(figsize=(7, 4))
    tasks = tuple(found.unsteered)
    for strategy in ("multi-task", "union", "task-specific"):
        lists = [one for one in found.lists if one.strategy == strategy and _is_judged(one, tasks)]
        sizes: dict[int, list[float]] = {}
        for one in lists:
            sizes.setdefault(len(one), []).append(one.mean(tuple(one.scores)) * _PERCENT)
        points = sorted((size, sum(means) / len(means)) for size, means in sizes.items())
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=strategy)
    if len(found.before) == len(tasks):
        before = sum(found.before.values()) / len(tasks) * _PERCENT
        axes.axhline(before, color="black", label="unsteered")
    axes.set(xlabel="number of steered heads", ylabel="mean over tasks, %")
    axes.legend()
    return figure


def _is_judged(heads: HeadList, tasks: tuple[str, ...]) -> bool:
    """Whether a list was measured on all tasks that it is judged by."""
    return all(task in heads.scores for task in ([heads.of] if heads.of else tasks))


def _by_alpha(found: Findings) -> Any:
    """The chosen heads with several alphas, a line for each task."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for task in found.unsteered:
        points = sorted(
            (float(alpha), scores[task] * _PERCENT)
            for alpha, scores in found.alphas.items()
            if task in scores
        )
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=task)
    axes.set_xscale("log")
    axes.set(xlabel="alpha", ylabel="mean of metrics, %", title=f"{len(found.chosen)} heads")
    axes.legend()
    return figure
