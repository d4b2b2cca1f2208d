"""The figures of a search show the numbers that were measured."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt

from pasta_chains.errors import MissingExtraError
from pasta_chains.profiling import plots
from pasta_chains.profiling.findings import Findings, HeadList
from pasta_chains.profiling.plots import draw_figures

FOUND = Findings(
    model="tiny",
    about={},
    alpha=0.01,
    unsteered={"a": 0.5, "b": 0.25},
    every={"a": 0.1, "b": 0.0},
    layers={"a": {"0": 0.4, "2": 0.75}, "b": {"0": 0.3, "2": 0.2}},
    alone={
        "a": {"0:0": 0.5, "0:1": 0.6, "2:0": 0.9, "2:1": 0.4},
        "b": {"0:0": 0.25, "0:1": 0.25, "2:0": 0.5},
    },
    lists=(
        HeadList("task-specific", "a", 1, "2:0", {"a": 0.8}),
        HeadList("task-specific", "b", 1, "2:0", {"b": 0.4}),
        HeadList("multi-task", None, 1, "2:0", {"a": 0.8, "b": 0.4}),
        HeadList("multi-task", None, 2, "0:1 2:0", {"a": 0.9, "b": 0.5}),
        HeadList("union", None, 2, "0:0,1 2:0", {"a": 0.7, "b": 0.5}),
        HeadList("union", None, 3, "0:0,1 2:0,1", {"a": 0.7}),  # no time was left for b
    ),
    before={"a": 0.6, "b": 0.2},
    alphas={"0.1": {"a": 0.85, "b": 0.5}, "0.01": {"a": 0.9, "b": 0.45}},
    chosen=HeadList("multi-task", None, 2, "0:1 2:0", {"a": 0.9, "b": 0.5}),
    chosen_alpha=0.1,
)


@pytest.fixture(autouse=True)
def closed() -> Any:
    yield
    plt.close("all")


def lines(figure: Any) -> dict[str, list[tuple[float, float]]]:
    (axes,) = figure.axes
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()]
        for line in axes.lines
    }


def test_all_figures_are_drawn(tmp_path: Path) -> None:
    drawn = draw_figures(FOUND, tmp_path / "figures")
    assert [file.name for file in drawn] == [
        "heads-a.svg", "map-a.svg", "heads-b.svg", "map-b.svg", "number-of-heads.svg", "alpha.svg",
    ]  # fmt: skip
    for file in drawn:
        assert "<svg" in file.read_text(encoding="utf-8")[:1000]
    assert not plt.get_fignums()
    again = draw_figures(FOUND, tmp_path / "again")
    for one, other in zip(drawn, again, strict=True):
        assert one.read_bytes() == other.read_bytes()  # so that a page changes with its numbers


def test_without_alphas_there_is_no_figure_of_them(tmp_path: Path) -> None:
    drawn = draw_figures(replace(FOUND, alphas={}), tmp_path)
    assert "alpha.svg" not in {file.name for file in drawn}


def test_the_grid_has_each_head_in_its_place() -> None:
    grid = plots._grid(FOUND, "b")
    assert grid.shape == (3, 2)
    assert grid[0].tolist() == [25, 25]
    assert np.isnan(grid[1]).all()
    assert grid[2, 0] == 50
    assert np.isnan(grid[2, 1])


def test_violins_show_heads_layers_all_and_none() -> None:
    (axes,) = plots._violins(FOUND, "a").axes
    points = [
        tuple(np.round(point, 6))
        for dots in axes.collections
        for point in getattr(dots, "get_offsets", list)()
        if type(dots).__name__ == "PathCollection"
    ]
    assert sorted(points) == [(0, 40), (0, 50), (0, 60), (2, 40), (2, 75), (2, 90)]
    levels = {str(line.get_label()): float(line.get_ydata()[0]) for line in axes.lines}
    assert levels == {"unsteered": 50, "all heads": 10}
    figure = plots._violins(replace(FOUND, every={}), "a")
    assert "all heads" not in lines(figure)


def test_the_map_shows_what_each_head_adds() -> None:
    axes = plots._heat_map(FOUND, "a").axes[0]
    (image,) = axes.images
    gains = image.get_array()
    assert np.allclose(gains[[0, 2]].filled(np.nan), [[0, 10], [40, -10]])
    assert gains.mask[1].all()
    low, high = image.get_clim()
    assert low == -high
    assert high == pytest.approx(40)


def test_lists_by_their_length_are_means_over_tasks() -> None:
    shown = lines(plots._by_size(FOUND))
    assert shown["multi-task"] == [(1, pytest.approx(60)), (2, pytest.approx(70))]
    assert shown["union"] == [(3, pytest.approx(60))]  # what was not measured on all is left out
    assert shown["task-specific"] == [(1, pytest.approx(60))]
    assert shown["unsteered"][0][1] == pytest.approx(40)  # on the same split as the lists
    assert "unsteered" not in lines(plots._by_size(replace(FOUND, before={})))


def test_each_task_by_alpha() -> None:
    shown = lines(plots._by_alpha(FOUND))
    assert shown["a"] == [(0.01, pytest.approx(90)), (0.1, pytest.approx(85))]
    assert shown["b"] == [(0.01, pytest.approx(45)), (0.1, pytest.approx(50))]


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, plots.__name__)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib.*pasta-chains\[evaluation\]"):
        importlib.import_module(plots.__name__)
