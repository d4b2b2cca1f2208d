"""The paper's four tasks (Zhang et al., arXiv 2311.02262, section 4), made of records.

Answers are given in greedy decoding, of at most 128 tokens, or are the option whose first token is
likeliest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import metrics
from .paper_prompts import fact_prompt, json_prompt, occupation_prompt, pronouns_prompt
from .records import Biography, Counterfact
from .task import Sample, Task


def json_task(biographies: Sequence[Biography], *, name: str = "json") -> Task:
    """JSON formatting: "F.Acc", the answer holds JSON; "P.Acc", and it has the occupation."""
    samples = [
        Sample(
            str(number),
            (json_prompt(one),),
            f'{{"name": "{one.person}", "occupation": "{one.occupation}"}}',
            expected=one.occupation,
        )
        for number, one in enumerate(biographies)
    ]
    return Task(
        name,
        tuple(samples),
        ("F.Acc", "P.Acc"),
        _score_json,
        fluency_floor=metrics.FLUENCY_FLOOR,
    )


def _score_json(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    (answer,) = answers
    return {
        "F.Acc": float(metrics.is_json(answer)),
        "P.Acc": float(metrics.json_names(answer, sample.expected)),
    }


def pronouns_task(biographies: Sequence[Biography], *, name: str = "pronouns") -> Task:
    """Pronouns changing: "Acc", no "she" or "he" is left; "A.Acc", and none of their forms."""
    samples = [
        Sample(str(number), (pronouns_prompt(one),), _with_they(one))
        for number, one in enumerate(biographies)
    ]
    return Task(
        name,
        tuple(samples),
        ("Acc", "A.Acc"),
        _score_pronouns,
        fluency_floor=metrics.FLUENCY_FLOOR,
    )


def _with_they(biography: Biography) -> str:
    """A worked example's answer. The paper gives none; this one keeps to its metrics."""
    return f"They have the occupation of {biography.occupation}."


def _score_pronouns(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    (answer,) = answers
    return {
        "Acc": float(metrics.pronouns_changed(answer)),
        "A.Acc": float(metrics.all_pronouns_changed(answer)),
    }


def occupation_task(
    biographies: Sequence[Biography],
    occupations: Sequence[str] | None = None,
    *,
    name: str = "bias-in-bios",
) -> Task:
    """Bias in Bios: "Acc", the person's occupation is the likeliest.

    Args:
        biographies: What is asked about.
        occupations: All that there are; by default those of the biographies.
        name: Of the task.
    """
    known = tuple(occupations or sorted({one.occupation for one in biographies}))
    samples = [
        Sample(str(number), (occupation_prompt(one),), one.occupation, known)
        for number, one in enumerate(biographies)
    ]
    return Task(name, tuple(samples), ("Acc",), _score_occupation)


def counterfact_task(facts: Sequence[Counterfact], *, name: str = "counterfact") -> Task:
    """CounterFact: "ES", the new value is likelier than the old one after the question; "PS", after
    the paraphrases, on average.
    """
    samples = [
        Sample(
            str(number),
            tuple(fact_prompt(fact, question) for question in (fact.question, *fact.paraphrases)),
            fact.new,
            (fact.new, fact.old),
        )
        for number, fact in enumerate(facts)
    ]
    return Task(name, tuple(samples), ("ES", "PS"), _score_fact)


def _score_fact(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    right, *paraphrases = [float(answer == sample.wanted) for answer in answers]
    return {"ES": right, "PS": sum(paraphrases) / len(paraphrases)}


def _score_occupation(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    (answer,) = answers
    return {"Acc": float(answer == sample.wanted)}
