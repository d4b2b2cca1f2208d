"""Held-out questions, and how often a model answers them as wanted, with and without emphasis."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from ..emphasis_model import EmphasisModel
from ..prompts import Prompt
from ..spans import SpanStr
from ..template import Environment
from .tasks import ABSTAIN
from .world import Difficulty, Reading, World

DISAGREEING = Difficulty(conflicts=1.0, unanswerable=0.0, questions=1)
AGREEING = Difficulty(conflicts=0.0, unanswerable=0.0, questions=1)
UNANSWERABLE = Difficulty(conflicts=0.0, unanswerable=1.0, questions=1)

NEW_PHRASINGS = 0.2
"""Share of statements and questions phrased in ways that training never used."""

Outcome: TypeAlias = Literal["wanted", "other", "neither"]

_BATCH = 50
_NEW_TOKENS = 64


@dataclass(frozen=True)
class Case:
    """One question about documents.

    Attributes:
        documents: What the model reads.
        question: What it is asked.
        wanted: The trusted document's value; None when no document answers.
        trusted: Which document that is.
        other: The value of the document that disagrees, if one does.
        disputed: Which document that is.
    """

    documents: tuple[str, ...]
    question: str
    wanted: str | None
    trusted: int | None
    other: str | None = None
    disputed: int | None = None


def draw_cases(difficulty: Difficulty, count: int, seed: int) -> list[Case]:
    """Draw held-out questions: names that training never used, a fifth of phrasings new."""
    world = World(Random(seed), held_out=True, new_phrasings=NEW_PHRASINGS)
    cases: list[Case] = []
    while len(cases) < count:
        case = _case(world.reading(difficulty), world.rng)
        if difficulty.conflicts < 1 or case.other is not None:
            cases.append(case)
    return cases


def _case(reading: Reading, rng: Random) -> Case:
    question = reading.questions[0]
    if not question.answers:
        return Case(reading.documents, question.text, None, None)
    answers = list(question.answers)
    rng.shuffle(answers)
    (trusted, fact), *others = answers
    if not others:
        return Case(reading.documents, question.text, fact.value, trusted)
    disputed, other = others[0]
    return Case(reading.documents, question.text, fact.value, trusted, other.value, disputed)


def states(answer: str, value: str) -> bool:
    """Whether an answer contains a value as whole words, in any case."""
    pattern = rf"(?<!\w){re.escape(value)}(?!\w)"
    return re.search(pattern, answer, re.IGNORECASE) is not None


def outcome(answer: str, case: Case) -> Outcome:
    """What an answer is: the wanted one, the disagreeing document's, or neither (or both)."""
    if case.wanted is None:
        return "wanted" if answer.strip() == ABSTAIN else "neither"
    wanted = states(answer, case.wanted)
    other = case.other is not None and states(answer, case.other)
    if wanted == other:
        return "neither"
    return "wanted" if wanted else "other"


def prompt_of(
    case: Case, emphasized: int | None = None, mark: Callable[[str], str] | None = None
) -> SpanStr:
    """Render a case with `rag/qa.jinja`.

    Args:
        case: The question.
        emphasized: Number of the document to emphasize.
        mark: What to do to the trusted document instead, such as setting it in capitals.
    """
    texts = list(case.documents)
    if mark is not None and case.trusted is not None:
        texts[case.trusted] = mark(texts[case.trusted])
    documents = [{"text": text, "trusted": i == emphasized} for i, text in enumerate(texts)]
    template = Environment().get_template("rag/qa.jinja")
    return SpanStr(template.render(documents=documents, question=case.question))


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        group: What the questions have in common.
        condition: What was done to the prompt.
        outcomes: One for each question.
    """

    group: str
    condition: str
    outcomes: tuple[Outcome, ...]

    def share(self, outcome: Outcome) -> float:
        """Share of the questions with an outcome, 0 to 1."""
        return self.outcomes.count(outcome) / len(self.outcomes)


_Render = Callable[[Case], SpanStr]
_CONDITIONS: Sequence[tuple[str, Difficulty, int, str, _Render]] = (
    ("Two documents disagree", DISAGREEING, 1, "no emphasis", prompt_of),
    ("Two documents disagree", DISAGREEING, 1, "trusted document in *asterisks*",
     lambda case: prompt_of(case, mark=lambda text: f"*{text}*")),
    ("Two documents disagree", DISAGREEING, 1, "trusted document in CAPITALS",
     lambda case: prompt_of(case, mark=str.upper)),
    ("Two documents disagree", DISAGREEING, 1, "trusted document emphasized",
     lambda case: prompt_of(case, case.trusted)),
    ("Two documents disagree", DISAGREEING, 1, "other document emphasized",
     lambda case: prompt_of(case, case.disputed)),
    ("One document answers", AGREEING, 2, "no emphasis", prompt_of),
    ("One document answers", AGREEING, 2, "right document emphasized",
     lambda case: prompt_of(case, case.trusted)),
    ("No document answers", UNANSWERABLE, 3, "no emphasis", prompt_of),
)  # fmt: skip


def evaluate(
    model: EmphasisModel,
    count: int,
    *,
    chat: bool,
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Row]:
    """Ask held-out questions in every condition; count what the answers were.

    Args:
        model: The model to ask.
        count: Questions in each group.
        chat: Ask through the model's chat template.
        progress: Called with the number of questions answered since the last call.
    """
    for group, difficulty, seed, condition, render in _CONDITIONS:
        cases = draw_cases(difficulty, count, seed)
        answers = answer_all(model, [render(case) for case in cases], chat=chat, progress=progress)
        yield Row(group, condition, tuple(map(outcome, answers, cases)))


def rows_to_ask(count: int) -> int:
    """Number of questions that `evaluate` asks."""
    return count * len(_CONDITIONS)


def answer_all(
    model: EmphasisModel,
    prompts: Sequence[SpanStr],
    *,
    chat: bool,
    progress: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Answer prompts in batches of similar length, in the order given."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        batch: list[Prompt] = [
            [{"role": "user", "content": prompts[i]}] if chat else prompts[i] for i in chosen
        ]
        for i, answer in zip(
            chosen, model.generate(batch, max_new_tokens=_NEW_TOKENS), strict=True
        ):
            answers[i] = answer
        progress(len(chosen))
    return answers
