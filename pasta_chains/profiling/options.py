"""How to search for heads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..errors import TaskError
from .findings import Strategy

STRATEGIES: tuple[Strategy, ...] = ("multi-task", "union", "task-specific")
"""Those that a profile can be made with; a task-agnostic list is for a task that has none."""

ALPHAS = (0.3, 0.1, 0.03, 0.01, 0.003)


@dataclass(frozen=True)
class Options:
    """How to search.

    Attributes:
        alpha: With which heads are ranked; the paper's is 0.01.
        alphas: Others to try with the chosen heads.
        strategy: How the list is made; by default "multi-task", or "task-specific" for one task.
        best_layers: How many layers to search for heads, the best ones when all of their heads are
            steered (coarse to fine); None for every layer.
        sizes: How many of each task's best heads to make lists of; by default several.
        batch_size: Prompts in a batch.
        minutes: When to stop measuring and end with the best list so far; None for never.
    """

    alpha: float = 0.01
    alphas: tuple[float, ...] = ALPHAS
    strategy: Strategy | None = None
    best_layers: int | None = None
    sizes: tuple[int, ...] | None = None
    batch_size: int = 16
    minutes: float | None = None

    def strategy_for(self, tasks: Collection[str]) -> Strategy:
        """How the list is made for so many tasks."""
        return self.strategy or ("multi-task" if len(tasks) > 1 else "task-specific")

    def check(self, tasks: Collection[str], head_counts: Mapping[int, int]) -> None:
        """Refuse what cannot be searched for, before anything is measured.

        Args:
            tasks: Names of the tasks.
            head_counts: For each layer of the model its number of heads.

        Raises:
            TaskError: An option is out of range, or the strategy does not suit the tasks.
        """
        for alpha in (self.alpha, *self.alphas):
            if not 0 < alpha < 1:
                raise TaskError(f"alpha is {alpha}; to steer, it must lie between 0 and 1.")
        for name, value in (("best_layers", self.best_layers), ("batch_size", self.batch_size)):
            if value is not None and value < 1:
                raise TaskError(f"{name} is {value}; it must be 1 or more.")
        searched = sorted(head_counts.values(), reverse=True)[: self.best_layers]
        which = "the model has" if self.best_layers is None else "the layers searched have"
        for size in self.sizes or ():
            if not 0 < size <= sum(searched):
                raise TaskError(
                    f"Lists are to be made of the best {size} heads; {which} {sum(searched)}."
                )
        self._check_strategy(len(tasks))

    def _check_strategy(self, tasks: int) -> None:
        if self.strategy is None:
            return
        if self.strategy not in STRATEGIES:
            raise TaskError(
                f"There is no strategy {self.strategy!r} for a profile; there are "
                f"{', '.join(STRATEGIES)}."
            )
        if (self.strategy == "task-specific") == (tasks > 1):
            fits = "one task" if self.strategy == "task-specific" else "two or more tasks"
            raise TaskError(
                f"The strategy {self.strategy!r} is for {fits}, and there are {tasks}. Leave it "
                "out, or give other tasks."
            )
