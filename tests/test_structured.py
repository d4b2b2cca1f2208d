"""Answers of a form that was asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tiny
from scripted import Scripted

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import PromptError
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr
from pasta_chains.structured import Structure

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
MARKED = SpanStr(TEXT, [Span(31, 61)])
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "kind": {"enum": ["mayor", "miller"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def steered() -> SteeredModel:
    return SteeredModel(tiny.llama(), tiny.tokenizer(), HeadProfile({0: [2], 1: [0, 3]}, 0.02))


WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"do_sample": True},
    "seeded": {"do_sample": True, "seed": 3},
    "several": {"do_sample": True, "num_return_sequences": 3},
    "no cache": {"use_cache": False},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_every_row_is_json_of_the_schema(steered: SteeredModel, way: dict[str, Any]) -> None:
    structure = Structure.json(SCHEMA)
    found = steered.run([MARKED, TEXT, "Bo"], structure=structure, max_new_tokens=120, **way)
    assert len(found) == 3 * way.get("num_return_sequences", 1)
    for answer in found:
        made = json.loads(answer.text)
        assert answer.finish_reason == "stop"
        assert list(made) == ["name", "age", "kind"]
        assert len(made["name"]) <= 8
        assert 0 <= made["age"] <= 120
        assert made["kind"] in ("mayor", "miller")
    assert "".join(steered.stream(MARKED, structure=structure, max_new_tokens=120)) == (
        steered.generate(MARKED, structure=structure, max_new_tokens=120)
    )


def test_patterns_and_choices(steered: SteeredModel) -> None:
    prompts = [MARKED, TEXT, "Bo"]
    for text in steered.generate(prompts, structure=Structure.regex("[0-9]{3}-[a-c]{1,4}")):
        assert re.fullmatch("[0-9]{3}-[a-c]{1,4}", text)
    options = ["Ada Lowe", "Bo Marsh", 'no, "never"\n']
    drawn = [
        steered.generate(TEXT, structure=Structure.choice(options), do_sample=True, seed=seed)
        for seed in range(12)
    ]
    assert set(drawn) <= set(options)
    assert len(set(drawn)) > 1
    assert isinstance(json.loads(steered.generate(TEXT, structure=Structure.json(
        {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}
    ))), list)  # fmt: skip


LONG = {
    "type": "object",
    "properties": {
        "setup": {"type": "string"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "rating": {"type": "number"},
        "kind": {"enum": ["pun", "riddle"]},
        "note": {"type": "string"},
    },
    "required": ["setup", "lines", "rating", "kind"],
    "$defs": {
        "line": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "sure": {"type": "boolean"}},
            "required": ["text", "sure"],
        }
    },
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tokens", [70, 90, 130])
def test_json_is_closed_before_the_tokens_run_out(
    steered: SteeredModel, seed: int, tokens: int
) -> None:
    structure = Structure.json(LONG)
    found = steered.run(
        [TEXT, "Bo"], structure=structure, max_new_tokens=tokens, do_sample=True, seed=seed
    )
    for answer in found:
        made = json.loads(answer.text)
        assert {"setup", "lines", "rating", "kind"} <= made.keys()
        assert made["kind"] in ("pun", "riddle")
        assert answer.new_tokens <= tokens
    assert any(answer.finish_reason == "length" for answer in found)


PEOPLE = {
    "type": "object",
    "properties": {
        "people": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {f"field_{n}": {"type": "string"} for n in range(10)},
                "required": [f"field_{n}" for n in range(10)],
                "additionalProperties": False,
            },
        }
    },
    "required": ["people"],
    "additionalProperties": False,
}
PATTERNS = {
    "type": "object",
    "properties": {
        "note": {"type": "string"},
        "day": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[a-z]+ [0-9]+$"},
    },
    "required": ["note", "day", "code"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("schema", [PEOPLE, PATTERNS], ids=["objects in a list", "patterns"])
@pytest.mark.parametrize("tokens", [330, 400, 470])
def test_long_items_and_patterns_are_closed_too(schema: dict[str, Any], tokens: int) -> None:
    steered = SteeredModel(tiny.llama(context=1000), tiny.tokenizer(), None)
    found = steered.run(
        [TEXT, "Bo"],
        structure=Structure.json(schema),
        max_new_tokens=tokens,
        do_sample=True,
        temperature=2.0,
        seed=tokens,
    )
    for answer in found:
        assert json.loads(answer.text).keys() == set(schema["required"])


def test_what_was_closed_early_is_told_even_if_tokens_are_left() -> None:
    tokenizer = tiny.tokenizer()
    steered = SteeredModel(tiny.llama(context=1000), tokenizer, None)
    wanted = Scripted(tokenizer, '{"people": [{"field_0": "Ada"')  # an item takes 200 tokens
    (answer,) = steered.run(
        TEXT,
        structure=Structure.json(PEOPLE),
        logits_processor=[wanted],
        max_new_tokens=60,
    )
    assert json.loads(answer.text) == {"people": []}
    assert answer.new_tokens < 60
    assert answer.finish_reason == "length"


def test_an_answer_that_ends_in_time_is_not_closed_early(steered: SteeredModel) -> None:
    arguments: dict[str, Any] = {"structure": Structure.json(SCHEMA), "max_new_tokens": 120}
    (whole,) = steered.run(TEXT, **arguments)
    (tight,) = steered.run(TEXT, **arguments | {"max_new_tokens": whole.new_tokens + 9})
    assert tight == whole
    assert whole.finish_reason == "stop"


def test_a_choice_is_the_models_own_however_few_tokens_it_may_have(steered: SteeredModel) -> None:
    options = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    structure = Structure.choice(options)
    free = steered.generate([TEXT, MARKED, "Bo"], structure=structure)
    assert free != ["a"] * 3
    assert steered.generate([TEXT, MARKED, "Bo"], structure=structure, max_new_tokens=1) == free


def test_rows_of_a_batch_and_threads_do_not_mix(steered: SteeredModel) -> None:
    prompts = [MARKED, TEXT, "Bo", SpanStr(TEXT, [Span(0, 30)])]
    structure = Structure.json(SCHEMA)

    def ask(prompt: Any) -> Any:
        return steered.generate(prompt, structure=structure, max_new_tokens=120)

    alone = [ask(prompt) for prompt in prompts]
    assert ask(prompts) == alone
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, prompts * 3)) == alone * 3


def test_what_cannot_be_enforced_is_refused(steered: SteeredModel) -> None:
    for make, message in (
        (lambda: Structure.json({"type": "nonsense"}), "nonsense"),
        (lambda: Structure.regex("("), "unclosed group"),
        (lambda: Structure.choice([]), "none of them empty"),
        (lambda: Structure.choice("abc"), "none of them empty"),
    ):
        with pytest.raises(PromptError, match=message):
            make()
    yes = Structure.choice(["yes"])
    for arguments in ({"num_beams": 2}, {"prompt_lookup_num_tokens": 2}, {"min_new_tokens": 9}):
        with pytest.raises(
            PromptError, match=f"structure cannot be combined with {next(iter(arguments))}"
        ):
            steered.run(TEXT, structure=yes, **arguments)


def test_a_missing_package_is_named_with_its_extra() -> None:
    code = (
        "import sys; sys.modules['llguidance'] = None\n"
        "from pasta_chains.structured import Structure\n"
        "try: Structure.json()\n"
        "except ImportError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pasta-chains[structured]" in found.stdout
