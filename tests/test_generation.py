"""What may be asked of one answer, and where it ends."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import ProfileError, PromptError
from pasta_chains.generation import read_generation
from pasta_chains.profile import HeadProfile
from pasta_chains.prompts import tokenize
from pasta_chains.streaming import Decoding, StopStrings

TEXT = "The mayor of Tarn is"


@pytest.fixture(scope="module")
def steered() -> SteeredModel:
    return SteeredModel(tiny.llama(), tiny.tokenizer(), HeadProfile({0: [1]}))


@pytest.mark.parametrize(
    ("stop", "text"),
    [("<s>Bo", "Ada"), (" is", "AdaBo"), ("da<s>B", "A"), ("<s>", "Ada"), ("nothing", "AdaBo is")],
)
def test_a_stop_string_may_hold_special_tokens(stop: str, text: str) -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer("Ada<s>Bo is", add_special_tokens=False)["input_ids"]
    assert tokenizer.bos_token_id in ids
    prompt = tokenize(TEXT, tokenizer, 0.1)
    stopping = StopStrings(tokenizer, [stop], 0)
    assert read_generation(Decoding(tokenizer), prompt, ids, stopping).text == text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"stop": 3}, PromptError, "stop is 3"),
        ({"stop": [3]}, PromptError, "3 cannot end an answer"),
        ({"input_ids": torch.ones(1, 2)}, PromptError, "the prompt says what the model reads"),
        ({"profile": {0: [1]}}, ProfileError, "must be a HeadProfile, a file of one, or 'default'"),
    ],
)
def test_arguments_of_other_kinds_are_refused(
    steered: SteeredModel, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        steered.run(TEXT, **arguments)


def test_no_stop_is_none(steered: SteeredModel) -> None:
    assert steered.run(TEXT, stop=None, max_new_tokens=3) == steered.run(TEXT, max_new_tokens=3)


def test_a_stop_string_with_a_special_token_inside_is_not_streamed(steered: SteeredModel) -> None:
    with pytest.raises(PromptError, match="holds a special token and other text"):
        steered.stream(TEXT, stop=["<s>Bo"])
    assert "".join(steered.stream(TEXT, stop=["<s>"], max_new_tokens=3)) is not None
