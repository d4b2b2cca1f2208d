"""Every decoder type of transformers is steered exactly, or refused with its reason."""

from __future__ import annotations

import copy
from typing import Any

import architectures
import oracle
import pytest
import tiny
import torch
from torch import Tensor

from pasta_chains.adapters import ADAPTERS
from pasta_chains.attention import BIAS, HEADS
from pasta_chains.engine import SteeredModel
from pasta_chains.errors import UnsupportedModelError
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr
from pasta_chains.steerable import make_steerable

TOKENS, NEW = 24, 4

_NO_ATTENTION = "do not pass the steering on to their attention"
_REASONS = {
    "blt": "reads? patches of bytes",
    "cpmant": "tokens of its own before the prompt",
    "falcon_mamba": _NO_ATTENTION,
    "git": _NO_ATTENTION,
    "got_ocr2": "reads images",
    "mamba": _NO_ATTENTION,
    "mamba2": _NO_ATTENTION,
    "openai-gpt": "no cache to carry the steering",
    "prophetnet": "several streams",
    "reformer": "sorts its keys into buckets",
    "rwkv": "no attention",
    "xlm": "no cache to carry the steering",
    "xlnet": "two streams",
    "xlstm": _NO_ATTENTION,
    "zamba": "no layer number of its own",
    "zamba2": "no layer number of its own",
}
if architectures.OLDEST:
    _REASONS["moshi"] = _NO_ATTENTION
REFUSED = {kind: why for kind, why in _REASONS.items() if kind in architectures.TYPES}
# Unsteered too, it decodes padded rows in another way on each kernel, and on eager to NaN.
WRONG_IN_OLDEST = {("recurrent_gemma", name) for name in ("padded batch", "few tokens")}
BUILT = [t for t in architectures.TYPES if t not in architectures.UNBUILDABLE]
# Reads tokens only beside those of the model that it drafts for; see test_architectures.py.
DRAFT = "gemma4_unified_assistant"
# Types with an adapter have an oracle of their own, in test_masking.py.
FUSED = [t for t in BUILT if t not in REFUSED and t not in ADAPTERS and t != "dots3_note"]
# Dory runs its middle layers several times, with keys for each time or with those of the last.
LOOPS: list[dict[str, Any]] = [
    {"n_recurrent_loops": 3},
    {"n_recurrent_loops": 3, "recurrent_kv_cache_mode": "last_loop"},
]
EXACT: list[Any] = [pytest.param(kind, {}, id=kind) for kind in FUSED]
if "dory" in FUSED:
    EXACT += [pytest.param("dory", loops, id=f"dory-{len(loops)}") for loops in LOOPS]


@pytest.mark.parametrize("model_type", [*REFUSED, DRAFT])
def test_is_refused_with_its_reason_and_left_as_it_was(model_type: str) -> None:
    why = REFUSED.get(model_type, "drafts for another model")
    model = architectures.decoder(model_type)
    before = model.config._attn_implementation
    hooks = [len(module._forward_pre_hooks) for module in model.modules()]
    with pytest.raises(UnsupportedModelError, match=why):
        make_steerable(model)
    assert model.config._attn_implementation == before
    assert [len(module._forward_pre_hooks) for module in model.modules()] == hooks
    assert "_validate_model_kwargs" not in vars(model)


def test_all_types_are_sorted() -> None:
    assert len(FUSED) + len(REFUSED) + len({*ADAPTERS, "dots3_note"} & {*BUILT}) == len(BUILT)


def requests() -> dict[str, dict[str, Tensor]]:
    """One full row, and left-padded batches in which each row has its own spans and strengths."""
    ids = torch.randint(3, 300, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    there = torch.ones_like(ids)
    there[0, :7] = 0
    bias = torch.zeros(2, TOKENS)
    bias[0, 10:20] = -3
    bias[1, :12] = -2
    bias[1, 15:] = -4
    batch = {"input_ids": ids, "attention_mask": there, BIAS: bias}
    return {
        "one row": {name: rows[1:] for name, rows in batch.items()},
        "padded batch": batch,
        "few tokens": {name: rows[:, 4:16] for name, rows in batch.items()},
    }


def logits(model: Any, **inputs: Any) -> tuple[Tensor, Tensor]:
    """Tokens written, and the logits of the prefill and of every decode step."""
    output = model.generate(
        **inputs, max_new_tokens=NEW, min_new_tokens=NEW, output_logits=True, do_sample=False,
        return_dict_in_generate=True,
    )  # fmt: skip
    return output.sequences, torch.stack(output.logits)


def heads_of(layers: list[int]) -> dict[int, tuple[int, ...]]:
    return {layer: (0, 3) if number else (1,) for number, layer in enumerate(layers)}


def distance(found: Tensor, wanted: Tensor) -> float:
    return (found - wanted).abs().max().item()


def error_of_float32(plain: Any) -> float:
    """How far the unsteered model is from itself on another kernel, in the worst request."""
    errors = []
    for request in requests().values():
        unsteered = {key: value for key, value in request.items() if key != BIAS}
        eager = oracle.as_defined(plain, {}, request[BIAS].tolist())
        errors.append(distance(logits(eager, **unsteered)[1], logits(plain, **unsteered)[1]))
    return max(errors)


def in_float64(plain: Any, heads: Any, request: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The steered logits and the wanted ones, in numbers twice as long."""
    plain = copy.deepcopy(plain).double()
    plain.set_experts_implementation("eager")  # the fused one knows no float64
    model = copy.deepcopy(plain)
    make_steerable(model)
    unsteered = {key: value for key, value in request.items() if key != BIAS}
    defined = oracle.as_defined(plain, heads, request[BIAS].tolist())
    _, steered = logits(model, **request, **{HEADS: heads})
    return steered, logits(defined, **unsteered)[1]


@pytest.mark.parametrize(("model_type", "overrides"), EXACT)
def test_is_steered_exactly(model_type: str, overrides: dict[str, Any]) -> None:
    plain = architectures.decoder(model_type, **overrides)
    model = copy.deepcopy(plain)
    heads = heads_of([*make_steerable(model).layers])
    for name, request in requests().items():
        if architectures.OLDEST and (model_type, name) in WRONG_IN_OLDEST:
            continue
        unsteered = {key: value for key, value in request.items() if key != BIAS}
        steered_ids, steered = logits(model, **request, **{HEADS: heads})
        _, before = logits(plain, **unsteered)
        _, after = logits(model, **unsteered)
        assert torch.equal(before, after), f"{name}: without emphasis every bit is the model's"
        defined = oracle.as_defined(plain, heads, request[BIAS].tolist())
        wanted_ids, wanted = logits(defined, **unsteered)
        assert torch.equal(steered_ids, wanted_ids), name
        assert distance(steered, before) > 1e-3, f"{name}: the steering is felt"
        allowed = 1e-5
        if distance(steered, wanted) >= allowed:
            # Then float32 itself errs more, unsteered.
            allowed = min(3 * error_of_float32(plain), 1e-4)
        if distance(steered, wanted) >= allowed:
            # By how much is chance, and differs between processors; float64 leaves it no room.
            steered, wanted = in_float64(plain, heads, request)
            allowed = 1e-9
        assert distance(steered, wanted) < allowed, name


# Unsteered too, the router of Inkling 2 is given float32 and has bfloat16 weights.
@pytest.mark.parametrize("model_type", [t for t in FUSED if not t.startswith("inkling2_")])
def test_bfloat16_errs_no_more_steered_than_unsteered(model_type: str) -> None:
    half = architectures.decoder(model_type).to(torch.bfloat16)
    exact = copy.deepcopy(half).float()
    heads = heads_of([*make_steerable(half).layers])
    request = requests()["padded batch"]
    unsteered = {key: value for key, value in request.items() if key != BIAS}
    there = request["attention_mask"].bool()
    with torch.no_grad():
        steered = half(**request, **{HEADS: heads}).logits.float()[there]
        plain = half(**unsteered).logits.float()[there]
        defined = oracle.as_defined(exact, heads, request[BIAS].tolist())
        wanted = defined(**unsteered).logits[there]
        exactly_plain = exact(**unsteered).logits[there]
    # Medians, since a token that bfloat16 sends to another expert comes out altogether different.
    error, steered_error = (
        (found - true).abs().mean(-1).median()
        for found, true in ((plain, exactly_plain), (steered, wanted))
    )
    assert steered_error < 1.5 * error + 1e-3


TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"


# Unsteered too, doge chooses keys by ranking all there are, later ones and padding included.
@pytest.mark.parametrize("model_type", [t for t in BUILT if t not in REFUSED and t != "doge"])
def test_a_prompt_reads_alike_alone_and_beside_others(model_type: str) -> None:
    """Also where padding would move positions, and for a profile of the last layer."""
    steered = SteeredModel(architectures.decoder(model_type), tiny.tokenizer())
    last = max(steered._steerable.layers)
    steered.profile = HeadProfile({last: [0, 1, 2, 3]}, alpha=0.01)
    prompt = SpanStr(TEXT, [Span(31, 61), Span(70, 79, 0.3)])
    answers = [" Bo", " Ada Lowe"]
    alone = [steered.score(prompt, [answer])[0] for answer in answers]
    assert steered.score(prompt, answers) == pytest.approx(alone, abs=1e-3)
    assert steered.score(TEXT, answers) != pytest.approx(alone, abs=2e-3)
    written = [steered.generate(one, max_new_tokens=3) for one in (prompt, TEXT[:40])]
    assert steered.generate([prompt, TEXT[:40]], max_new_tokens=3) == written
