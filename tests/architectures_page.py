"""Writes docs/reference/architectures.md: `python tests/architectures_page.py`."""

from __future__ import annotations

import copy
import time
from importlib.metadata import version
from pathlib import Path

import architectures
import oracle
import torch
from test_every_architecture import BUILT, FUSED, distance, heads_of, logits, requests
from test_masking import BATCH, KINDS, MOVED_BY_PADDING, ONE, largest_error, make, plain_model

from pasta_chains.adapters import ADAPTERS
from pasta_chains.attention import BIAS, HEADS
from pasta_chains.errors import UnsupportedModelError
from pasta_chains.steerable import make_steerable

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "architectures.md"
HOW = {
    "sdpa": "beside sdpa",
    "eager": "in its own eager attention",
    "mask": "through its mask",
    "weights": "on its attention weights",
    "position bias": "as a position bias of sdpa",
    "pass on": "beside sdpa, by a hook",
}

EXAMPLE = """\
```python
from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

from pasta_chains import SteeredModel, UnsupportedModelError
from pasta_chains.demo import MODEL

config = MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1)
try:
    SteeredModel(MambaForCausalLM(config), AutoTokenizer.from_pretrained(MODEL))
except UnsupportedModelError as error:
    print(str(error).split(", so")[0])
# > The layers of MambaForCausalLM do not pass the steering on to their attention
```
"""


def fused(model_type: str) -> tuple[str, float]:
    """How a type is steered, and its largest error, in prefill and in decode steps."""
    plain = architectures.decoder(model_type)
    model = copy.deepcopy(plain)
    heads = heads_of([*make_steerable(model).layers])
    errors = []
    for request in requests().values():
        unsteered = {name: value for name, value in request.items() if name != BIAS}
        _, found = logits(model, **request, **{HEADS: heads})
        _, wanted = logits(oracle.as_defined(plain, heads, request[BIAS].tolist()), **unsteered)
        errors.append(distance(found, wanted) / allowed(wanted))
    return HOW[plain.config.get_text_config()._attn_implementation], max(errors)


def allowed(wanted: torch.Tensor) -> float:
    """What float32 may err by: 1e-5, or 2e-6 of the largest logit."""
    return max(1e-5, 2e-6 * wanted.abs().max().item())


def masked(model_type: str) -> tuple[str, float]:
    """The same, for a type with an adapter."""
    way = ADAPTERS.get(model_type, ADAPTERS.get(f"{model_type}_text"))
    assert way
    plain = plain_model(model_type)
    batches = [[ONE]] if model_type in MOVED_BY_PADDING else [[ONE], BATCH]
    return HOW[way.way], max(largest_error(make(model_type), plain, texts) for texts in batches)


def reason(model_type: str) -> str:
    """Why a type is refused, after the name of its class."""
    try:
        make_steerable(architectures.decoder(model_type))
    except UnsupportedModelError as error:
        return str(error)
    raise AssertionError(f"{model_type} is steered")


def page() -> str:
    """The whole page."""
    steered = {t: fused(t) if t in FUSED else masked(t) for t in BUILT if t in FUSED or t in KINDS}
    refused = {t: reason(t) for t in BUILT if t not in steered}
    within = sum(error < 1 for _, error in steered.values())
    lines = [
        "# Which models can be steered",
        "",
        f"Of the {len(architectures.TYPES)} types of decoders in transformers "
        f"{version('transformers')}, {len(steered)} are steered and {len(refused)} are refused "
        f"when loaded, with their reason. {len(architectures.UNBUILDABLE)} cannot be built or run "
        "from a configuration alone.",
        "",
        "A small model of each type, with random weights, was compared with the definition of "
        "PASTA in float32: one prompt and left-padded batches, prefill and decode steps. The "
        "error is the largest difference of a logit, where 1 is 1e-5, or 2e-6 of the largest "
        f"logit if that is more: {within} of {len(steered)} types are below 1.",
        "",
        EXAMPLE,
        "| type | steered | error |",
        "| --- | --- | ---: |",
        *(f"| {name} | {how} | {error:.2f} |" for name, (how, error) in steered.items()),
        "",
        "| refused | reason |",
        "| --- | --- |",
        *(f"| {name} | {why} |" for name, why in refused.items()),
        "",
        "| not tried | reason |",
        "| --- | --- |",
        *(f"| {name} | {why} |" for name, why in architectures.UNBUILDABLE.items()),
        "",
        f"Written by `python tests/architectures_page.py` on {time.strftime('%Y-%m-%d')}, torch "
        f"{torch.__version__}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
