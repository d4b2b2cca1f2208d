"""What the benchmark measures is what it says, and its page has a row for everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="an sdist has no benchmarks")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The modules of the benchmark, on a small model."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import measure
    import variants
    import work

    shape = work.Shape(2, 64, 8, 2, 96, 300)
    return SimpleNamespace(
        measure=measure,
        names=variants,
        work=work,
        shape=shape,
        model=work.make_model(shape),
        tokenizer=work.make_tokenizer(300),
    )


def difference(bench: SimpleNamespace, work: object, *names: str) -> float:
    made = {
        name: bench.names.make_variant(name, bench.shape, bench.model, bench.tokenizer)
        for name in names
    }
    batch = bench.work.make_batch(work, bench.tokenizer, "cpu")
    return bench.measure.compare_logits(made, names, batch)


@pytest.mark.parametrize(("rows", "padded"), [(1, False), (3, False), (3, True)])
def test_variants_compute_what_they_claim(bench: SimpleNamespace, rows: int, padded: bool) -> None:
    names, work = bench.names, bench.work.Work(40, rows, padded)
    assert difference(bench, work, names.UNSTEERED, names.NONE) == 0
    assert difference(bench, work, names.MASKED, names.FEW) < 1e-4
    for steered in (names.FEW, names.SOME, names.ALL, names.SEKA):
        assert difference(bench, work, names.UNSTEERED, steered) > 1e-2


@pytest.mark.parametrize("padded", [False, True])
def test_pastalib_steers_as_we_do(bench: SimpleNamespace, padded: bool) -> None:
    pytest.importorskip("pastalib", reason="the other package is not installed")
    names, work = bench.names, bench.work.Work(40, 3, padded)
    assert difference(bench, work, names.PASTALIB, names.FEW) < 1e-4


def test_shares_of_heads_are_what_they_are_called(bench: SimpleNamespace) -> None:
    shape = bench.work.Shape()
    counts = {
        name: sum(map(len, bench.work.choose_heads(shape, share).values()))
        for name, share in bench.names.SHARES.items()
    }
    assert list(counts.values()) == [0, 6, 22, 112]


def test_weights_are_counted(bench: SimpleNamespace) -> None:
    own = sum(weight.numel() * weight.itemsize for weight in bench.model.parameters())
    assert bench.shape.weight_bytes == own


def test_the_page_has_every_row(bench: SimpleNamespace, tmp_path: Path) -> None:
    report = tmp_path / "overhead.md"
    sizes = "--layers 2 --hidden 64 --heads 8 --kv-heads 2 --intermediate 96 --vocabulary 300"
    works = "--lengths 40 --batch-lengths 16 --rows 2 --decode 2 --minutes 1 --rounds 1"
    command = [sys.executable, str(BENCHMARKS / "overhead.py"), *sizes.split(), *works.split()]
    subprocess.run([*command, "--report", str(report)], check=True, capture_output=True)
    sections = report.read_text(encoding="utf-8").split("\n## ")
    titles = ["40 tokens", "2 prompts of 16 tokens"]
    titles += ["2 prompts of 8 to 16 tokens, left-padded", "How it was measured"]
    assert [section.splitlines()[0] for section in sections[1:]] == titles
    for section in sections[1:-1]:
        rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
        assert [row[0].removeprefix("| ") for row in rows] == list(bench.names.NAMES)
        for row in rows:
            measured = "not measured: not installed" in row or row[1].endswith(" s")
            assert measured, row
    assert sections[0].count("not measured") >= 6  # no goal is at these lengths
    assert (
        "8B model on a GPU, 10 prompts of 4,300 tokens: at most 1.03 | not measured"
        in (sections[0])
    )
