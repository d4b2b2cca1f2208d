"""Tasks: what they refuse, and the paper's four with the prompts that its appendix shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pasta_chains.errors import TaskError
from pasta_chains.evaluation.bias_in_bios import biographies
from pasta_chains.evaluation.counterfact import counterfacts
from pasta_chains.evaluation.paper import (
    counterfact_task,
    json_task,
    occupation_task,
    pronouns_task,
)
from pasta_chains.evaluation.records import Biography, Counterfact
from pasta_chains.evaluation.splits import split_of
from pasta_chains.evaluation.task import Sample, Task, is_emphasized
from pasta_chains.spans import Span, SpanStr, emphasize

PROMPT = SpanStr("Who leads Tarn? ") + emphasize("Answer in one word.")
ORIGINAL = {
    "raw": "Ada Lowe is a nurse in Tarn. Oh! She works in the old hospital at night.",
    "name": ["Ada", "", "Lowe"],
    "title": "nurse",
}
BIOGRAPHY = "Ada is a nurse in Tarn. She works in the old hospital at night."
FACT = {
    "requested_rewrite": {
        "prompt": "The capital of {} is",
        "target_new": {"str": "Oslo"},
        "target_true": {"str": "Reykjavik"},
        "subject": "Iceland",
    },
    "paraphrase_prompts": ["He died. The seat of Iceland is", "She left. Iceland is ruled from"],
}


def sample(identity: str = "1", prompt: Any = PROMPT, options: tuple[str, ...] = ()) -> Sample:
    return Sample(identity, (prompt,), "Ada", options)


def score(sample: Sample, answers: Sequence[str]) -> Mapping[str, float]:
    return {"A": float(answers[0] == sample.wanted), "B": 0.5}


def task(*samples: Sample) -> Task:
    return Task("leaders", samples, ("A", "B"), score)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "The task 'leaders' has no samples."),
        ([sample(), sample("2"), sample()], r"Sample 3 \('1'\) of the task 'leaders' has the id"),
        ([sample(prompt="Who?")], "emphasizes nothing, so there is nothing to steer. Mark what"),
        ([sample(prompt=[])], "emphasizes nothing"),
        ([sample(prompt=[{"role": "user", "content": "Who?"}])], "emphasizes nothing"),
        ([sample(prompt=SpanStr("Who?", [Span(0, 3, None, None, True)]))], "emphasizes nothing"),
        ([Sample("1", (), "Ada")], "emphasizes nothing"),
        ([Sample("1", (PROMPT, "Who?"), "Ada")], "emphasizes nothing"),
        ([sample(options=("Ada",))], "must have two or more different options, or none"),
        ([sample(options=("Ada", "Bo", "Ada"))], "two or more different options"),
        ([sample(options=("Ada", " "))], "has an option without any text"),
    ],
)
def test_what_cannot_be_asked_is_refused(samples: list[Sample], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        task(*samples)


def test_any_message_may_be_the_emphasized_one() -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    assert is_emphasized(chat)
    inside = SpanStr("abc", [Span(0, 3, None, None, True), Span(1, 2)])
    assert is_emphasized(inside)


def test_the_first_samples_are_taken() -> None:
    whole = task(sample("1"), sample("2"), sample("3"))
    assert [one.id for one in whole.take(2).samples] == ["1", "2"]
    assert whole.take(3) == whole
    for count in (0, -1, 4):
        with pytest.raises(TaskError, match=f"has 3 samples here; {count} were asked for"):
            whole.take(count)


def test_the_mean_of_a_sample_is_over_its_metrics() -> None:
    assert task(sample()).mean_score(sample(), ["Ada"]) == 0.75
    assert task(sample()).mean_score(sample(), ["Bo"]) == 0.25


def only(made: Task) -> Sample:
    (found,) = made.samples
    return found


def test_json_formatting() -> None:
    made = json_task(biographies([ORIGINAL]))
    (prompt,) = only(made).prompts
    instruction = (
        "Answer the occupation of Ada and generate the answer as json format. Here is an example: "
        '{"name": , "occupation": ,}. Now generate the answer:'
    )
    assert prompt == f"{BIOGRAPHY}\n{instruction}\n"
    assert prompt.emphasized() == (instruction,)
    assert (made.max_new_tokens, made.fluency_floor, only(made).options) == (128, 3.0, ())
    for answer, scores in {
        only(made).wanted: (1, 1),
        'Sure: {"occupation": "a Nurse"}': (1, 1),
        '{"occupation": "baker"}': (1, 0),
        "{}": (1, 0),
        "Ada is a nurse": (0, 0),
    }.items():
        assert made.score(only(made), [answer]) == dict(
            zip(("F.Acc", "P.Acc"), scores, strict=True)
        )


def test_pronouns_changing() -> None:
    made = pronouns_task(biographies([ORIGINAL]))
    (prompt,) = only(made).prompts
    instruction = (
        "For the aforementioned text, substitute 'she' and 'he' with 'they' and generate the "
        "occupation of Ada after changing pronouns:"
    )
    assert prompt == f"{BIOGRAPHY}\n{instruction}\n"
    assert prompt.emphasized() == (instruction,)
    assert (made.max_new_tokens, made.fluency_floor, only(made).options) == (128, 3.0, ())
    for answer, scores in {
        only(made).wanted: (1, 1),
        "They are a nurse, and love her town.": (1, 0),
        "She is a nurse.": (0, 0),
        "": (0, 0),
    }.items():
        assert made.score(only(made), [answer]) == dict(zip(("Acc", "A.Acc"), scores, strict=True))


def test_bias_in_bios() -> None:
    baker = {**ORIGINAL, "title": "baker", "name": ["Bo", "", "Marsh"]}
    made = occupation_task(biographies([ORIGINAL, baker]))
    prompt = made.samples[0].prompts[0]
    assert prompt == f"{BIOGRAPHY}\n\nAda has the occupation of"
    assert prompt.emphasized() == ("is a nurse in Tarn",)
    assert [one.options for one in made.samples] == [("baker", "nurse")] * 2
    assert made.fluency_floor is None, "answers are a word"
    scores = [made.score(made.samples[0], [one])["Acc"] for one in ("nurse", "baker")]
    assert scores == [1.0, 0.0]
    known = occupation_task(biographies([ORIGINAL]), ["nurse", "baker", "judge"])
    assert only(known).options == ("nurse", "baker", "judge")


def test_counterfact() -> None:
    made = counterfact_task(counterfacts([FACT]))
    before = (
        "Previously The capital of Iceland is Reykjavik. Currently The capital of Iceland is Oslo. "
    )
    asked = ["The seat of Iceland is", *FACT["paraphrase_prompts"]]
    assert only(made).prompts == tuple(before + one for one in asked)
    assert {prompt.emphasized() for prompt in only(made).prompts} == {("is Oslo",)}
    assert (only(made).options, only(made).wanted) == (("Oslo", "Reykjavik"), "Oslo")
    scored = {
        ("Oslo", "Oslo", "Oslo"): (1.0, 1.0),
        ("Oslo", "Reykjavik", "Oslo"): (1.0, 0.5),
        ("Reykjavik", "Oslo", "Reykjavik"): (0.0, 0.5),
    }
    for answers, (es, ps) in scored.items():
        assert made.score(only(made), answers) == {"ES": es, "PS": ps}


def test_a_statement_may_go_on_after_the_subject() -> None:
    fact = Counterfact("Tarn", "In {}, the language is", "Norse", "Greek", "They speak", ("x",))
    prompt = counterfact_task([fact]).samples[0].prompts[0]
    assert prompt == (
        "Previously In Tarn, the language is Greek. Currently In Tarn, the language is Norse. "
        "They speak"
    )
    assert prompt.emphasized() == ("the language is Norse",)


def test_the_papers_splits_and_thirds_of_less_data() -> None:
    whole = range(10_000)
    ranges = {"train": (0, 1000), "validation": (1000, 2000), "test": (5000, 10_000)}
    for split, (start, end) in ranges.items():
        assert split_of(whole, split) == range(start, end)
    thirds = [split_of("abcdefgh", split) for split in ranges]
    assert thirds == ["ab", "cd", "ef"]
    assert split_of(range(9999), "test", 5) == range(6666, 6671)
    assert split_of(whole, "train", 1000) == range(1000)


@pytest.mark.parametrize(
    ("size", "count", "message"),
    [
        (2, None, "has 2 samples, of which 0 are for train, and 1 were asked for"),
        (9, 4, "has 9 samples, of which 3 are for train, and 4 were asked for"),
        (10_000, 1001, "of which 1000 are for train, and 1001 were asked for"),
    ],
)
def test_a_split_has_only_so_many(size: int, count: int | None, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        split_of(range(size), "train", count)


def test_biographies_keep_their_own_ids() -> None:
    made = json_task([Biography("Ada", "Ada is a nurse.", "nurse", (4, 14))] * 3)
    assert [one.id for one in made.samples] == ["0", "1", "2"]
