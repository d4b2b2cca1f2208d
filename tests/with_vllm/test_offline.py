"""`vllm.LLM` in a program of its own steers, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from traffic import Answer, Ask

from pasta_chains import SteeredModel
from pasta_chains.profile import FILE_NAME

SCRIPT = Path(__file__).with_name("offline.py")
MOST = 12


def test_llm_takes_emphasis_in_extra_args(steered: dict[str, SteeredModel]) -> None:
    model = steered["random"]
    ids = list(range(10, 60))
    asks = [Ask(ids, spans, alpha, MOST) for spans, alpha in (
        ((), None), (([5, 20],), None), (([5, 20, 0.5], [30, 40, None, None, True]), 0.001),
    )]  # fmt: skip
    asked = {
        "model": model.name,
        "profile": str(Path(model.name) / FILE_NAME),
        "prompts": [ids] * len(asks),
        "extra": [ask.body()["vllm_xargs"] for ask in asks],
        "most": MOST,
    }
    run = subprocess.run(
        [sys.executable, str(SCRIPT)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("[[")]  # beside logs
    found = json.loads(line)
    wanted = [Answer.of_model(model, ask).ids for ask in asks]
    assert found == wanted
    assert len({tuple(answer) for answer in wanted}) == len(asks)
