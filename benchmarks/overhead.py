"""Times steering beside not steering and beside its peers: `python benchmarks/overhead.py`.

A random model and random prompts of which 5% is emphasized. In each round every variant runs once,
in turns, and ratios are of runs of the same round. `overhead_page.py` writes the page.
"""

from __future__ import annotations

import gc
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Annotated

import torch
import typer
from measure import Cell, compare_logits, gpu_memory, is_due, measure_memory, time_round
from overhead_page import draw, page
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging
from variants import (
    FEW,
    MASKED,
    NAMES,
    NONE,
    PASTALIB,
    UNSTEERED,
    Variant,
    make_variant,
    why_not,
)
from work import QWEN3_8B, Shape, Work, make_batch, make_model, make_tokenizer

JUDGED_LENGTH = 4096
_SMALL = Shape(layers=4, hidden=256, heads=4, kv_heads=2, intermediate=512, vocabulary=1024)


@dataclass(frozen=True)
class Bench:
    """All variants of one model, and how long to measure them."""

    shape: Shape
    variants: dict[str, Variant]
    tokenizer: PreTrainedTokenizerFast
    until: float
    most_bytes: float

    @classmethod
    def make(cls, shape: Shape, minutes: float, most_gigabytes: float) -> Bench:
        """Build the model and its variants."""
        until = time.monotonic() + 60 * minutes
        model, tokenizer = make_model(shape), make_tokenizer(shape.vocabulary)
        possible = [name for name in NAMES if why_not(name, shape, Work(1), 1e12) is None]
        variants = {name: make_variant(name, shape, model, tokenizer) for name in possible}
        gc.freeze()  # what stays need not be looked through before each run
        return cls(shape, variants, tokenizer, until, most_gigabytes * 1e9)

    def check(self) -> float:
        """See that those that say they steer alike do; return the largest difference of logits."""
        work = Work(64, 3, padded=True)
        batch = make_batch(work, self.tokenizer, self.shape.device)
        assert compare_logits(self.variants, [UNSTEERED, NONE], batch) == 0
        alike = [name for name in (MASKED, FEW, PASTALIB) if name in self.variants]
        difference = compare_logits(self.variants, alike, batch)
        if self.shape.dtype == "float32":
            assert difference < 1e-3, f"the steered logits differ by {difference}"
        return difference

    def begin(self, cell: Cell) -> None:
        """Measure each variant once, if time is left."""
        for name in NAMES:
            reason = why_not(name, self.shape, cell.work, self.most_bytes)
            if time.monotonic() > self.until:
                reason = "not measured: out of time"
            if reason:
                cell.missing[name] = reason
        if self._on_gpu:
            self._measure_gpu_memory(cell)
        self.round(cell)

    @property
    def _on_gpu(self) -> bool:
        return self.shape.device.startswith("cuda")

    def _measure_gpu_memory(self, cell: Cell) -> None:
        batch = make_batch(cell.work, self.tokenizer, self.shape.device)
        for name, variant in self._able(cell).items():
            try:
                cell.memory[name] = gpu_memory(variant, batch, cell.work, self.shape.device)
            except torch.OutOfMemoryError:
                cell.missing[name] = "out of memory"
                torch.cuda.empty_cache()

    def measure_memory(self, cells: Sequence[Cell]) -> None:
        """On a CPU, in half of the time that is left, measure the memory of what was timed.

        The peak is in the prefill, so two tokens are written.
        """
        if self._on_gpu:
            return
        until = (time.monotonic() + self.until) / 2
        asked = [(replace(cell.work, decode=2), list(self._able(cell))) for cell in cells]
        for number, name, size in measure_memory(asked, self.shape, torch.get_num_threads()):
            cells[number].memory[name] = size
            print(f"{cells[number].work.describe()}: memory of {name}", file=sys.stderr, flush=True)
            if time.monotonic() > until:
                break

    def round(self, cell: Cell) -> None:
        """Run each variant once more."""
        variants = list(self._able(cell).values())
        if variants:
            batch = make_batch(cell.work, self.tokenizer, self.shape.device)
            time_round(variants, batch, cell.work, cell.times, self.shape.device)
            _say(cell)

    def has_time(self, cell: Cell) -> bool:
        """Whether another round would end in time, if it takes what the last one took."""
        last = [
            max(times.items())[1][1]
            for name, times in cell.times.items()
            if is_due(name, len(times))
        ]
        return bool(last) and time.monotonic() + 1.1 * sum(last) < self.until

    def _able(self, cell: Cell) -> dict[str, Variant]:
        return {name: v for name, v in self.variants.items() if name not in cell.missing}


def _say(cell: Cell) -> None:
    rounds = max(map(len, cell.times.values()))
    print(f"{cell.work.describe()}: round {rounds}", file=sys.stderr, flush=True)


def measure(bench: Bench, works: Sequence[Work], rounds: int) -> list[Cell]:
    """Measure each work once, and then again and again, the first of them every other time."""
    cells = [Cell(work) for work in works]
    for cell in cells:
        bench.begin(cell)
    bench.measure_memory(cells)
    others = cycle(cells[1:] or cells)
    skipped = 0
    while skipped < len(cells):
        for cell in (cells[0], next(others)):
            if len(cell.times.get(UNSTEERED, ())) < rounds and bench.has_time(cell):
                bench.round(cell)
                skipped = 0
            else:
                skipped += 1
    return cells


def plan(lengths: Sequence[int], batches: Sequence[int], rows: int, decode: int) -> list[Work]:
    """The work to measure, what is judged first."""
    judged = max((n for n in lengths if n <= JUDGED_LENGTH), default=max(lengths, default=0))
    first = [Work(judged, decode=decode)] if lengths else []
    padded = [Work(length, rows, True, decode) for length in batches]
    level = [Work(length, rows, False, decode) for length in batches]
    rest = [Work(length, decode=decode) for length in sorted(lengths) if length != judged]
    short = [work for work in rest if work.tokens < judged]
    long = [replace(work, decode=1) for work in rest if work.tokens > judged]
    return [*first, *padded, *short, *level, *long]


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main(
    lengths: Annotated[str, typer.Option(help="Of single prompts.")] = "512,1024,2048,4096,8192",
    batch_lengths: Annotated[str, typer.Option(help="Of prompts in batches.")] = "512",
    rows: Annotated[int, typer.Option(help="Prompts in a batch.")] = 8,
    decode: Annotated[int, typer.Option(help="Tokens to write.")] = 128,
    minutes: Annotated[float, typer.Option(help="How long to measure.")] = 9,
    rounds: Annotated[int, typer.Option(help="Most rounds of each work.")] = 1000,
    layers: int = Shape.layers,
    hidden: int = Shape.hidden,
    heads: int = Shape.heads,
    kv_heads: int = Shape.kv_heads,
    intermediate: int = Shape.intermediate,
    vocabulary: int = Shape.vocabulary,
    dtype: str = Shape.dtype,
    device: str = Shape.device,
    most_gigabytes: Annotated[float, typer.Option(help="For attention matrices, on a CPU.")] = 8,
    quick: Annotated[bool, typer.Option(help="A small model, in less than a minute.")] = False,
    seka: Annotated[bool, typer.Option(help="The setting of SEKA's paper, for a GPU.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write the page as Markdown.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the plot, as SVG.")] = None,
) -> None:
    """Time each variant, and print the page."""
    shape = Shape(layers, hidden, heads, kv_heads, intermediate, vocabulary, dtype, device)
    works = plan(_numbers(lengths), _numbers(batch_lengths), rows, decode)
    if quick:
        shape, works, minutes = _SMALL, plan([64, 256], [64], 8, 8), 0.5
    if seka:
        shape = QWEN3_8B
        works = [Work(4300, 10, False, decode), Work(4300, 10, True, decode)]
    bench = Bench.make(shape, minutes, most_gigabytes)
    difference = bench.check()
    cells = measure(bench, works, rounds)
    picture = os.path.relpath(plot, report.parent if report else ".") if plot else None
    text = page(shape, cells, difference, picture, command=shlex.join(["python", *sys.argv]))
    typer.echo(text)
    if report:
        report.write_text(text, encoding="utf-8")
    if plot:
        draw(cells, plot)


if __name__ == "__main__":
    logging.set_verbosity_error()
    typer.run(main)
