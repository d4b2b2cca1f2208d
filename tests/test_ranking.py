"""Algorithm 1 of the paper: from scores of single heads to lists of heads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pasta_chains.profiling.findings import HeadList
from pasta_chains.profiling.lists import candidates, judges
from pasta_chains.profiling.ranking import (
    Head,
    by_layer,
    intersection,
    ranked,
    sizes,
    task_specific,
    union,
)
from pasta_chains.profiling.units import heads_of, label

A = [(0, 0), (1, 1), (2, 0), (0, 1)]
B = [(1, 1), (2, 0), (0, 1), (0, 0)]
C = [(2, 0), (0, 1), (1, 1), (0, 0)]

heads = st.tuples(st.integers(0, 5), st.integers(0, 7))
scores = st.dictionaries(heads, st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=20)


def test_the_best_come_first_and_equal_ones_by_layer() -> None:
    alone = {(2, 0): 0.5, (0, 1): 0.5, (1, 3): 0.9, (0, 0): 0.1, (0, 10): 0.5}
    assert ranked(alone) == [(1, 3), (0, 1), (0, 10), (2, 0), (0, 0)]


def test_lists_by_hand() -> None:
    assert task_specific(A, 2) == [(0, 0), (1, 1)]
    assert intersection([A, B, C], 2) == []
    assert intersection([B, C], 2) == [(2, 0)]
    assert intersection([A, B, C], 3) == [(1, 1), (2, 0)]
    assert intersection([A, B, C], 4) == sorted(A)
    assert union([A, B, C], 1) == [(0, 0), (1, 1), (2, 0)]
    assert union([A], 2) == task_specific(A, 2)
    assert intersection([], 3) == []


@given(st.lists(scores, min_size=1, max_size=4), st.integers(1, 25))
def test_lists_are_what_sets_say(tasks: list[dict[Head, float]], k: int) -> None:
    rankings = [ranked(alone) for alone in tasks]
    for alone, ranking in zip(tasks, rankings, strict=True):
        assert sorted(ranking) == sorted(alone)
        best, rest = task_specific(ranking, k), ranking[k:]
        assert len(best) == min(k, len(alone))
        assert all(alone[one] >= alone[other] for one in best for other in rest)
    common, any_of = set(intersection(rankings, k)), set(union(rankings, k))
    for head in {head for ranking in rankings for head in ranking}:
        places = [head in ranking[:k] for ranking in rankings]
        assert (head in common) == all(places)
        assert (head in any_of) == any(places)
    if len(rankings) == 1:
        assert common == any_of == set(task_specific(rankings[0], k))


@given(st.sets(heads))
def test_labels_are_read_as_they_were_written(some: set[Head]) -> None:
    assert heads_of(label(some)) == by_layer(some)
    assert {(layer, head) for layer, found in by_layer(some).items() for head in found} == some


def test_a_label_is_short_and_sorted() -> None:
    assert label([(4, 0), (3, 7), (3, 1)]) == "3:1,7 4:0"
    assert label([]) == ""
    assert heads_of("") == {}


def test_sizes_are_up_to_70_percent_of_the_heads() -> None:
    assert sizes(1024) == [20, 51, 102, 205, 307, 410, 512, 614, 717]
    assert sizes(3) == [1, 2]
    assert sizes(1) == [1]


def described(made: list[HeadList]) -> set[tuple[str, str | None, int, str]]:
    return {(one.strategy, one.of, one.k, one.heads) for one in made}


def test_one_task_has_lists_of_its_own_alone() -> None:
    assert described(list(candidates({"a": A}, [1, 2]))) == {
        ("task-specific", "a", 1, "0:0"),
        ("task-specific", "a", 2, "0:0 1:1"),
    }


def test_two_tasks_have_common_lists_and_none_for_a_task_that_is_left_out() -> None:
    assert described(list(candidates({"b": B, "c": C}, [2]))) == {
        ("task-specific", "b", 2, "1:1 2:0"),
        ("task-specific", "c", 2, "0:1 2:0"),
        ("union", None, 2, "0:1 1:1 2:0"),
        ("multi-task", None, 2, "2:0"),
    }


def test_task_agnostic_is_what_the_other_tasks_have_in_common() -> None:
    made = list(candidates({"a": A, "b": B, "c": C}, [2]))
    assert {one for one in described(made) if one[0] == "task-agnostic"} == {
        ("task-agnostic", "a", 2, "2:0"),
        ("task-agnostic", "b", 2, label(set(A[:2]) & set(C[:2]))),
        ("task-agnostic", "c", 2, "1:1"),
    } - {("task-agnostic", "b", 2, "")}
    assert "multi-task" not in {one.strategy for one in made}  # nothing is common to all three


def test_a_list_is_judged_by_the_tasks_it_is_for() -> None:
    made = {one.strategy: one for one in candidates({"a": A, "b": B, "c": C}, [3])}
    agnostic = made["task-agnostic"]
    assert [judges(task, agnostic) for task in "abc"] == [task != agnostic.of for task in "abc"]
    specific = made["task-specific"]
    assert [judges(task, specific) for task in "abc"] == [task == specific.of for task in "abc"]
    assert all(judges(task, made["union"]) for task in "abc")
