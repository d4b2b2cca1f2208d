"""Every way that transformers can generate writes what the definition of PASTA does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import oracle
import plain_oracle
import pytest
import tiny
import torch
from test_steerable import decoder
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from pasta_chains.cache import cache_name
from pasta_chains.engine import SteeredModel
from pasta_chains.errors import PromptError, UnsupportedModelError
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
PROMPT = SpanStr(TEXT, [Span(31, 61), Span(70, 79, 0.3)])  # the second in every window
SHORT = SpanStr(TEXT[:50], [Span(0, 9, 0.001)])
HEADS = {0: [1], 1: [0, 3]}
NEW = 12

MODELS = [
    "cohere", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "gpt_oss", "gptj", "llama", "mistral",
    "olmo2", "phi3", "qwen3",
]  # fmt: skip


def config_of(model_type: str) -> dict[str, Any]:
    """Windows shorter than the prompt, where the type has windows."""
    fields: dict[str, Any] = {"rotary_dim": 4} if model_type == "gptj" else {}
    if model_type in ("gemma2", "gemma3_text", "gpt_oss", "mistral"):
        fields["sliding_window"] = 16
    if model_type == "gemma2":  # transformers 5.19 would load it with sdpa, which cannot be steered
        fields["attn_implementation"] = "eager"
    return fields


@pytest.fixture(scope="module", params=MODELS)
def steered(request: pytest.FixtureRequest) -> SteeredModel:
    model = decoder(request.param, **config_of(request.param))
    return SteeredModel(model, tiny.tokenizer(), HeadProfile(HEADS, alpha=0.02))


def bias_of(steered: SteeredModel, text: SpanStr) -> tuple[list[int], list[float]]:
    encoded = steered.tokenizer(text.text, return_offsets_mapping=True)
    marks = [(s.start, s.end, s.alpha or 0.02) for s in text.spans]
    return encoded["input_ids"], oracle.bias_of(text.text, marks, encoded["offset_mapping"])


def written(steered: SteeredModel, text: Any, **arguments: Any) -> list[list[int]]:
    torch.manual_seed(1)
    inputs = steered.inputs(text)
    out = steered.model.generate(**inputs, **arguments)
    return out[:, inputs["input_ids"].shape[1] :].tolist()


def wanted(steered: SteeredModel, text: SpanStr, **arguments: Any) -> list[list[int]]:
    ids, bias = bias_of(steered, text)
    if steered.model.config.model_type == "gptj":  # it takes no attention function
        plain = decoder("gptj", rotary_dim=4)
        torch.manual_seed(1)
        return plain_oracle.sequences(plain, HEADS, ids, bias, **arguments)
    torch.manual_seed(1)
    return oracle.sequences(steered.model, HEADS, ids, bias, **arguments)


EXACT = {"max_new_tokens": NEW, "min_new_tokens": NEW}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": EXACT,
    "at most": {"max_new_tokens": NEW},
    "sampling": EXACT | {"do_sample": True, "temperature": 0.7, "top_k": 20},
    "several samples": EXACT | {"do_sample": True, "num_return_sequences": 3},
    "beams": EXACT | {"num_beams": 3},
    "several beams": EXACT | {"num_beams": 3, "num_return_sequences": 2},
    # Few tokens: the last digits of a beam's score, which processors round otherwise, decide draws.
    "sampled beams": {"max_new_tokens": 4, "min_new_tokens": 4, "num_beams": 2, "do_sample": True},
    "processors": EXACT | {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "guidance": EXACT | {"guidance_scale": 1.5},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_each_way_writes_what_the_definition_does(
    steered: SteeredModel, way: dict[str, Any]
) -> None:
    assert written(steered, PROMPT, **way) == wanted(steered, PROMPT, **way)


# These compute the same by another route.
ROUTES: dict[str, dict[str, Any]] = {
    "no cache": {"use_cache": False},
    "static cache": {"cache_implementation": "static"},
    "chunked prefill": {"prefill_chunk_size": 7},
    "prompt lookup": {"prompt_lookup_num_tokens": 3},
}


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
def test_each_route_writes_what_the_definition_does(
    steered: SteeredModel, route: dict[str, Any]
) -> None:
    assert written(steered, PROMPT, **EXACT, **route) == wanted(steered, PROMPT, **EXACT)


def test_the_ways_are_told_from_the_unsteered_model(steered: SteeredModel) -> None:
    with torch.no_grad():
        found, plain = (
            steered.model(**steered.inputs(text)).logits[0, -1] for text in (PROMPT, TEXT)
        )
    assert (found - plain).abs().max() > 1e-2


def test_stop_strings_end_what_the_definition_writes(steered: SteeredModel) -> None:
    decode = steered.tokenizer.decode
    whole = decode(wanted(steered, PROMPT, **EXACT)[0])
    word = whole[3:6]
    before = whole[: whole.index(word)]
    (found,) = steered.run(PROMPT, stop=[word], **EXACT)
    assert (found.text, found.finish_reason) == (before, "stop")
    assert "".join(steered.stream(PROMPT, stop=[word], **EXACT)) == before
    (own,) = written(steered, PROMPT, stop_strings=[word], tokenizer=steered.tokenizer, **EXACT)
    assert decode(own) == decode(wanted(steered, PROMPT, **EXACT)[0][: len(own)])


def test_a_given_prefix_cache_writes_what_the_definition_does(steered: SteeredModel) -> None:
    inputs = steered.inputs(PROMPT)
    cache = DynamicCache(config=steered.model.config)
    with torch.no_grad():
        steered.model(
            **inputs | {name: inputs[name][:, :15] for name in ("input_ids", "attention_mask")},
            **{cache_name(steered.model): cache},
            use_cache=True,
        )
    assert cache.get_seq_length() == 15
    assert written(steered, PROMPT, **{cache_name(steered.model): cache}, **EXACT) == wanted(
        steered, PROMPT, **EXACT
    )


def test_an_assistant_proposes_and_the_steered_model_writes(steered: SteeredModel) -> None:
    assistant = tiny.llama(seed=1)
    found = written(steered, PROMPT, assistant_model=assistant, **EXACT)
    assert found == wanted(steered, PROMPT, **EXACT)


def test_rows_do_not_feel_each_other(steered: SteeredModel) -> None:
    alone = [written(steered, text, **EXACT)[0] for text in (SHORT, PROMPT, TEXT)]
    assert written(steered, [SHORT, PROMPT, TEXT], **EXACT) == alone
    assert written(steered, [TEXT, SHORT, PROMPT], **EXACT) == [alone[2], *alone[:2]]


FEW = [SpanStr("a Tarn", [Span(2, 6)]), SpanStr("The mayor is Bo?", [Span(4, 9)]), "Bo"]


@pytest.mark.parametrize(
    "route",
    [{}, {"cache_implementation": "static"}, {"num_beams": 2}, {"prefill_chunk_size": 5}],
    ids=["dynamic", "static", "beams", "chunks"],
)
def test_rows_of_few_tokens_do_not_feel_their_padding(
    steered: SteeredModel, route: dict[str, Any]
) -> None:
    """Their logits are written out, and a token of padding sees no key at all."""
    rows = [*FEW, PROMPT] if "prefill_chunk_size" in route else FEW
    assert route or steered.inputs(rows)["input_ids"].shape[1] <= 16
    alone = [written(steered, text, **EXACT)[0] for text in rows]
    if "num_beams" in route:
        alone = [written(steered, text, **EXACT, **route)[0] for text in rows]
    assert written(steered, rows, **EXACT, **route) == alone


def test_compiled_in_one_graph_it_computes_the_same(steered: SteeredModel) -> None:
    inputs = steered.inputs([SHORT, PROMPT])
    torch._dynamo.reset()
    compiled = torch.compile(steered.model, backend="eager", fullgraph=True)
    with torch.no_grad():
        found = compiled(**inputs, use_cache=False).logits
        expected = steered.model(**inputs, use_cache=False).logits
    there = inputs["attention_mask"].bool()
    assert (found - expected)[there].abs().max() < 1e-5 * max(1, expected.abs().max())


# The compiler calls a part of torch in a way that torch has come to advise against.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_to_machine_code_it_computes_the_same() -> None:
    steered = SteeredModel(tiny.llama(), tiny.tokenizer(), HeadProfile(HEADS, alpha=0.02))
    inputs = steered.inputs([SHORT, PROMPT])
    torch._dynamo.reset()
    compiled = torch.compile(steered.model, fullgraph=True)
    with torch.no_grad():
        found = compiled(**inputs, use_cache=False).logits
        expected = steered.model(**inputs, use_cache=False).logits
    there = inputs["attention_mask"].bool()
    assert (found - expected)[there].abs().max() < 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize("kind", ["offloaded", "offloaded_static"])
def test_offloaded_caches_write_the_same_or_are_refused_without_a_gpu(
    steered: SteeredModel, kind: str
) -> None:
    arguments = {"cache_implementation": kind, "use_cache": True}
    if torch.cuda.is_available():
        assert written(steered, PROMPT, **EXACT, **arguments) == wanted(steered, PROMPT, **EXACT)
        return
    with pytest.raises(PromptError, match=r"transformers cannot generate this way.*CUDA"):
        steered.generate(PROMPT, max_new_tokens=2, **arguments)


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch with CUDA says it on a machine without, and nothing else is taken for it."""
    steered = SteeredModel(tiny.llama(), tiny.tokenizer(), HeadProfile(HEADS))
    said = {"Backend doesn't support create a new Stream.": PromptError, "Other.": RuntimeError}
    for text, kind in said.items():

        def fail(*args: object, text: str = text, **kwargs: object) -> None:
            raise RuntimeError(text)

        monkeypatch.setattr(steered.model, "generate", fail)
        with pytest.raises(kind, match=text):
            steered.generate(PROMPT)


def test_a_quantized_cache_that_is_not_installed_is_refused(steered: SteeredModel) -> None:
    with pytest.raises(PromptError, match="transformers cannot generate this way"):
        steered.generate(PROMPT, cache_implementation="quantized", max_new_tokens=2)


def test_continuous_batching_is_refused(steered: SteeredModel) -> None:
    """It takes no steering, so it must not run."""
    inputs = steered.inputs(PROMPT)
    (ids,) = inputs.pop("input_ids").tolist()
    with pytest.raises(UnsupportedModelError, match="Continuous batching takes no steering"):
        steered.model.generate_batch([ids], **inputs)


def test_a_model_dispatched_by_a_device_map_is_steered_alike(tmp_path: Path) -> None:
    tiny.llama().save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    profile = HeadProfile({0: [1], 1: [0, 3]}, alpha=0.02)
    expected = SteeredModel.from_pretrained(tmp_path, profile).generate(PROMPT, max_new_tokens=8)
    for where in ("auto", {"": "cpu"}, {"model.embed_tokens": "cpu", "model.layers.0": "cpu",
                  "model.layers.1": "disk", "model.layers.2": "cpu", "model.norm": "cpu",
                  "model.rotary_emb": "cpu", "lm_head": "cpu"}):  # fmt: skip
        steered = SteeredModel.from_pretrained(
            tmp_path, profile, device_map=where, offload_folder=tmp_path / "offload"
        )
        assert steered.generate(PROMPT, max_new_tokens=8) == expected


def test_a_kernel_that_computes_no_numbers_is_refused() -> None:
    """Transformers' flex attention is one at times, on CPUs, at short lengths."""

    def broken(module: Any, query: Any, *_: Any, **kwargs: Any) -> tuple[Any, None]:
        return query.transpose(1, 2) * float("nan"), None

    AttentionInterface.register("broken", broken)
    AttentionMaskInterface.register("broken", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model = decoder("llama", head_dim=16)
    model.set_attn_implementation("broken")
    with pytest.raises(UnsupportedModelError, match=r"not numbers.*broken.*attn_implementation"):
        SteeredModel(model, tiny.tokenizer(), HeadProfile(HEADS, alpha=0.02))
    assert model.config._attn_implementation == "broken"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flex attention fails on CPUs unsteered")
def test_flex_attention_equals_the_definition() -> None:
    model = decoder("llama", head_dim=16).cuda()
    model.set_attn_implementation("flex_attention")
    flex = SteeredModel(model, tiny.tokenizer(), HeadProfile(HEADS, alpha=0.02))
    with torch.no_grad():
        found = flex.model(**flex.inputs(PROMPT)).logits[0]
    ids, bias = bias_of(flex, PROMPT)
    (expected,) = oracle.logits(flex.model, HEADS, [ids], [bias])
    assert (found - expected).abs().max() < 1e-3 * expected.abs().max()
