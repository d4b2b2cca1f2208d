"""Holds what `overhead.py` measured against what steering may cost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from measure import Cell, Ratio, ratio
from variants import ALL, FEW, PASTALIB, UNSTEERED
from work import QWEN3_8B, Shape

Claim = tuple[str, str, str]
"""A goal, what was measured, and whether that meets it."""

_TOKENS = 4096
_UNKNOWN = ("not measured", "")


def claims(shape: Shape, cells: Sequence[Cell]) -> list[Claim]:
    """The goals, each with what was measured."""
    main = next((c for c in cells if c.work.tokens == _TOKENS and c.work.rows == 1), None)
    padded = [c for c in cells if c.work.padded]
    seka = [c for c in cells if shape == QWEN3_8B and not c.work.padded]
    written = f"{_TOKENS:,} tokens and {main.work.decode if main else 128} written"
    return [
        (f"5% of heads, {written}: time at most 1.03", *_at_most(main, FEW, 1.03)),
        (f"5% of heads, {_TOKENS:,} tokens: memory at most 1.03", *_memory(shape, main, 1.03)),
        (f"All heads, {written}: time at most 1.12", *_at_most(main, ALL, 1.12)),
        (f"At least 2 times as fast as pastalib at {_TOKENS:,} tokens", *_faster(main)),
        ("… and the more so the longer the prompt", *_growing(cells)),
        ("A left-padded batch is no slower than unsteered", *_at_most_each(padded, 1.0)),
        ("8B model on a GPU, 10 prompts of 4,300 tokens: at most 1.03", *_at_most_each(seka, 1.03)),
        ("… and at most 0.2 GB more", *_gigabytes(seka)),
    ]


def verdict(found: Ratio, limit: float) -> str:
    """Whether a ratio is below a limit, as far as its interval tells."""
    if found.rounds < 2:
        return "one round does not tell"
    if found.high <= limit:
        return "met"
    if found.low > limit:
        return "missed"
    return "met, within noise" if found.median <= limit else "missed, within noise"


def _at_most(cell: Cell | None, name: str, limit: float) -> tuple[str, str]:
    found = cell and ratio(cell.times, name, UNSTEERED, 1)
    return (str(found), verdict(found, limit)) if found else _UNKNOWN


def _at_most_each(cells: Sequence[Cell], limit: float) -> tuple[str, str]:
    found = [_at_most(cell, FEW, limit) for cell in cells]
    return ("; ".join(a for a, _ in found), "; ".join(b for _, b in found)) if found else _UNKNOWN


def _memory(shape: Shape, cell: Cell | None, limit: float) -> tuple[str, str]:
    if cell is None or FEW not in cell.memory or UNSTEERED not in cell.memory:
        return _UNKNOWN
    alone = cell.memory[FEW] / cell.memory[UNSTEERED]
    weights = shape.weight_bytes
    whole = (cell.memory[FEW] + weights) / (cell.memory[UNSTEERED] + weights)
    said = "met" if alone <= limit else "met with the weights" if whole <= limit else "missed"
    return f"{whole:.3f} with the weights, {alone:.3f} without", said


def _faster(cell: Cell | None) -> tuple[str, str]:
    prefill = cell and ratio(cell.times, PASTALIB, FEW, 0)
    written = cell and ratio(cell.times, PASTALIB, FEW, 1)
    if not prefill or not written:
        return _UNKNOWN
    said = "met" if written.low >= 2 else "met in the prefill" if prefill.low >= 2 else "missed"
    return f"prefill {prefill}, with decoding {written}", said


def _growing(cells: Sequence[Cell]) -> tuple[str, str]:
    single = sorted((c for c in cells if c.work.rows == 1), key=lambda cell: cell.work.tokens)
    found = [(c.work.tokens, ratio(c.times, PASTALIB, FEW, 0)) for c in single]
    medians = [(tokens, one.median) for tokens, one in found if one is not None]
    if len(medians) < 2:
        return _UNKNOWN
    rises = all(one < other for (_, one), (_, other) in pairwise(medians))
    steps = ", ".join(f"{median:.1f} at {tokens:,}" for tokens, median in medians)
    return f"prefill: {steps}", "met" if rises else "missed"


def _gigabytes(cells: Sequence[Cell]) -> tuple[str, str]:
    found = [c.memory for c in cells if FEW in c.memory and UNSTEERED in c.memory]
    if not found:
        return _UNKNOWN
    more = (found[0][FEW] - found[0][UNSTEERED]) / 1e9
    return f"{more:.2f} GB", "met" if more <= 0.2 else "missed"
