"""The head profiles that come with the package: what they hold, and that they steer exactly."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import oracle
import plain_oracle
import pytest
import tiny
import torch
from test_steerable import decoder

import pasta_chains
from pasta_chains.demo import MODEL
from pasta_chains.engine import SteeredModel
from pasta_chains.errors import ProfileError
from pasta_chains.profile import FILE_NAME, HeadProfile
from pasta_chains.spans import Span, SpanStr

FOLDER = Path(pasta_chains.__file__).parent / "profiles"
PAGE = Path(__file__).parent.parent / "docs" / "reference" / "shipped-profiles.md"
LLAMA, GPTJ = "huggyllama/llama-7b", "EleutherAI/gpt-j-6b"
QWEN = [f"Qwen/Qwen3-{size}B-Base" for size in (4, 8, 14)]
TASKS = ["biasbios", "counterfact", "jsonformat", "pronchange"]

# Of each variant, the number of heads with the top 300, 400, 500 (GPT-J 250, 275, 300, 325).
_COUNTS: dict[str, tuple[list[int], dict[str, list[int]]]] = {
    LLAMA: (
        [300, 400, 500],
        {
            "multi-task": [25, 53, 86],
            "task-agnostic-biasbios": [44, 87, 148],
            "task-agnostic-counterfact": [42, 79, 138],
            "task-agnostic-jsonformat": [66, 98, 148],
            "task-agnostic-pronchange": [47, 100, 159],
        },
    ),
    GPTJ: (
        [250, 275, 300, 325],
        {
            "multi-task": [52, 72, 111, 153],
            "task-agnostic-biasbios": [83, 116, 156, 192],
            "task-agnostic-counterfact": [79, 103, 141, 181],
            "task-agnostic-jsonformat": [86, 115, 155, 197],
            "task-agnostic-pronchange": [92, 120, 159, 196],
        },
    ),
}
_QWEN_COUNTS = dict(zip(QWEN, (115, 192, 317), strict=True))
COUNTS = {
    (model, f"{name}-top{top}"): count
    for model, (tops, variants) in _COUNTS.items()
    for name, counts in variants.items()
    for top, count in zip(tops, counts, strict=True)
} | {(name, "synthetic-diff0.10"): count for name, count in _QWEN_COUNTS.items()}
DEFAULTS = {LLAMA: 86, GPTJ: 111} | _QWEN_COUNTS
QWEN_SHAPES = dict(zip(QWEN, [(36, 32), (36, 32), (40, 40)], strict=True))
SHAPES = {LLAMA: (32, 32), GPTJ: (28, 16)} | QWEN_SHAPES


def pairs(profile: HeadProfile) -> set[tuple[int, int]]:
    return {(layer, head) for layer, numbers in profile.heads.items() for head in numbers}


def test_the_files_hold_these_models_and_variants() -> None:
    files = [json.loads(file.read_text("utf-8")) for file in FOLDER.glob("*.json")]
    assert {(data["model"], variant) for data in files for variant in data["profiles"]} == {*COUNTS}
    names = [name for data in files for name in (data["model"], *data["aliases"])]
    parts = [name.rsplit("/")[-1].lower() for name in names]
    assert len(set(parts)) == len(parts), "a name belongs to one file"
    licence = (FOLDER / "NOTICE").read_text("utf-8")
    assert "Copyright (c) 2023 Qingru Zhang" in licence, "which the licence asks for"


@pytest.mark.parametrize(("model", "variant"), COUNTS)
def test_every_variant_loads_with_its_heads(model: str, variant: str) -> None:
    profile = HeadProfile.for_model(model, variant)
    assert len(profile) == COUNTS[model, variant]
    assert (profile.model, profile.alpha) == (model, 0.01)
    assert profile.source is not None
    assert re.search(r"PASTA \(MIT\)|SEKA \(Apache-2.0\)", profile.source)
    assert (variant in profile.source) == (model not in QWEN), "which of several, can be told"
    profile.check_fits(model, *SHAPES[model])


def test_without_a_variant_it_is_the_recommended_one() -> None:
    assert {model: len(HeadProfile.for_model(model)) for model in DEFAULTS} == DEFAULTS


def test_the_published_heads_are_those_of_the_paper() -> None:
    assert HeadProfile.for_model(LLAMA, "multi-task-top300").heads == {
        1: (29,), 8: (28,), 9: (12,), 10: (7, 12, 22, 23), 11: (5, 17), 12: (0, 23, 26),
        13: (24, 25), 14: (3, 10), 16: (16, 21, 28), 17: (24,), 18: (23,), 19: (24,), 20: (18,),
        22: (5,), 27: (25,),
    }  # fmt: skip
    assert HeadProfile.for_model(QWEN[0]).heads[22] == (10, 12, 14, 19)


@pytest.mark.parametrize("model", [LLAMA, GPTJ])
def test_multi_task_heads_are_those_that_all_task_agnostic_ones_share(model: str) -> None:
    """An intersection over four tasks is that of the intersections over three each."""
    smaller: set[tuple[int, int]] = set()
    for top in _COUNTS[model][0]:
        shared = pairs(HeadProfile.for_model(model, f"multi-task-top{top}"))
        others = [HeadProfile.for_model(model, f"task-agnostic-{t}-top{top}") for t in TASKS]
        assert shared == set.intersection(*map(pairs, others))
        assert smaller < shared
        smaller = shared


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("HuggyLlama/LLaMA-7B", LLAMA),
        ("/models/llama-7b/", LLAMA),
        (r"C:\models\Llama-7b", LLAMA),
        (Path("models") / "llama-7b", LLAMA),
        ("EleutherAI/gpt-j-6B", GPTJ),
        ("gpt-j-6b", GPTJ),
        ("elsewhere/qwen3-8b-base", QWEN[1]),
        ("decapoda-research/llama-7b-hf", "decapoda-research/llama-7b-hf"),
        ("jeffwan/llama-7b-hf", "decapoda-research/llama-7b-hf"),
    ],
)
def test_a_model_is_found_by_name_or_path(name: str | Path, model: str) -> None:
    profile = HeadProfile.for_model(name)
    assert profile.model == model
    profile.check_fits(str(name), layers=36, heads=32)


def test_another_name_of_the_same_weights_has_the_same_heads() -> None:
    assert HeadProfile.for_model("llama-7b-hf") == replace(
        HeadProfile.for_model(LLAMA), model="decapoda-research/llama-7b-hf"
    )


def test_the_embedded_models_profile_is_found_too() -> None:
    own = HeadProfile.load(MODEL / FILE_NAME)
    for name in ("pasta-reader", MODEL, str(MODEL), "Pasta-Reader"):
        assert HeadProfile.for_model(name) == own
    assert HeadProfile.for_model(MODEL, "demo") == own


@pytest.mark.parametrize(
    "name", ["lmsys/vicuna-7b-v1.5", "Qwen/Qwen3-4B", "meta-llama/Llama-2-7b-hf", "llama"]
)
def test_a_model_without_a_profile_is_told_how_to_find_its_heads(name: str) -> None:
    with pytest.raises(ProfileError) as raised:
        HeadProfile.for_model(name)
    message = str(raised.value)
    assert message.startswith(f"No head profile is shipped for {name}. ")
    assert f"`pasta-chains profile {name} --task … --out profile.json`" in message
    assert all(model in message for model in (*DEFAULTS, "pasta-reader"))
    assert f'replace(HeadProfile.for_model("{LLAMA}"), model=None)' in message


@pytest.mark.parametrize("name", ["", "/"])
def test_a_model_without_a_name_has_no_profile(name: str) -> None:
    with pytest.raises(ProfileError, match="No head profile is shipped for"):
        HeadProfile.for_model(name)


@pytest.mark.parametrize(
    ("name", "variant", "message"),
    [
        (LLAMA, "top500", "llama-7b have no variant 'top500'. .*task-agnostic-pronchange-top500; "),
        (LLAMA, "", "no variant ''"),
        (GPTJ, "multi-task-top500", "variant 'multi-task-top500'.* default is multi-task-top300"),
        ("pasta-reader", "multi-task-top300", "There are demo; the default is demo"),
    ],
)
def test_an_unknown_variant_is_refused_with_those_there_are(
    name: str, variant: str, message: str
) -> None:
    with pytest.raises(ProfileError, match=message):
        HeadProfile.for_model(name, variant)


def test_the_page_lists_what_is_shipped() -> None:
    listed: dict[tuple[str, str], int] = {}
    defaults: set[str] = set()
    for line in PAGE.read_text("utf-8").splitlines():
        found = re.fullmatch(r"\| `(.+?)` \| `(.+?)` \| ([\d, *]+) \| 0\.01 \| .+ \|", line)
        if found is None:
            continue
        model, variant, counts = found.groups()
        tops = _COUNTS[model][0] if variant.endswith("-topN") else [None]
        for top, count in zip(tops, counts.split(", "), strict=True):
            name = variant if top is None else variant.replace("topN", f"top{top}")
            listed[model, name] = int(count.strip("*"))
            if "*" in count:
                defaults.add(model)
                assert HeadProfile.for_model(model) == HeadProfile.for_model(model, name)
    assert defaults == {*_COUNTS}
    assert listed.pop(("pasta-reader", "demo")) == len(HeadProfile.for_model("pasta-reader"))
    assert listed == COUNTS


TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
PROMPT = SpanStr(TEXT, [Span(31, 61), Span(70, 79, 0.3)])
WRITES: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4}


@pytest.fixture(scope="module", params=SHAPES)
def plain(request: pytest.FixtureRequest) -> Any:
    """A random, unsteered model of a published shape; float32 errs much in so many layers."""
    layers, heads = SHAPES[request.param]
    fields: dict[str, Any] = {"head_dim": 4, "num_key_value_heads": heads}
    kind = "llama"
    if request.param == GPTJ:
        kind, fields = "gptj", {"rotary_dim": 4}
    elif request.param in QWEN:
        kind, fields = "qwen3", {"head_dim": 4, "num_key_value_heads": 8}
    fields |= {"hidden_size": 4 * heads, "intermediate_size": 48}
    made = decoder(kind, num_hidden_layers=layers, num_attention_heads=heads, **fields)
    made.config.name_or_path = f"/models/{request.param.rsplit('/')[-1]}"
    return made.double()


@pytest.fixture(scope="module")
def steered(plain: Any) -> SteeredModel:
    model = copy.deepcopy(plain)
    return SteeredModel(model, tiny.tokenizer(), HeadProfile.for_model(plain.config.name_or_path))


def request_of(steered: SteeredModel) -> tuple[list[int], list[float]]:
    """Tokens of the prompt, and the bias that the definition gives each."""
    encoded = steered.tokenizer(TEXT, return_offsets_mapping=True)
    marks = [(span.start, span.end, span.alpha or 0.01) for span in PROMPT.spans]
    return encoded["input_ids"], oracle.bias_of(TEXT, marks, encoded["offset_mapping"])


def oracle_of(plain: Any) -> Any:
    # GPT-J takes no attention function from outside.
    return plain_oracle if plain.config.model_type == "gptj" else oracle


@torch.no_grad()
def test_every_variant_steers_a_model_of_its_shape_exactly(
    plain: Any, steered: SteeredModel
) -> None:
    ids, bias = request_of(steered)
    before = steered.model(**steered.inputs(TEXT)).logits[0]
    part = Path(steered.name).name
    variants = [variant for model, variant in COUNTS if model.endswith(f"/{part}")]
    assert variants
    for variant in variants:
        profile = HeadProfile.for_model(steered.name, variant)
        found = steered.model(**steered.inputs(PROMPT, profile=profile)).logits[0]
        (wanted,) = oracle_of(plain).logits(plain, profile.heads, [ids], [bias])
        assert (found - wanted).abs().max() < 1e-5, variant
        assert (found - before).abs().max() > 0.1, f"{variant}: the steering is felt"


def test_the_recommended_one_writes_what_the_definition_does(
    plain: Any, steered: SteeredModel
) -> None:
    ids, bias = request_of(steered)
    heads = HeadProfile.for_model(steered.name).heads
    (wanted,) = oracle_of(plain).sequences(plain, heads, ids, bias, **WRITES)
    found = steered.model.generate(**steered.inputs(PROMPT), **WRITES)
    assert found[0, len(ids) :].tolist() == wanted


def like_llama(name: str, layers: int = 32, heads: int = 32) -> Any:
    model = tiny.llama(
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
        hidden_size=2 * heads,
    )  # fmt: skip
    model.config.name_or_path = name
    return model


def test_a_model_of_another_name_refuses_them_until_their_name_is_taken_off() -> None:
    model, profile = like_llama("lmsys/vicuna-7b-v1.5"), HeadProfile.for_model(LLAMA)
    with pytest.raises(ProfileError, match=r"belongs to huggyllama/llama-7b, but .* is lmsys"):
        SteeredModel(model, tiny.tokenizer(), profile)
    steered = SteeredModel(model, tiny.tokenizer(), replace(profile, model=None))
    assert steered.score(PROMPT, [" Bo"]) != steered.score(TEXT, [" Bo"])


@pytest.mark.parametrize(
    ("layers", "heads", "message"),
    [
        (31, 32, "steers layer 31, but .*llama-7b has layers 0 to 30"),
        (32, 16, "steers head 17 of layer 0, but .*llama-7b has heads 0 to 15"),
    ],
)
def test_a_model_of_another_shape_refuses_them(layers: int, heads: int, message: str) -> None:
    model = like_llama("/models/llama-7b", layers, heads)
    with pytest.raises(ProfileError, match=message):
        SteeredModel(model, tiny.tokenizer(), HeadProfile.for_model(LLAMA))
