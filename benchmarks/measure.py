"""Times variants in turns, and measures the memory of each."""

from __future__ import annotations

import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import StoppingCriteria
from variants import JUDGED, Variant, make_variant
from work import Batch, Shape, Work, make_batch, make_model, make_tokenizer

Times = dict[str, dict[int, tuple[float, float]]]
"""For each variant, for each round: seconds until the first token, and until the last."""

# Rounds of those that are not judged: enough to see where they stand.
_ROUNDS_OF_OTHERS = 1
_STATUS = Path("/proc/self/status")


class _FirstToken(StoppingCriteria):
    """Notes when the first token is there, and stops nothing."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.at = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if not self.at:
            self.at = _now(self.device)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@dataclass
class Cell:
    """What was measured of some work: times, bytes, and why something was not."""

    work: Work
    times: Times = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ratio:
    """Median of paired ratios, with a 95% bootstrap interval of it."""

    median: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        if self.rounds < 2:
            return f"{self.median:.2f}"
        digits = 3 if self.median < 1.5 else 2
        interval = f"{self.low:.{digits}f} to {self.high:.{digits}f}"
        return f"{self.median:.{digits}f} ({interval})"


def run_once(variant: Variant, batch: Batch, new_tokens: int, device: str) -> tuple[float, float]:
    """Seconds until the first and until the last token."""
    first = _FirstToken(device)
    arguments = variant.inputs(batch)
    gc.collect()
    with variant.steering(batch), torch.no_grad():
        started = _now(device)
        variant.model.generate(
            **arguments,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            stopping_criteria=[first],
        )
        ended = _now(device)
    return first.at - started, ended - started


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def is_due(name: str, rounds: int) -> bool:
    """Whether a variant that has had so many rounds is to have another."""
    return rounds < _ROUNDS_OF_OTHERS or name in JUDGED


def time_round(
    variants: Sequence[Variant], batch: Batch, work: Work, times: Times, device: str
) -> None:
    """Run each variant once, in the order opposite to the last round's."""
    number = max((len(rounds) for rounds in times.values()), default=0)
    if not number:
        run_once(variants[0], batch, min(work.decode, 4), device)  # discarded: it warms up
    due = [variant for variant in variants if is_due(variant.name, number)]
    for variant in due if number % 2 == 0 else reversed(due):
        measured = run_once(variant, batch, work.decode, device)
        times.setdefault(variant.name, {})[number] = measured


def ratio(times: Times, name: str, base: str, part: int) -> Ratio | None:
    """How much longer one takes than another, in the rounds that have both.

    Args:
        times: Of some work.
        name: The one.
        base: The other.
        part: 0 until the first token, 1 until the last.
    """
    own, other = times.get(name, {}), times.get(base, {})
    pairs = [own[number][part] / other[number][part] for number in own if number in other]
    if not pairs:
        return None
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(pairs, k=len(pairs))) for _ in range(2000))
    return Ratio(statistics.median(pairs), medians[49], medians[1949], len(pairs))


def measure_memory(
    asked: Sequence[tuple[Work, Sequence[str]]], shape: Shape, threads: int
) -> Iterator[tuple[int, str, int]]:
    """Bytes that works take variants at their peak, beside the weights of the model.

    The peak resident memory of a fresh process less its resident memory once the model is loaded
    and warm; nothing where the system does not tell.

    Args:
        asked: Each work, and the names of its variants.
        shape: Of the model.
        threads: Of torch.

    Yields:
        The number of the work, the name of the variant, and the bytes.
    """
    if not _STATUS.exists():
        return
    # Blocks above 1 MiB go back to the system when they are freed, so peaks are of what is in use.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    text = json.dumps([[[asdict(work), list(names)] for work, names in asked], asdict(shape)])
    command = [sys.executable, "-W", "ignore", __file__, text, str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                number, name, size = json.loads(line)
                yield number, name, size
        finally:
            process.terminate()
    if process.returncode > 0:
        raise RuntimeError("A process that measures memory failed.")


def _main() -> None:
    asked, shape_given = json.loads(sys.argv[1])
    shape, threads = Shape(**shape_given), int(sys.argv[2])
    torch.set_num_threads(1)  # a process whose threads have run must not fork
    for name in {name for _, names in asked for name in names}:  # imports what each needs
        _run_small(name, Shape(1, 16, 2, 1, 16, 64))
    gc.freeze()
    for number, (work, names) in enumerate(asked):
        for name in names:
            child = os.fork()
            if not child:
                size = _measure_here(name, shape, Work(**work), threads)
                print(json.dumps([number, name, size]), flush=True)
                os._exit(0)
            if os.waitpid(child, 0)[1]:
                sys.exit(f"{name} failed")


def _run_small(name: str, shape: Shape) -> None:
    tokenizer = make_tokenizer(shape.vocabulary)
    variant = make_variant(name, shape, make_model(shape), tokenizer)
    run_once(variant, make_batch(Work(8), tokenizer, shape.device), 2, shape.device)


def _measure_here(name: str, shape: Shape, work: Work, threads: int) -> int:
    torch.set_num_threads(threads)
    tokenizer = make_tokenizer(shape.vocabulary)
    variant = make_variant(name, shape, make_model(shape), tokenizer)
    batch = make_batch(work, tokenizer, shape.device)
    run_once(variant, make_batch(Work(32, work.rows), tokenizer, shape.device), 2, shape.device)
    gc.collect()
    before = _kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    run_once(variant, batch, work.decode, shape.device)
    return (_kilobytes("VmHWM") - before) * 1024


def _kilobytes(name: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def gpu_memory(variant: Variant, batch: Batch, work: Work, device: str) -> int:
    """Bytes that torch allocates at the peak of some work, beside what it holds before."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run_once(variant, batch, work.decode, device)
    return torch.cuda.max_memory_allocated() - before


def compare_logits(variants: Mapping[str, Variant], names: Sequence[str], batch: Batch) -> float:
    """Largest difference between the variants' logits after each prompt."""
    logits = []
    for name in names:
        with variants[name].steering(batch), torch.no_grad():
            out = variants[name].model.generate(
                **variants[name].inputs(batch),
                max_new_tokens=2,
                min_new_tokens=2,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        logits.append(torch.stack(out.logits).float())
    return max(float((one - logits[0]).abs().max()) for one in logits)


if __name__ == "__main__":
    _main()
