"""What each process of test_tensor_parallel.py runs: `torchrun … tensor_parallel.py FOLDER`."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from pasta_chains.engine import SteeredModel
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
PROMPTS = [SpanStr(TEXT, [Span(31, 61)]), SpanStr(TEXT[:50], [Span(0, 9, 0.5)])]
HEADS = {0: [1], 1: [0, 3], 2: [0, 1, 2]}


def answers(folder: Path, **loading: Any) -> dict[str, Any]:
    """Texts, scores and logits of a model, as JSON takes them."""
    steered = SteeredModel.from_pretrained(folder, HeadProfile(HEADS, alpha=0.02), **loading)
    with torch.no_grad():
        logits = steered.model(**steered.inputs(PROMPTS[0])).logits[0, -1]
    return {
        "texts": steered.generate(PROMPTS, max_new_tokens=8),
        "scores": steered.score(PROMPTS[0], [" Bo", " Ada"]),
        "logits": logits.tolist(),
        "heads here": [list(heads) for heads in steered._heads.values()],
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # torch's own, of gloo
    out = Path(sys.argv[1])
    found = answers(out, tp_plan="auto")
    (out / f"rank{torch.distributed.get_rank()}.json").write_text(json.dumps(found))
