"""All that a search for heads found, for the profile, the report and the figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from ..errors import ProfileError
from ..profile import HeadProfile
from .units import heads_of

Strategy: TypeAlias = Literal["multi-task", "task-agnostic", "task-specific", "union"]
"""How lists of heads are made of the rankings of several tasks; see `ranking`."""

ByTask: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class HeadList:
    """A list of heads, and how it does on the validation splits.

    Attributes:
        strategy: How it was made.
        of: The task it is for; None for all.
        k: How many of each task's best heads it was made of.
        heads: As `units.label` writes it.
        scores: For each task the mean score, 0 to 1.
    """

    strategy: Strategy
    of: str | None
    k: int
    heads: str
    scores: ByTask

    def mean(self, tasks: tuple[str, ...] | None = None) -> float:
        """Mean over some tasks, or all."""
        chosen = [self.scores.get(name, 0.0) for name in tasks or self.scores]
        return sum(chosen) / max(len(chosen), 1)

    def __len__(self) -> int:
        """Number of heads."""
        return sum(map(len, heads_of(self.heads).values()))


@dataclass(frozen=True)
class Findings:
    """What a search measured. Scores are means of a task's metrics, 0 to 1.

    Attributes:
        model: Name of the model; empty where it has none.
        about: Versions, weights, options and numbers of samples.
        alpha: With which heads were ranked.
        unsteered: For each task, on the training split.
        every: With all heads steered.
        layers: With all heads of each layer steered.
        alone: With each head alone steered: for each task by layer and head, `"3:7"`.
        lists: Lists of heads, on the validation split.
        before: For each task, unsteered on the validation split.
        alphas: The chosen heads with other alphas, on the validation split.
        chosen: The list that the profile steers, with its scores at the chosen alpha.
        chosen_alpha: How strongly.
        perplexity: Of plain text beside emphasized text, "unsteered" and "steered".
        less_fluent: Tasks whose validation answers are less fluent than the task allows when the
            profile steers, and how fluent they are.
        complete: Whether all was measured before the time was up.
    """

    model: str
    about: Mapping[str, Any]
    alpha: float
    unsteered: ByTask
    every: ByTask
    layers: Mapping[str, Mapping[str, float]]
    alone: Mapping[str, Mapping[str, float]]
    lists: tuple[HeadList, ...]
    before: ByTask = field(default_factory=dict)
    alphas: Mapping[str, ByTask] = field(default_factory=dict)
    chosen: HeadList = HeadList("task-specific", None, 0, "", {})
    chosen_alpha: float = 1.0
    perplexity: Mapping[str, float] = field(default_factory=dict)
    less_fluent: ByTask = field(default_factory=dict)
    complete: bool = True

    def profile(self) -> HeadProfile:
        """The profile that the search ends with."""
        return self.profile_of(self.chosen, self.chosen_alpha)

    def profile_of(self, heads: HeadList, alpha: float | None = None) -> HeadProfile:
        """A profile that steers one of the lists."""
        alpha = self.chosen_alpha if alpha is None else alpha
        is_measured = (heads.heads, alpha) == (self.chosen.heads, self.chosen_alpha)
        tasks = ", ".join(self.unsteered)
        made = heads.strategy if heads.of is None else f"{heads.strategy}, for {heads.of}"
        source = (
            f"pasta_chains.profiling: {len(heads)} heads, {made}, of the best {heads.k} of each of "
            f"the tasks {tasks}"
        )
        details = {
            "strategy": heads.strategy,
            "k": heads.k,
            "validation": {
                "alpha": self.chosen_alpha if heads == self.chosen else self.alpha,
                "unsteered": dict(self.before),
                "steered": dict(heads.scores),
            },
            "perplexity": dict(self.perplexity) if is_measured else {},
            "less_fluent": dict(self.less_fluent) if is_measured else {},
            "complete": self.complete,
            "about": dict(self.about),
        }
        return HeadProfile(heads_of(heads.heads), alpha, self.model or None, source, details)

    def best(self, strategy: Strategy, of: str | None = None) -> HeadList:
        """The best list of a strategy: of equally good ones the one with fewest heads.

        A task-agnostic list is judged by the tasks that it was made from, without the one it is
        for.

        Raises:
            ProfileError: There is none.
        """
        lists = [one for one in self.lists if one.strategy == strategy and one.of == of]
        if not lists and len(self.unsteered) == 1:
            raise ProfileError(
                f"The search was for one task, so its lists are 'task-specific'; there is no "
                f"{strategy} one."
            )
        if not lists:
            way_out = f" for {of}" if of else ": no head is among the best k of all tasks"
            way_out += ". Take strategy 'union', or a larger k"
            raise ProfileError(f"The search has no {strategy} list of heads{way_out}.")
        tasks = tuple(self.unsteered)
        if strategy == "task-agnostic":
            tasks = tuple(name for name in tasks if name != of)
        elif of is not None:
            tasks = (of,)
        return max(lists, key=lambda one: (one.mean(tasks), -len(one)))

    def save(self, path: str | Path) -> None:
        """Write all of it as JSON."""
        Path(path).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ProfileError: The file cannot be read, or holds something else.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            lists = tuple(HeadList(**one) for one in data.pop("lists"))
            return cls(lists=lists, chosen=HeadList(**data.pop("chosen")), **data)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ProfileError(
                f"{path} does not hold the findings of a search for heads: {error}"
            ) from error
