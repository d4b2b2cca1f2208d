"""The figures of `docs/explanation` are drawn from what the embedded model does."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import ModuleType

import pytest

from pasta_chains import SteeredModel
from pasta_chains.demo import MODEL
from pasta_chains.template import Environment

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="an sdist has no benchmarks")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import figures

    return figures


def test_every_figure_is_drawn_and_shown(
    figures: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "ALPHAS", (1.0, 0.01))
    figures.main(tmp_path / "one", tmp_path / "page.md", questions=2)
    drawn = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs/explanation").glob("*.md"))
    assert set(drawn) <= set(re.findall(r"figures/([\w-]+\.svg)", pages))
    assert all((ROOT / "docs/figures" / name).exists() for name in drawn)
    page = (tmp_path / "page.md").read_text("utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if re.match(r"\| [\d.]+ \|", line)]
    assert [row[0] for row in rows] == ["| 1", "| 0.01"]
    unsteered, steered = (float(row[1].rstrip("%")) for row in rows)
    assert unsteered < 50 < steered
    figures.main(tmp_path / "two", questions=2)
    assert drawn == {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()}


def test_the_prompt_is_the_demos(figures: ModuleType) -> None:
    documents = [{"text": figures.OFFICE, "trusted": True}, {"text": figures.BLOG}]
    rendered = Environment().get_template("rag/qa.jinja").render(
        documents=documents, question=figures.QUESTION
    )  # fmt: skip
    assert figures.demo_prompt() == rendered
    assert figures.demo_prompt().spans[0][:2] == rendered.spans[0][:2]


def test_tokens_have_the_weights_of_the_emphasis(figures: ModuleType) -> None:
    model = SteeredModel.from_pretrained(MODEL)
    tokens = figures.tokens_of(model, figures.demo_prompt())
    assert "".join(token.text for token in tokens) == figures.demo_prompt()
    strong = "".join(token.text for token in tokens if token.weight == 1)
    assert strong.strip() == figures.OFFICE
    assert {round(token.weight, 6) for token in tokens} == {1, 0.01}


def test_the_points_lie_on_the_curve(figures: ModuleType) -> None:
    pairs, alpha = figures.measure_first_layer(SteeredModel.from_pretrained(MODEL))
    for before, after in pairs:
        assert math.isclose(after, before / (before + alpha * (1 - before)), abs_tol=1e-4)
