"""What a search's measurements depend on: its file is of use for the same ones only."""

from __future__ import annotations

import hashlib
from typing import Any

from ..engine import SteeredModel
from ..evaluation.about import about_run
from ..evaluation.harness import digest_of
from ..evaluation.task import Task
from .units import Tasks, batches


def about_search(model: SteeredModel, tasks: Tasks, batch_size: int) -> dict[str, Any]:
    """Model, versions and samples. How the search goes on does not matter to what is measured."""
    return {
        **about_run(model),
        "batch_size": batch_size,
        "tasks": {
            name: {split: _about_task(task, batch_size) for split, task in splits.items()}
            for name, splits in tasks.items()
        },
    }


def _about_task(task: Task, batch_size: int) -> dict[str, Any]:
    together = [[sample.id for sample in some] for some in batches(task, batch_size)]
    return {
        "samples": len(task.samples),
        "prompts": digest_of(task),
        "batches": hashlib.sha256(repr(together).encode()).hexdigest()[:16],
        "scoring": _digest_of_scoring(task),
    }


def _digest_of_scoring(task: Task) -> str:
    """A digest of what makes scores of answers."""
    score = getattr(task.score, "__qualname__", type(task.score).__qualname__)
    digest = hashlib.sha256(repr((score, task.metrics)).encode())
    for sample in task.samples:
        digest.update(repr((sample.wanted, sample.expected)).encode())
    return digest.hexdigest()[:16]
