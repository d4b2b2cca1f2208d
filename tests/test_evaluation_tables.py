"""Intervals and tests against numbers worked out by hand, and the tables that show them."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pasta_chains.evaluation.harness import Result
from pasta_chains.evaluation.statistics import interval, paired_p
from pasta_chains.evaluation.tables import (
    averages,
    comma_separated,
    markdown,
    rows_of,
    terminal_table,
    write_tables,
)

Z = 1.959963984540054


def wilson(right: int, count: int) -> tuple[float, float]:
    share = right / count
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    spread = share * (1 - share) / count + Z**2 / (4 * count**2)
    half = Z / (1 + Z**2 / count) * math.sqrt(spread)
    return middle - half, middle + half


@pytest.mark.parametrize(("right", "count"), [(0, 4), (4, 4), (1, 1), (8, 10), (263, 500)])
def test_shares_have_wilsons_interval(right: int, count: int) -> None:
    values = [1.0] * right + [0.0] * (count - right)
    assert interval(values) == pytest.approx(wilson(right, count))


def test_wilsons_interval_in_numbers() -> None:
    assert interval([1.0] * 8 + [0.0] * 2) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert interval([0.0] * 4) == pytest.approx((0, 0.4899), abs=1e-4)


def test_other_means_have_a_bootstrap_interval() -> None:
    rng = Random(0)
    values = [rng.choice([0.0, 0.5, 1.0]) for _ in range(200)]
    low, high = interval(values)
    mean = sum(values) / 200
    error = math.sqrt(sum((value - mean) ** 2 for value in values)) / 200
    assert low == pytest.approx(mean - Z * error, abs=0.01)
    assert high == pytest.approx(mean + Z * error, abs=0.01)
    assert interval(values) == (low, high), "the same each time"
    assert interval([0.5] * 3) == (0.5, 0.5)
    assert interval([0.5]) == (0.5, 0.5)


def pairs(better: int, worse: int, same: int = 3) -> tuple[list[float], list[float]]:
    return [1.0] * better + [0.0] * worse + [1.0] * same, [0.0] * better + [1.0] * (worse + same)


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (3, 3, 1.0),
        (5, 1, 2 * 7 / 64),  # 1 + 6 of the 2^6 ways to give six signs
        (1, 5, 2 * 7 / 64),
        (10, 0, 2 / 1024),
        (6, 2, 2 * 37 / 256),
    ],
)
def test_right_and_wrong_are_compared_with_mcnemars_exact_test(
    better: int, worse: int, p: float
) -> None:
    assert paired_p(*pairs(better, worse)) == pytest.approx(p)
    assert paired_p(*pairs(better, worse, same=30)) == pytest.approx(p), "ties say nothing"


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0.5, 0.5, 0.5], 2 / 8),  # one of eight ways to give signs, and its mirror
        ([0.5] * 8, 2 / 256),
        ([0.5, 0.25, -0.25], 6 / 8),  # means as large: +++ +-+ ++- of eight, and their mirrors
        ([0.0, 0.0], 1.0),
    ],
)
def test_other_means_are_compared_by_their_signs(differences: list[float], p: float) -> None:
    others = [0.25 + number / 100 for number in range(len(differences))]
    values = [other + one for other, one in zip(others, differences, strict=True)]
    assert paired_p(values, others) == pytest.approx(p)


def test_many_samples_are_compared_by_chance_and_the_same_each_time() -> None:
    rng = Random(1)
    values = [rng.choice([0.5, 1.0]) for _ in range(60)]
    others = [rng.choice([0.0, 0.5]) for _ in range(60)]
    assert paired_p(values, others) < 0.001
    assert paired_p(values, others) == paired_p(values, others)


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0])] * 2), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_statistics_of_anything(both: list[tuple[float, float]]) -> None:
    values, others = [one for one, _ in both], [other for _, other in both]
    low, high = interval(values)
    assert -1e-9 <= low <= sum(values) / len(values) + 1e-9
    assert sum(values) / len(values) - 1e-9 <= high <= 1 + 1e-9
    assert 0 < paired_p(values, others) <= 1
    assert paired_p(values, others) == pytest.approx(paired_p(others, values))


def result(task: str, condition: str, *scores: float, **more: float | bool | None) -> Result:
    given = {"fluency": None, "too_low": False} | more
    return Result(task, condition, {"Acc": scores}, {}, **given)


RESULTS = [
    result("a|b", "zero-shot", 0, 0, 0, 1),
    result("a|b", "*-marked", 1, 1, 1, 1),
    result("c", "zero-shot", 1, 1, fluency=4.256, too_low=False),
    result("c", "[red]steered", 0, 1, fluency=1.0, too_low=True),
    result("c", "*-marked", 0, 0, fluency=4.0),
]


def test_rows_compare_with_zero_shot_of_the_same_task() -> None:
    rows = rows_of(RESULTS)
    assert [row.mean for row in rows] == [0.25, 1.0, 1.0, 0.5, 0.0]
    assert [row.gain for row in rows] == [0.0, 0.75, 0.0, -0.5, -1.0]
    assert [row.p for row in rows] == [None, 0.25, None, 1.0, 0.5]
    assert [row.samples for row in rows] == [4, 4, 2, 2, 2]
    assert rows[1].metrics["Acc"] == pytest.approx((1.0, *wilson(4, 4)))
    assert [row.discarded for row in rows] == [False, False, False, True, False]


def test_the_mean_of_several_metrics_is_compared() -> None:
    zero = Result("t", "zero-shot", {"A": (0.0,) * 8, "B": (0.0,) * 8}, {}, None, False)
    other = Result("t", "steered", {"A": (1.0,) * 8, "B": (0.0,) * 8}, {}, None, False)
    row = rows_of([zero, other])[1]
    assert (row.mean, row.gain, row.p) == (0.5, 0.5, 2 / 256)
    assert list(row.metrics) == ["A", "B"]


def test_averages_are_of_conditions_that_all_tasks_have() -> None:
    rows = rows_of(RESULTS)
    assert averages(rows, ["a|b", "c"]) == {"zero-shot": 0.625, "*-marked": 0.5}
    assert averages(rows, ["c"]) == {"zero-shot": 1.0, "[red]steered": 0.5, "*-marked": 0.0}
    assert averages(rows, ["c", "d"]) == {}


def test_the_markdown_table() -> None:
    lines = markdown(rows_of(RESULTS), {"model": "tiny", "alpha": 0.01}).splitlines()
    assert lines == [
        "| Task | Condition | Metrics (95 % interval) | Mean | Gain | p | Fluency |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
        r"| a\|b | zero-shot | Acc 25.0% (4.6% to 69.9%) | 25.0% |  |  |  |",
        r"| a\|b | \*-marked | Acc 100.0% (51.0% to 100.0%) | 100.0% | +75.0 | 0.250 |  |",
        "| c | zero-shot | Acc 100.0% (34.2% to 100.0%) | 100.0% |  |  | 4.26 |",
        "| c | [red]steered | Acc 50.0% (9.5% to 90.5%) | 50.0% | -50.0 | 1.000 | 1.00 (too low) |",
        r"| c | \*-marked | Acc 0.0% (0.0% to 65.8%) | 0.0% | -100.0 | 0.500 | 4.00 |",
        "",
        "- model: tiny",
        "- alpha: 0.01",
    ]


def test_a_small_p_is_not_zero() -> None:
    many = [result("t", "zero-shot", *[0] * 20), result("t", "steered", *[1] * 20)]
    assert "| +100.0 | < 0.001 |" in markdown(rows_of(many), {})


def test_the_terminal_shows_names_as_they_are() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(terminal_table(rows_of(RESULTS)))
    shown = console.file.getvalue()
    assert shown.count(" a|b ") == 1, "each task is named once"
    assert " *-marked " in shown
    assert "[red]steered" in shown
    assert "1.00 (too low)" in shown
    assert "\\" not in shown


def test_the_csv_has_a_line_for_each_metric() -> None:
    rows = list(csv.DictReader(io.StringIO(comma_separated(rows_of(RESULTS)))))
    assert len(rows) == 5
    low, high = wilson(1, 2)
    assert rows[3].pop("low") == pytest.approx(str(low))
    assert float(rows[3].pop("high")) == pytest.approx(high)
    assert rows[3] == {
        "task": "c", "condition": "[red]steered", "metric": "Acc", "mean": "0.5", "samples": "2",
        "gain": "-0.5", "p": "1.0", "fluency": "1.0", "discarded": "True",
    }  # fmt: skip
    assert (rows[0]["task"], rows[0]["p"], rows[0]["fluency"]) == ("a|b", "", "")


def test_three_files_are_written(tmp_path: Path) -> None:
    rows = rows_of(RESULTS)
    write_tables(tmp_path, rows, {"model": "Größe"})
    data = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert data["about"] == {"model": "Größe"}
    assert data["rows"][3]["condition"] == "[red]steered"
    assert data["rows"][3]["metrics"]["Acc"] == pytest.approx([0.5, *wilson(1, 2)])
    assert data["rows"][3]["discarded"] is True
    assert data["rows"][0]["p"] is None
    assert (tmp_path / "results.csv").read_text(encoding="utf-8") == comma_separated(rows)
    assert (tmp_path / "results.md").read_text("utf-8") == markdown(rows, {"model": "Größe"})
