"""Facts of CounterFact, from rows of the published format."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pasta_chains.errors import TaskError
from pasta_chains.evaluation.counterfact import counterfacts, question_of, read_counterfacts
from pasta_chains.evaluation.paper_prompts import fact_prompt
from pasta_chains.evaluation.records import Counterfact

ROW: dict[str, Any] = {
    "case_id": 0,
    "requested_rewrite": {
        "prompt": "The capital of {} is",
        "relation_id": "P36",
        "target_new": {"str": "Oslo", "id": "Q585"},
        "target_true": {"str": "Reykjavik", "id": "Q1764"},
        "subject": "Iceland",
    },
    "paraphrase_prompts": [
        "She was never seen again. Iceland's capital city is",
        "Its seat is old. Iceland, which has the capital",
        "She was never seen again. Iceland's capital city is",
    ],
    "neighborhood_prompts": ["The capital of Norway is"],
}
FACT = Counterfact(
    "Iceland",
    "The capital of {} is",
    "Oslo",
    "Reykjavik",
    "Iceland's capital city is",
    tuple(ROW["paraphrase_prompts"]),
)


def test_a_fact_is_made_of_a_published_row() -> None:
    assert counterfacts([ROW, ROW]) == [FACT, FACT]
    prompt = fact_prompt(FACT, FACT.question)
    assert prompt.text == (
        "Previously The capital of Iceland is Reykjavik. Currently The capital of Iceland is Oslo. "
        "Iceland's capital city is"
    )
    assert prompt.emphasized() == ("is Oslo",)


def test_a_row_that_the_paper_reformatted_holds_the_published_one() -> None:
    reformatted = {"id": "0", "entity": "Iceland", "context": "…", "attribute": "…", "source": ROW}
    assert counterfacts([reformatted]) == [FACT]


@pytest.mark.parametrize(
    ("before", "question"),
    [
        ("", "The capital of Iceland is"),
        ("He died. ", "The capital of Iceland is"),
        ("He died. She left! Who knows? ", "Iceland's capital city is"),
        ("He died.", "Iceland's capital city is"),
        ("The population density was . ", "Iceland's capital city is"),
        ("He said: “Go.” ", "Iceland's capital city is"),
        ("It was (see above.) ", "Iceland's capital city is"),
        ("Dr. J. Doe came at 5 p.m. ", "In Iceland, they understand"),
        ("References\n\nExternal links\n", "The capital of Iceland is"),
        ("Iceland is cold. ", "Iceland's capital city is"),
        ("Category:Countries in Europe Category:", "Iceland's capital city is"),
        ("Category:Islands of the North\n", "Iceland's capital city is"),
        ("John Doe (b. ", "Iceland's capital city is"),
        ("The word (tr. ", "Iceland's capital city is"),
        ("A film (min. ", "Iceland's capital city is"),
        ("He died. ", "What is the capital of Iceland? It is"),
        ("", "What is the capital of Iceland? It is"),
    ],
)
def test_what_stands_before_the_question_goes(before: str, question: str) -> None:
    assert question_of(before + question, "Iceland") == question


def test_a_subject_with_a_period_stays_whole() -> None:
    assert question_of("He left. The home of St. Mary is", "St. Mary") == "The home of St. Mary is"


def test_a_paraphrase_without_the_subject_stays() -> None:
    assert question_of("No one on the ground was injured.  v", "Iceland") == (
        "No one on the ground was injured.  v"
    )
    assert question_of("Title\n Category: x. y ", "Iceland") == "Category: x. y"


@given(st.text(st.sampled_from("ab.?!\n (:Category”")) | st.text(), st.text(min_size=1))
@settings(max_examples=300, deadline=None)
def test_any_paraphrase_ends_with_its_question(text: str, subject: str) -> None:
    last = text.split("\n")[-1].strip()
    question = question_of(text, subject)
    assert last.endswith(question)
    assert (subject.strip() in question) or subject not in last


def changed(path: str, value: Any) -> dict[str, Any]:
    row = copy.deepcopy(ROW)
    *outer, name = path.split(".")
    inner = row
    for one in outer:
        inner = inner[one]
    if value is None:
        del inner[name]
    else:
        inner[name] = value
    return row


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("requested_rewrite", None, "Row 2 has no field 'requested_rewrite.prompt'"),
        ("requested_rewrite.prompt", None, "Row 2 has no field 'requested_rewrite.prompt'"),
        ("requested_rewrite.subject", None, "Row 2 has no field 'requested_rewrite.subject'"),
        ("requested_rewrite.target_new", None, "no field 'requested_rewrite.target_new.str'"),
        ("requested_rewrite.target_new", "Oslo", "no field 'requested_rewrite.target_new.str'"),
        ("requested_rewrite.target_true.str", None, "field 'requested_rewrite.target_true.str'"),
        ("requested_rewrite.target_true.str", " ", "of row 2 is ' '; it must be a text"),
        ("requested_rewrite.prompt", "Its capital is", "of row 2 is 'Its .* must have one {}, wh"),
        ("requested_rewrite.prompt", "{} {}", "it must have one {}, where the subject stands"),
        ("paraphrase_prompts", None, "Row 2 has no field 'paraphrase_prompts'"),
        ("paraphrase_prompts", [], r"of row 2 is \[\]; it must be a list of texts"),
        ("paraphrase_prompts", "text", "of row 2 is 'text'; it must be a list of texts"),
        ("paraphrase_prompts", [1] * 99, r"of row 2 is \[1, 1, .*\.\.\.; it must be a list of"),
        ("source", {}, "Row 2 has no field"),
    ],
)
def test_a_wrong_row_is_told(path: str, value: Any, message: str) -> None:
    bad = {"source": value} if path == "source" else changed(path, value)
    with pytest.raises(TaskError, match=message):
        counterfacts([ROW, bad])


def test_the_published_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "counterfact.json"
    file.write_text(json.dumps([ROW]), encoding="utf-8")
    assert read_counterfacts(file) == [FACT]
