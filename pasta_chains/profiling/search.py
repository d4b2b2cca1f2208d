"""Finds the heads to steer (Zhang et al., arXiv 2311.02262, Algorithm 1).

1. On the training split of each task every head is steered alone, and heads are ranked.
2. Lists of heads of several lengths are made of the rankings, and measured on the validation
   split.
3. The best list is measured there with other alphas.
4. What steering does to plain text and to the fluency of answers is measured.

What is measured is kept in a file as it comes, so that a search that was cut off goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..engine import SteeredModel
from ..errors import TaskError
from ..evaluation.about import name_of
from ..evaluation.asking import check_lengths
from ..evaluation.rewriting import with_emphasis
from ..evaluation.splits import Split
from ..profile import HeadProfile
from .ability import less_fluent, neutral_texts, perplexity
from .findings import ByTask, Findings, HeadList
from .lists import candidates, judges
from .measuring import all_heads
from .options import Options
from .origin import about_search
from .ranking import Head, ranked, sizes
from .scores import Scores
from .units import Bench, Tasks, Unit, check_tasks, label
from .workers import Load, Measured, Workers

NOTHING = label(())
FILE_NAME = "measured.jsonl"

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
    options.check(tasks, model.head_counts)
    for task in [task for splits in tasks.values() for task in splits.values()]:
        check_lengths(model, task, with_emphasis)
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
        self._about = about_search(model, tasks, options.batch_size)
        folder.mkdir(parents=True, exist_ok=True)
        self._scores = Scores(tasks, options.batch_size, folder / FILE_NAME, self._about)
        self._started = time.monotonic()
        self._complete = True
        self._heads = [(layer, head) for layer, heads in all_heads(model).items() for head in heads]

    def run(self) -> Findings:
        every, layers = label(self._heads), self._layers()
        wanted = (NOTHING, every, *layers.values())
        coarse = self._means("train", "layers", dict.fromkeys(self._tasks, wanted), 0.2)
        if self._complete:
            for task, means in coarse.items():
                _refuse_hopeless(task, means)
        alone = self._alone(coarse, layers)
        lists, before = self._lists({task: ranked(scores) for task, scores in alone.items()})
        found = self._found({"": every, **{str(n): one for n, one in layers.items()}}, alone)
        found = replace(found, lists=tuple(lists), before=before)
        return self._with_harm(self._decided(found))

    def _found(
        self, coarse: Mapping[str, str], alone: Mapping[str, Mapping[Head, float]]
    ) -> Findings:
        """What was measured on the training split; where time ran out, on the same samples.

        Args:
            coarse: Lists of the heads of each layer, and under "" of all heads.
            alone: For each task its heads.
        """
        heads = {f"{one[0]}:{one[1]}": label([one]) for some in alone.values() for one in some}
        means = {
            task: self._scores.means(
                "train", task, self._options.alpha, [NOTHING, *coarse.values(), *heads.values()]
            )
            for task in alone
        }

        def of(lists: Mapping[str, str]) -> dict[str, dict[str, float]]:
            return {
                task: {name: some[one] for name, one in lists.items() if one in some}
                for task, some in means.items()
            }

        layers = of(coarse)
        return Findings(
            model=name_of(self._model),
            about=self._about,
            alpha=self._options.alpha,
            unsteered={task: some[NOTHING] for task, some in means.items()},
            every={task: some.pop("") for task, some in layers.items() if "" in some},
            layers=layers,
            alone=of(heads),
            lists=(),
        )

    def _layers(self) -> dict[int, str]:
        """Every layer with the list of all its heads."""
        numbers = sorted({layer for layer, _ in self._heads})
        return {
            number: label(head for head in self._heads if head[0] == number) for number in numbers
        }

    def _alone(
        self, coarse: Mapping[str, Mapping[str, float]], layers: Mapping[int, str]
    ) -> dict[str, dict[Head, float]]:
        """For each task how each head does when it alone is steered.

        Heads of the layers that are best as a whole come first: where time runs out, those are
        measured.
        """
        tried = {
            layer: sum(means.get(one, 0.0) for means in coarse.values())
            for layer, one in layers.items()
        }
        order = sorted(tried, key=lambda layer: -tried[layer])[: self._options.best_layers]
        heads = {label([head]): head for layer in order for head in self._heads if head[0] == layer}
        means = self._means("train", "heads", dict.fromkeys(self._tasks, tuple(heads)), 0.75)
        return {
            task: {heads[one]: score for one, score in found.items()}
            for task, found in means.items()
        }

    def _lists(
        self, rankings: Mapping[str, Sequence[Head]]
    ) -> tuple[list[HeadList], dict[str, float]]:
        """Lists of heads made of the rankings, measured on the tasks that they are judged by.

        Returns:
            The lists, and for each task the score without steering.
        """
        fewest = min(map(len, rankings.values()))
        ks = [k for k in self._options.sizes or sizes(fewest) if k <= fewest]
        made = list(candidates(rankings, ks or [fewest]))
        strategy = self._options.strategy_for(self._tasks)
        first = sorted(made, key=lambda one: one.strategy != strategy)  # should time run out
        wanted = {
            task: [NOTHING, *(one.heads for one in first if judges(task, one))]
            for task in self._tasks
        }
        means = self._means("validation", "lists of heads", wanted, 0.9)
        lists = [
            replace(
                one,
                scores={
                    task: found[one.heads]
                    for task, found in means.items()
                    if judges(task, one) and one.heads in found
                },
            )
            for one in made
        ]
        return lists, {task: some[NOTHING] for task, some in means.items() if NOTHING in some}

    def _decided(self, found: Findings) -> Findings:
        """Choose the list and alpha."""
        strategy = self._options.strategy_for(self._tasks)
        of = next(iter(self._tasks)) if len(self._tasks) == 1 else None
        chosen = found.best(strategy, of)
        by_alpha = self._by_alpha(chosen)
        # Of equally good ones the largest, which changes least.
        best = max(by_alpha, key=lambda alpha: sum(by_alpha[alpha].values()), default=None)
        if best is None or str(self._options.alpha) not in by_alpha:
            return replace(found, chosen=chosen, chosen_alpha=self._options.alpha)
        before = {
            task: self._scores.means("validation", task, self._options.alpha, [NOTHING])[NOTHING]
            for task in self._tasks
        }
        chosen = replace(chosen, scores=by_alpha[best])
        return replace(
            found, before=before, alphas=by_alpha, chosen=chosen, chosen_alpha=float(best)
        )

    def _by_alpha(self, chosen: HeadList) -> dict[str, ByTask]:
        """How the chosen heads do with each alpha that was measured on all samples.

        With the alpha that heads were ranked with, no steering is, too.
        """
        found: dict[str, ByTask] = {}
        for alpha in sorted({*self._options.alphas, self._options.alpha}, reverse=True):
            wanted = (NOTHING, chosen.heads) if alpha == self._options.alpha else (chosen.heads,)
            lists = dict.fromkeys(self._tasks, wanted)
            means = self._means("validation", f"alpha {alpha}", lists, 1.0, alpha)
            if not self._missing("validation", lists, alpha):
                found[str(alpha)] = {task: some[chosen.heads] for task, some in means.items()}
        return found

    def _with_harm(self, found: Findings) -> Findings:
        """See what the profile does to plain text, and to answers that must be fluent."""
        asked = {name: splits["validation"] for name, splits in self._tasks.items()}
        texts = neutral_texts([*asked.values()])
        read = {
            "unsteered": perplexity(self._model, texts, HeadProfile({}, 1.0)),
            "steered": perplexity(self._model, texts, found.profile()),
        }
        size = self._options.batch_size
        written = less_fluent(self._model, asked, found.profile(), size)
        return replace(found, perplexity=read, less_fluent=written, complete=self._complete)

    def _means(
        self,
        split: Split,
        stage: str,
        lists: Mapping[str, Sequence[str]],
        share: float,
        alpha: float | None = None,
    ) -> dict[str, dict[str, float]]:
        """Measure lists of heads and give their means, task by task.

        Args:
            split: Where to measure.
            stage: What to tell of the progress.
            lists: What to measure for each task.
            share: Of the time; when it is up, the stage ends.
            alpha: Instead of that of the options.
        """
        alpha = self._options.alpha if alpha is None else alpha
        missing = self._missing(split, lists, alpha)
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
        means = {task: self._scores.means(split, task, alpha, some) for task, some in lists.items()}
        if split == "train" and not all(means.values()):
            raise TaskError(
                f"The time was up before anything was known of the stage {stage!r}. What is "
                "finished is kept: run the search again, with more minutes."
            )
        return means

    def _missing(
        self, split: Split, lists: Mapping[str, Sequence[str]], alpha: float
    ) -> list[Unit]:
        """What is still to measure, batch by batch, so that no task waits for another one."""
        units = [
            unit
            for task, some in lists.items()
            for unit in self._scores.missing(split, task, alpha, some)
        ]
        return sorted(units, key=lambda unit: unit.batch)

    def _is_late(self, share: float) -> bool:
        minutes = self._options.minutes
        return minutes is not None and time.monotonic() - self._started > share * minutes * 60


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
