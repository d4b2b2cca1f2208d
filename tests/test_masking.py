"""Models whose attention function cannot be ours are steered exactly too, or refused."""

from __future__ import annotations

from typing import Any

import architectures
import oracle
import plain_oracle
import pytest
import tiny
import torch
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText, PreTrainedModel

from pasta_chains.adapters import ADAPTERS
from pasta_chains.engine import SteeredModel
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
ONE = SpanStr(TEXT, [Span(31, 61)])
STRENGTHS = SpanStr(TEXT, [Span(4, 9, 0.5), Span(31, 61, 0.001)])
BATCH = [SpanStr("Tarn is small. Answer:", [Span(0, 4)]), STRENGTHS, SpanStr(TEXT[:50])]
HEADS = {0: [0, 2], 1: [0, 3]}
NEW_TOKENS = 4

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    kind: (kind, {}) for kind in ADAPTERS if kind in architectures.TYPES
} | {
    "falcon, alibi": ("falcon", {"alibi": True}),
    "falcon, as many keys": ("falcon", {"multi_query": False, "num_kv_heads": 4}),
    "falcon, new": ("falcon", {"new_decoder_architecture": True}),
    "falcon, eager": ("falcon", {"attn_implementation": "eager"}),
    "gptj, all rotary": ("gptj", {"rotary_dim": 8}),
    "nemotron": ("nemotron", {"initializer_range": 0.2}),
    "rembert": ("rembert", {"initializer_range": 0.2}),
    "mpt, clipped": ("mpt", {"attn_config": {"clip_qkv": 1.0}}),
}
# With fewer heads their indexers score many keys 0, and which of those are read is left open.
_MORE: dict[str, dict[str, Any]] = {
    kind: {"index_n_heads": 16}
    for kind in ("axk2", "deepseek_v32", "dots3_note_text", "glm_moe_dsa", "hy_v4")
} | {"dots3_note": {"text_config": {"index_n_heads": 16}}}
KINDS |= {kind: (kind, fields) for kind, fields in _MORE.items() if kind in architectures.TYPES}
# Positions or blocks of keys that begin at the first token, so that padding on the left moves them.
MOVED_BY_PADDING = {"minimax_m3_vl_text", "mvp", "trocr"}


_INDEXED = {"index_n_heads": 16, "layer_types": ["indexed_attention"] * 2}
_WITH_IMAGES: dict[str, dict[str, Any]] = {
    "glm5_next": _INDEXED | {"index_kpool": 4, "qk_rope_head_dim": 0},
    "mistral_large4": _INDEXED,
}
WITH_IMAGES = {kind: fields for kind, fields in _WITH_IMAGES.items() if kind in CONFIG_MAPPING}
"""Types that are no causal language models to transformers, with the fields of their text part."""


def plain_model(kind: str) -> PreTrainedModel:
    if kind not in WITH_IMAGES:
        model_type, fields = KINDS[kind]
        return architectures.decoder(model_type, **fields)
    torch.manual_seed(0)
    config = architectures.config(kind, text_config=WITH_IMAGES[kind])
    model = AutoModelForImageTextToText.from_config(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.normal_(0, 0.3)
    return model


def make(kind: str) -> SteeredModel:
    return SteeredModel(plain_model(kind), tiny.tokenizer(), HeadProfile(HEADS, alpha=0.02))


@pytest.fixture(scope="module", params=[*KINDS, *WITH_IMAGES])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def steered(kind: str) -> SteeredModel:
    return make(kind)


@pytest.fixture(scope="module")
def plain(kind: str) -> PreTrainedModel:
    return plain_model(kind)


def expected_bias(steered: SteeredModel, text: SpanStr) -> tuple[list[int], list[float]]:
    encoded = steered.tokenizer(text.text, return_offsets_mapping=True)
    marks = [(span.start, span.end, span.alpha or 0.02) for span in text.spans]
    return encoded["input_ids"], oracle.bias_of(text.text, marks, encoded["offset_mapping"])


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, in units of what float32 is allowed to err by."""
    return float((found - wanted).abs().max() / max(1e-5, 2e-6 * wanted.abs().max().item()))


def largest_error(steered: SteeredModel, plain: PreTrainedModel, texts: list[SpanStr]) -> float:
    """Of prefill without cache and of every step of decoding, against the definition."""
    inputs = steered.inputs(texts)
    width = inputs["input_ids"].shape[1]
    output = steered.model.generate(
        **inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    found = torch.stack(output.logits, 1)
    rows, biases = zip(*(expected_bias(steered, text) for text in texts), strict=True)
    written = output.sequences[:, width:].tolist()
    full = [[*row, *new] for row, new in zip(rows, written, strict=True)]
    positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        prefill = steered.model(**inputs, position_ids=positions, use_cache=False).logits
    errors = []
    for number, wanted in enumerate(plain_oracle.logits(plain, HEADS, full, biases)):
        length = len(rows[number])
        errors.append(error(found[number], wanted[length - 1 : -1]))
        errors.append(error(prefill[number, width - length :], wanted[:length]))
    return max(errors)


@pytest.mark.parametrize("text", [ONE, STRENGTHS], ids=["one span", "two strengths"])
def test_equals_the_definition(
    steered: SteeredModel, plain: PreTrainedModel, text: SpanStr
) -> None:
    assert largest_error(steered, plain, [text]) < 1


@pytest.mark.parametrize("padded", sorted(KINDS.keys() - MOVED_BY_PADDING))
def test_left_padded_batch_equals_the_definition(padded: str) -> None:
    assert largest_error(make(padded), plain_model(padded), BATCH) < 1


def test_the_definition_tells_steered_from_plain(
    steered: SteeredModel, plain: PreTrainedModel
) -> None:
    ids, bias = expected_bias(steered, ONE)
    marked, unmarked = plain_oracle.logits(plain, HEADS, [ids, ids], [bias, [0.0] * len(bias)])
    assert (marked - unmarked).abs().max() > 0.1


def test_without_emphasis_every_bit_is_the_unsteered_models(
    kind: str, steered: SteeredModel, plain: PreTrainedModel
) -> None:
    batch = [TEXT] if kind in MOVED_BY_PADDING else [TEXT, TEXT[:50]]
    for prompts in ([SpanStr(TEXT, [Span(0, 61, alpha=1.0)])], batch):
        inputs = steered.inputs(prompts)
        assert set(inputs) == {"input_ids", "attention_mask"}
        for cached in (True, False):
            with torch.no_grad():
                found, wanted = (m(**inputs, use_cache=cached) for m in (steered.model, plain))
            assert torch.equal(found.logits, wanted.logits)
            assert found.keys() == wanted.keys()
        steps = {"max_new_tokens": 4, "output_logits": True, "return_dict_in_generate": True}
        found, wanted = (m.generate(**inputs, **steps) for m in (steered.model, plain))
        assert all(torch.equal(*step) for step in zip(found.logits, wanted.logits, strict=True))
