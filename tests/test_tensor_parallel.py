"""Two processes that share a model's heads steer as one process does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensor_parallel
import tiny
import torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tiny.llama().save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [sys.executable, *command, tensor_parallel.__file__, str(folder)],
        check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_both_ranks_answer_as_one_process_does(folder: Path, ranks: list[dict[str, Any]]) -> None:
    alone = tensor_parallel.answers(folder)
    for rank in ranks:
        assert rank["texts"] == alone["texts"]
        assert rank["scores"] == pytest.approx(alone["scores"], abs=1e-4)
        difference = torch.tensor(rank["logits"]) - torch.tensor(alone["logits"])
        assert difference.abs().max() < 1e-4


def test_each_rank_steers_the_heads_it_has(ranks: list[dict[str, Any]]) -> None:
    assert [rank["heads here"] for rank in ranks] == [[[1], [0], [0, 1]], [[], [1], [0]]]
