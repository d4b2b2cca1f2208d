"""Processes that measure at the same time, each with a model of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from multiprocessing import get_context, parent_process
from queue import Empty
from typing import Any

import torch

from ..engine import SteeredModel
from ..errors import PastaError, TaskError
from .units import Bench, Tasks, Unit

Load = Callable[[int], SteeredModel]
"""Loads the model for the process of a number; it is pickled, so no lambda."""

Measured = Generator[tuple[Unit, str, list[float]], None, None]


class Workers:
    """Some processes, as a context.

    Args:
        count: How many.
        load: Loads a model in each.
        tasks: What is measured; they are pickled.
        batch_size: Prompts in a batch.
    """

    def __init__(self, count: int, load: Load, tasks: Tasks, batch_size: int) -> None:
        spawned = get_context("spawn")
        self._asked: Any = spawned.Queue()
        self._found: Any = spawned.Queue()
        self._round: Any = spawned.Value("i", 0)
        queues = (self._asked, self._found, self._round)
        self._processes = [
            spawned.Process(
                target=_work,
                args=(number, count, load, tasks, batch_size, *queues),
                daemon=True,
            )
            for number in range(count)
        ]
        for process in self._processes:
            process.start()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def measure(self, units: Sequence[Unit]) -> Measured:
        """Measure units in any order. Closing the generator ends it after the lists at hand.

        Raises:
            PastaError: A process cannot load the model or ask a prompt, or has ended.
        """
        self._round.value += 1
        this = self._round.value
        try:
            for unit in units:
                self._asked.put((this, unit))
            left = len(units)
            while left:
                round_, found = self._next()
                if isinstance(found, PastaError):
                    raise found
                if round_ == this and found is None:
                    left -= 1
                elif round_ == this:
                    yield found
        finally:
            self._round.value += 1  # what is still asked for is passed over

    def _next(self) -> Any:
        while True:
            # Before asking: what a process told before it ended is heard first.
            gone = [process for process in self._processes if not process.is_alive()]
            try:
                return self._found.get(timeout=1.0)
            except Empty:
                if gone:
                    raise TaskError(
                        f"A process of the search ended with exit code {gone[0].exitcode}. What "
                        "was finished is kept: run the search again, with fewer processes if "
                        "memory was short."
                    ) from None


def _work(
    number: int,
    count: int,
    load: Load,
    tasks: Tasks,
    batch_size: int,
    asked: Any,
    found: Any,
    current: Any,
) -> None:
    """What each process does: one unit after the other, as long as they are wanted."""
    torch.set_num_threads(max(1, torch.get_num_threads() // count))  # they share the processor
    try:
        bench = Bench(load(number), tasks, batch_size)
        while _is_wanted():
            try:
                round_, unit = asked.get(timeout=1.0)
            except Empty:
                continue
            if round_ == current.value:
                for heads, scores in bench.measure(unit):
                    found.put((round_, (unit, heads, scores)))
                    if round_ != current.value or not _is_wanted():
                        break
            found.put((round_, None))
    except PastaError as error:
        found.put((0, error))


def _is_wanted() -> bool:
    """Whether the process that asks is still there: one that was killed tells nobody."""
    parent = parent_process()
    return parent is not None and parent.is_alive()
