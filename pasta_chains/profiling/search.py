"""Finds the heads to steer (Zhang et al., arXiv 2311.02262, Algorithm 1).

1. On the training split of each task every head is steered alone, and heads are ranked.
2. Lists of heads of several lengths are made of the rankings, and measured on the validation
   split.
3. The best list is measured there with other alphas.
4. What steering does to plain text is measured.

What is measured is kept in a file as it comes, so that a search that was cut off goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..engine import SteeredModel
from ..errors import TaskError
from ..evaluation.harness import about_run, digest_of
from ..evaluation.splits import Split
from ..profile import HeadProfile
from .ability import neutral_texts, perplexity
from .findings import Findings, HeadList, Strategy
from .measuring import all_heads
from .ranking import Head, intersection, ranked, sizes, task_specific, union
from .scores import Scores
from .units import Bench, Tasks, Unit, check_tasks, label
from .workers import Load, Measured, Workers

NOTHING = label(())
STRATEGIES: tuple[Strategy, ...] = ("multi-task", "union", "task-specific")
"""Those that a profile can be made with; a task-agnostic list is for a task that has none."""

ALPHAS = (0.3, 0.1, 0.03, 0.01, 0.003)
FILE_NAME = "measured.jsonl"


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


Progress = Callable[[str, int, int], None]
"""Told the name of a stage, what of it is measured, and how much there is to measure in it."""


def find_heads(
    model: SteeredModel,
    tasks: Tasks,
    folder: Path,
    options: Options | None = None,
    *,
    processes: int = 1,
    load: Load | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Findings:
    """Search for the heads that make a model follow emphasis.

    Args:
        model: The model. While the search runs nobody else may use it.
        tasks: What it is to do better.
        folder: Where measurements are kept; another call with the same arguments goes on from them.
        options: How to search.
        processes: How many measure at the same time.
        load: Loads the model in each of several processes.
        progress: Told how far the search is.

    Raises:
        TaskError: There is nothing to find: too few samples, or the model does everything right
            unsteered; or the folder holds another search.
        PastaError: A prompt cannot be asked.
    """
    options = options or Options()
    check_tasks(tasks)
    if processes > 1:
        if load is None:
            raise TaskError("Several processes each load the model: pass load.")
        with Workers(processes, load, tasks, options.batch_size) as workers:
            search = _Search(model, tasks, folder, options, workers.measure, progress)
            return search.run()
    bench = Bench(model, tasks, options.batch_size)
    return _Search(model, tasks, folder, options, _measure_with(bench), progress).run()


def _measure_with(bench: Bench) -> Callable[[Sequence[Unit]], Measured]:
    def measure(units: Sequence[Unit]) -> Measured:
        for unit in units:
            for heads, scores in bench.measure(unit):
                yield unit, heads, scores

    return measure


class _Search:
    """One search: its stages, one after the other."""

    def __init__(
        self,
        model: SteeredModel,
        tasks: Tasks,
        folder: Path,
        options: Options,
        measure: Callable[[Sequence[Unit]], Measured],
        progress: Progress,
    ) -> None:
        self._model, self._tasks, self._options = model, tasks, options
        self._measure, self._progress = measure, progress
        self._about = _about(model, tasks, options)
        folder.mkdir(parents=True, exist_ok=True)
        self._scores = Scores(tasks, options.batch_size, folder / FILE_NAME, self._about)
        self._started = time.monotonic()
        self._complete = True
        self._heads = [(layer, head) for layer, heads in all_heads(model).items() for head in heads]

    def run(self) -> Findings:
        every, layers = label(self._heads), self._layers()
        coarse = self._means("train", "layers", [NOTHING, every, *layers.values()], 0.2)
        for task, means in coarse.items():
            _refuse_hopeless(task, means)
        alone = self._alone(coarse, layers)
        lists = self._lists({task: ranked(scores) for task, scores in alone.items()})
        found = Findings(
            model=self._model.name,
            about=self._about,
            alpha=self._options.alpha,
            unsteered={task: means[NOTHING] for task, means in coarse.items()},
            every={task: means[every] for task, means in coarse.items() if every in means},
            layers={
                task: {str(layer): means[one] for layer, one in layers.items() if one in means}
                for task, means in coarse.items()
            },
            alone={
                task: {f"{layer}:{head}": score for (layer, head), score in scores.items()}
                for task, scores in alone.items()
            },
            lists=tuple(lists),
        )
        return self._decided(found)

    def _layers(self) -> dict[int, str]:
        """Every layer with the list of all its heads."""
        numbers = sorted({layer for layer, _ in self._heads})
        return {
            number: label(head for head in self._heads if head[0] == number) for number in numbers
        }

    def _alone(
        self, coarse: Mapping[str, Mapping[str, float]], layers: Mapping[int, str]
    ) -> dict[str, dict[Head, float]]:
        """For each task how each head does when it alone is steered."""
        searched = set(layers)
        if self._options.best_layers is not None:
            tried = {
                layer: sum(means.get(one, 0.0) for means in coarse.values())
                for layer, one in layers.items()
            }
            order = sorted(tried, key=lambda layer: -tried[layer])
            searched = set(order[: self._options.best_layers])
        heads = {label([head]): head for head in self._heads if head[0] in searched}
        means = self._means("train", "heads", [*heads], 0.75)
        return {
            task: {heads[one]: score for one, score in found.items()}
            for task, found in means.items()
        }

    def _lists(self, rankings: Mapping[str, list[Head]]) -> list[HeadList]:
        """Lists of heads made of the rankings, measured on the tasks that they are judged by."""
        fewest = min(map(len, rankings.values()))
        ks = [k for k in self._options.sizes or sizes(len(self._heads)) if k <= fewest]
        made = list(_candidates(rankings, ks or [fewest]))
        found: dict[tuple[str, str], float] = {}
        for task in rankings:
            wanted = [one.heads for one in made if _judges(task, one)]
            means = self._means("validation", "lists of heads", wanted, 0.9, only=task)
            found |= {(one, task): score for one, score in means[task].items()}
        return [
            replace(
                one,
                scores={
                    task: found[key] for task in rankings if (key := (one.heads, task)) in found
                },
            )
            for one in made
        ]

    def _decided(self, found: Findings) -> Findings:
        """Choose the list and alpha, and see what they do to plain text."""
        several = len(self._tasks) > 1
        strategy = self._options.strategy or ("multi-task" if several else "task-specific")
        chosen = found.best(strategy, None if several else next(iter(self._tasks)))
        by_alpha = {}
        for alpha in sorted({*self._options.alphas, self._options.alpha}, reverse=True):
            means = self._means("validation", f"alpha {alpha}", [chosen.heads], 1.0, alpha)
            by_alpha[str(alpha)] = {
                task: some[chosen.heads] for task, some in means.items() if chosen.heads in some
            }
        # Of equally good ones the largest, which changes least.
        whole = {alpha: some for alpha, some in by_alpha.items() if len(some) == len(self._tasks)}
        best = max(whole, key=lambda alpha: sum(whole[alpha].values()), default=None)
        alpha = self._options.alpha if best is None else float(best)
        found = replace(found, alphas=by_alpha, chosen=chosen, chosen_alpha=alpha)
        texts = neutral_texts([splits["validation"] for splits in self._tasks.values()])
        read = {
            "unsteered": perplexity(self._model, texts, HeadProfile({}, 1.0)),
            "steered": perplexity(self._model, texts, found.profile()),
        }
        return replace(found, perplexity=read, complete=self._complete)

    def _means(
        self,
        split: Split,
        stage: str,
        lists: Sequence[str],
        share: float,
        alpha: float | None = None,
        only: str | None = None,
    ) -> dict[str, dict[str, float]]:
        """Measure lists of heads for every task, or only one, and give their means.

        Args:
            split: Where to measure.
            stage: What to tell of the progress.
            lists: What to measure.
            share: Of the time; when it is up, the stage ends.
            alpha: Instead of that of the options.
            only: The one task.
        """
        alpha = self._options.alpha if alpha is None else alpha
        tasks = [only] if only else [*self._tasks]
        missing = [
            unit for task in tasks for unit in self._scores.missing(split, task, alpha, lists)
        ]
        missing.sort(key=lambda unit: unit.batch)  # so that no task waits for another one
        total, done = sum(len(unit.lists) for unit in missing), 0
        self._progress(stage, done, total)
        if missing and not self._is_late(share):
            measured = self._measure(missing)
            for unit, heads, scores in measured:
                self._scores.keep(unit, heads, scores)
                done += 1
                self._progress(stage, done, total)
                if self._is_late(share):
                    measured.close()
                    break
        self._complete = self._complete and done == total
        means = {task: self._scores.means(split, task, alpha, lists) for task in tasks}
        if split == "train" and not all(means.values()):
            raise TaskError(
                f"The time was up before anything was known of the stage {stage!r}. What is "
                "finished is kept: run the search again, with more minutes."
            )
        return means

    def _is_late(self, share: float) -> bool:
        minutes = self._options.minutes
        return minutes is not None and time.monotonic() - self._started > share * minutes * 60


def _candidates(rankings: Mapping[str, list[Head]], ks: Sequence[int]) -> Iterator[HeadList]:
    """Lists of heads by every strategy that so many tasks allow."""
    several = len(rankings) > 1
    for k in ks:
        for task, ranking in rankings.items():
            yield HeadList("task-specific", task, k, label(task_specific(ranking, k)), {})
        if several:
            yield HeadList("union", None, k, label(union(rankings.values(), k)), {})
            common = intersection(rankings.values(), k)
            if common:
                yield HeadList("multi-task", None, k, label(common), {})
        for task in rankings if len(rankings) > 2 else ():
            others = [ranking for name, ranking in rankings.items() if name != task]
            common = intersection(others, k)
            if common:
                yield HeadList("task-agnostic", task, k, label(common), {})


def _judges(task: str, heads: HeadList) -> bool:
    """Whether a list of heads is measured on a task: a task-agnostic one is not on its own."""
    if heads.strategy == "task-agnostic":
        return heads.of != task
    return heads.of in (None, task)


def _refuse_hopeless(task: str, means: Mapping[str, float]) -> None:
    if means[NOTHING] == 1.0:
        raise TaskError(
            f"The model does the whole task {task!r} right without steering, so there is nothing "
            "to find. Take a harder task, or samples that it gets wrong."
        )
    if not any(means.values()):
        raise TaskError(
            f"The model does the whole task {task!r} wrong, steered or not, so no head can be "
            "told from another. Take an easier task, and look whether its answers are what the "
            "task expects."
        )


def _about(model: SteeredModel, tasks: Tasks, options: Options) -> dict[str, Any]:
    """What measurements depend on. Only the batch size of the options does."""
    return {
        **about_run(model),
        "batch_size": options.batch_size,
        "tasks": {
            name: {split: [len(task.samples), digest_of(task)] for split, task in splits.items()}
            for name, splits in tasks.items()
        },
    }
