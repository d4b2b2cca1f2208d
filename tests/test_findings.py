"""What a search found: which list is best, and the profile that is made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pasta_chains.errors import ProfileError
from pasta_chains.profiling.findings import Findings, HeadList

LISTS = (
    HeadList("multi-task", None, 9, "0:0,1,2", {"a": 0.5, "b": 0.7, "c": 0.6}),
    HeadList("multi-task", None, 5, "0:0,1", {"a": 0.6, "b": 0.6, "c": 0.6}),
    HeadList("multi-task", None, 2, "0:0", {"a": 0.9, "b": 0.8}),  # c was not measured
    HeadList("union", None, 5, "1:0,1,2", {"a": 0.5, "b": 0.5, "c": 0.5}),
    HeadList("task-specific", "a", 2, "2:0,1", {"a": 0.8}),
    HeadList("task-specific", "a", 1, "2:0", {"a": 0.8}),
    HeadList("task-agnostic", "a", 2, "3:0", {"b": 0.2, "c": 0.2}),
    HeadList("task-agnostic", "a", 3, "3:1,2", {"b": 0.9, "c": 0.2}),
)
FOUND = Findings(
    model="some/model",
    about={"torch": "2"},
    alpha=0.01,
    unsteered={"a": 0.1, "b": 0.2, "c": 0.3},
    every={},
    layers={},
    alone={},
    lists=LISTS,
    before={"a": 0.15, "b": 0.25, "c": 0.35},
    chosen=replace(LISTS[1], scores={"a": 0.7, "b": 0.7, "c": 0.7}),
    chosen_alpha=0.1,
    perplexity={"unsteered": 3.0, "steered": 3.5},
)


def test_the_best_list_is_the_shortest_of_equally_good_ones() -> None:
    assert FOUND.best("multi-task").heads == "0:0,1"  # and not one that a task is missing of
    assert FOUND.best("union").heads == "1:0,1,2"
    assert FOUND.best("task-specific", "a").heads == "2:0"
    assert FOUND.best("task-agnostic", "a").heads == "3:1,2"


def test_a_list_that_is_not_there_is_told() -> None:
    with pytest.raises(ProfileError, match="no task-specific list of heads for b"):
        FOUND.best("task-specific", "b")
    with pytest.raises(ProfileError, match=r"no head is among the best k of all tasks.*'union'"):
        replace(FOUND, lists=()).best("multi-task")


def test_a_search_for_one_task_has_its_own_lists_alone() -> None:
    with pytest.raises(ProfileError, match=r"for one task, so .* there is no union one"):
        replace(FOUND, lists=LISTS[4:6], unsteered={"a": 0.1}).best("union")


def test_perplexity_is_told_of_what_it_was_measured_with() -> None:
    assert FOUND.profile_of(LISTS[0]).details["perplexity"] == {}
    assert FOUND.profile_of(FOUND.chosen, alpha=0.5).details["perplexity"] == {}
    assert FOUND.profile().details["perplexity"] == FOUND.perplexity


def test_the_profile_has_the_chosen_heads_and_alpha_and_says_what_was_measured() -> None:
    profile = FOUND.profile()
    assert (profile.heads, profile.alpha, profile.model) == ({0: (0, 1)}, 0.1, "some/model")
    assert profile.source is not None
    assert "2 heads, multi-task, of the best 5 of each of the tasks a, b, c" in profile.source
    assert profile.details == {
        "strategy": "multi-task",
        "k": 5,
        "validation": {
            "alpha": 0.1,
            "unsteered": {"a": 0.15, "b": 0.25, "c": 0.35},
            "steered": {"a": 0.7, "b": 0.7, "c": 0.7},
        },
        "perplexity": {"unsteered": 3.0, "steered": 3.5},
        "less_fluent": {},
        "complete": True,
        "about": {"torch": "2"},
    }


def test_the_profile_of_another_list_says_with_which_alpha_it_was_measured() -> None:
    profile = FOUND.profile_of(LISTS[3])
    assert (profile.heads, profile.alpha) == ({1: (0, 1, 2)}, 0.1)
    assert profile.details is not None
    assert profile.details["validation"]["alpha"] == 0.01
    assert FOUND.profile_of(LISTS[3], 0.3).alpha == 0.3
    assert replace(FOUND, model="").profile().model is None


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "findings.json")
    loaded = Findings.load(tmp_path / "findings.json")
    assert loaded == FOUND
    assert loaded.profile() == FOUND.profile()
    data = json.loads((tmp_path / "findings.json").read_text())
    del data["before"]  # as an earlier version wrote it
    (tmp_path / "earlier.json").write_text(json.dumps(data))
    assert Findings.load(tmp_path / "earlier.json") == replace(FOUND, before={})


@pytest.mark.parametrize("text", ["", "[]", '{"lists": 3}', '{"lists": [], "chosen": {}}', None])
def test_what_holds_no_findings_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "wrong.json").write_text(text)
    with pytest.raises(ProfileError, match="does not hold the findings"):
        Findings.load(tmp_path / "wrong.json")
