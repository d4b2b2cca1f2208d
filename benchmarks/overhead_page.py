"""Writes what `overhead.py` measured: a page of tables, and a plot."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from machine import processor
from measure import Cell, Ratio, ratio
from overhead_claims import claims
from variants import ALL, FEW, MASKED, NAMES, NONE, PASTALIB, SEKA, SOME, UNSTEERED
from work import ALPHA, SHARE_EMPHASIZED, Shape, choose_heads

import pasta_chains

_COLORS = {NONE: "0.6", FEW: "C0", SOME: "C1", ALL: "C3", SEKA: "C2", MASKED: "C4", PASTALIB: "k"}


def page(
    shape: Shape, cells: Sequence[Cell], difference: float, plot: str | None, command: str
) -> str:
    """The page, as Markdown; `plot` is where its picture is, from the page."""
    ordered = sorted(cells, key=lambda cell: (cell.work.rows, cell.work.padded, cell.work.tokens))
    picture = [f"![Time and memory beside the unsteered model's]({plot})", ""] if plot else []
    lines = [
        "# Overhead of steering",
        "",
        f"A random model of Llama's kind ({shape.describe()}) reads prompts of which "
        f"{SHARE_EMPHASIZED:.0%} is emphasized, in the middle, with alpha {ALPHA}. The unsteered "
        "model runs on transformers' own sdpa.",
        "",
        *_claims_table(shape, cells),
        "",
        *picture,
        *(line for cell in ordered for line in [*_cell_table(shape, cell), ""]),
        *_notes(shape, difference),
        "",
        *_origin(shape, command),
    ]
    return "\n".join(lines) + "\n"


def _claims_table(shape: Shape, cells: Sequence[Cell]) -> list[str]:
    return [
        "| goal | measured | |",
        "| --- | --- | --- |",
        *(f"| {goal} | {found} | {verdict} |" for goal, found, verdict in claims(shape, cells)),
    ]


def _cell_table(shape: Shape, cell: Cell) -> list[str]:
    writes = cell.work.decode > 1
    head = ["variant", "prefill", "ratio"]
    if writes:
        head += [f"with {cell.work.decode} tokens written", "ratio"]
    head += ["rounds", "memory", "ratio with weights"]
    return [
        f"## {cell.work.describe()[0].upper()}{cell.work.describe()[1:]}",
        "",
        f"| {' | '.join(head)} |",
        f"| --- |{' ---: |' * (len(head) - 1)}",
        *(f"| {' | '.join(_row(shape, cell, name, writes))} |" for name in NAMES),
    ]


def _row(shape: Shape, cell: Cell, name: str, writes: bool) -> list[str]:
    """The cells of one variant."""
    width = 8 if writes else 6
    if name not in cell.times:
        reason = cell.missing.get(name, "not measured")
        return [name, reason, *[""] * (width - 2)]
    row = [name]
    for part in range(2 if writes else 1):
        row += [f"{seconds(cell, name, part):.2f} s", str(ratio(cell.times, name, UNSTEERED, part))]
    row.append(str(len(cell.times[name])))
    if name not in cell.memory:
        return [*row, "not measured", ""]
    return [*row, f"{cell.memory[name] / 1e6:,.0f} MB", f"{memory_ratio(shape, cell, name):.3f}"]


def seconds(cell: Cell, name: str, part: int) -> float:
    """Median time of a variant."""
    times = sorted(times[part] for times in cell.times[name].values())
    return times[len(times) // 2]


def memory_ratio(shape: Shape, cell: Cell, name: str) -> float:
    """Peak with the weights, beside the unsteered model's."""
    weights = shape.weight_bytes
    return (cell.memory[name] + weights) / (cell.memory[UNSTEERED] + weights)


def _notes(shape: Shape, difference: float) -> list[str]:
    few, every = choose_heads(shape, 0.05), shape.layers * shape.heads
    where = (
        "what torch allocated on the GPU at the peak, less what it held before"
        if shape.device.startswith("cuda")
        else "the peak resident memory of a fresh process, less its resident memory once the model "
        "was loaded and warm (`VmHWM` and `VmRSS` of `/proc/self/status`, blocks above 1 MiB "
        "returned to the system when freed); the peak is in the prefill"
    )
    return [
        "## How it was measured",
        "",
        "- A round runs every variant once, in one process, in an order that turns around with "
        "each round. A ratio is the median of the ratios to the unsteered run of the same round; "
        "in parentheses the 95% bootstrap interval of that median. Warm-up runs are discarded. "
        "Times are `model.generate`'s, without tokenization.",
        f"- Memory is {where}. The ratio includes the weights, {shape.weight_bytes / 1e6:,.0f} MB.",
        f"- 5% of heads are {sum(map(len, few.values()))} of {every}, drawn by chance, in "
        f"{len(few)} of {shape.layers} layers. 0% is a steered model with an empty profile: what "
        "differs from 1 there is noise.",
        "- pastalib is version 0.1.3 from the package index, called as its README says. It steers "
        "eager attention only, so the model is loaded so; its import needs `datasets` for type "
        "hints, which it does not ask for and gets a stand-in for.",
        "- Masked sdpa builds a float mask of each head before each steered layer, as AISteer360's "
        "PASTA does, corrected where that one turns masks of booleans into numbers and does not "
        "steer decoding.",
        "- SEKA-like key editing is written from the paper's formula "
        "([arXiv 2603.01281](https://arxiv.org/abs/2603.01281)): keys of emphasized tokens gain "
        "their projection, in all layers and key-value heads. It is other steering, at its cost.",
        f"- Before timing, pasta-chains, masked sdpa and pastalib steered the same heads of a "
        f"padded batch: their logits differed by at most {difference:.1g}.",
    ]


def _origin(shape: Shape, command: str) -> list[str]:
    device = (
        torch.cuda.get_device_name(shape.device)
        if shape.device.startswith("cuda")
        else f"{processor()}, {torch.get_num_threads()} threads"
    )
    versions = f"torch {torch.__version__}, transformers {version('transformers')}"
    return [
        "To repeat it: `pip install --group benchmark` and `pip install --no-deps "
        "pastalib==0.1.3`, then the command below. `--quick` takes less than a minute, "
        "`--minutes` says how long to measure, and `--seka` is the setting of SEKA's paper.",
        "",
        f"Written by `{command}`: pasta-chains {pasta_chains.__version__}, {versions}, Python "
        f"{platform.python_version()}; {device}.",
    ]


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Plot ratios and memory over the length of single prompts."""
    import matplotlib as mpl  # only here, so that tables need no more than the package

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "overhead"
    from matplotlib import pyplot as plt

    single = sorted((c for c in cells if c.work.rows == 1), key=lambda cell: cell.work.tokens)
    single = single or list(cells)
    figure, (close, far, memory) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for name in NAMES[1:]:
        _draw_ratios(far, single, name)
        if name not in (MASKED, PASTALIB):
            _draw_ratios(close, single, name)
    for name in NAMES:
        found = [(c.work.tokens, c.memory[name] / 1e6) for c in single if name in c.memory]
        if found:
            memory.plot(*zip(*found, strict=True), "o-", color=_COLORS.get(name, "C5"), label=name)
    far.set_yscale("log")
    memory.set_yscale("log")
    close.set_ylabel("prefill time / unsteered")
    far.set_ylabel("prefill time / unsteered")
    memory.set_ylabel("memory beside the weights, MB")
    for axes in (close, far, memory):
        axes.set_xscale("log", base=2)
        axes.set_xticks([c.work.tokens for c in single], [f"{c.work.tokens}" for c in single])
        axes.set_xlabel("prompt tokens")
        axes.grid(alpha=0.3)
    close.axhline(1, color="0.3", linewidth=0.8)
    figure.legend(*memory.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _draw_ratios(axes: object, cells: Sequence[Cell], name: str) -> None:
    """Medians with their intervals."""
    found: list[tuple[int, Ratio]] = []
    for cell in cells:
        one = ratio(cell.times, name, UNSTEERED, 0)
        if one is not None:
            found.append((cell.work.tokens, one))
    if not found:
        return
    axes.errorbar(  # type: ignore[attr-defined]  # axes are typed as object
        [tokens for tokens, _ in found],
        [one.median for _, one in found],
        [[o.median - o.low for _, o in found], [o.high - o.median for _, o in found]],
        color=_COLORS[name],
        label=name,
        marker="o",
        capsize=3,
    )
