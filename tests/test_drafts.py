"""Answers that are checked against known ones are those that decoding gives, head by head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import architectures
import pytest
import tiny
import torch

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import PromptTooLongError
from pasta_chains.profile import HeadProfile
from pasta_chains.profiling import drafts
from pasta_chains.profiling.drafts import Writing
from pasta_chains.profiling.measuring import all_heads
from pasta_chains.profiling.upper_layers import Reading, path_of_layers
from pasta_chains.prompts import tokenize
from pasta_chains.spans import Span, SpanStr

TEXTS = [
    SpanStr("The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who?", [Span(31, 61)]),
    SpanStr("Answer only with the name: who is the mayor?", [Span(0, 26)]),
    SpanStr("The mayor", [Span(4, 9)]),
    SpanStr("Who is the mayor of Tarn?"),
]
ALPHA, NEW = 0.01, 6
DTYPE = torch.float32
"""Gemma 2 has NaN where a batch is padded in float64, also without steering."""


def made(model_type: str = "llama", ends: list[int] | None = None) -> SteeredModel:
    """A model whose answers end with any of some tokens."""
    model = architectures.decoder(model_type).to(DTYPE)
    model.generation_config.eos_token_id = ends
    model.generation_config.pad_token_id = 0
    return SteeredModel(model, tiny.tokenizer())


def writing(model: SteeredModel, new: int = NEW, texts: list[SpanStr] = TEXTS) -> Writing:
    prompts = [tokenize(text, model.tokenizer, ALPHA) for text in texts]
    every = HeadProfile(all_heads(model), ALPHA)
    return Writing(model, path_of_layers(model.model), prompts, every, new)


def profiles(model: SteeredModel) -> Iterator[HeadProfile]:
    """No head, each head alone, and all of each layer."""
    yield HeadProfile({}, ALPHA)
    for layer, heads in all_heads(model).items():
        yield from (HeadProfile({layer: [head]}, ALPHA) for head in heads)
        yield HeadProfile({layer: heads}, ALPHA)
    yield HeadProfile(all_heads(model), ALPHA)


def generated(model: SteeredModel, profile: HeadProfile, new: int = NEW) -> list[str]:
    return model.generate(TEXTS, profile=profile, max_new_tokens=new, do_sample=False)


def frequent_token(model: SteeredModel) -> int:
    """A token that many answers have, but not at their very beginning."""
    profile = HeadProfile({}, ALPHA)
    ids = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in
           generated(model, profile)]  # fmt: skip
    later = [token for some in ids for token in some[2:]]
    return max(later, key=later.count)


@pytest.mark.parametrize("ends", ["never", "early"])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2", "bloom", "gpt_neo"])
def test_answers_are_those_of_decoding(model_type: str, ends: str) -> None:
    model = made(model_type)
    if ends == "early":
        model = made(model_type, [frequent_token(model), 2])
    checked, answers = writing(model), set()
    for profile in profiles(model):
        wanted = generated(model, profile)
        assert checked.answers(profile) == wanted, profile.heads
        answers.add(tuple(wanted))
    assert len(answers) > 3  # heads matter


def test_order_does_not_matter() -> None:
    """Answers of one head become drafts of the next; they must be drafts and nothing more."""
    model = made()
    forward, backward = writing(model), writing(model)
    some = list(profiles(model))
    found = [forward.answers(profile) for profile in some]
    assert [backward.answers(profile) for profile in reversed(some)] == found[::-1]
    assert [forward.answers(profile) for profile in some] == found


@pytest.mark.parametrize("new", [1, 2])
def test_the_shortest_answers(new: int) -> None:
    model = made()
    checked = writing(model, new)
    for profile in profiles(model):
        assert checked.answers(profile) == generated(model, profile, new)


def test_models_that_take_no_batches_write_the_same() -> None:
    model = made("bart")
    model.model.generation_config.forced_eos_token_id = None
    assert not model.takes_batches
    checked = writing(model)
    for profile in profiles(model):
        assert checked.answers(profile) == generated(model, profile)


@pytest.mark.parametrize(
    "said",
    [
        {"forced_eos_token_id": 2},
        {"suppress_tokens": [*range(3, 200)]},
        {"min_new_tokens": 4, "eos_token_id": [*range(100)]},
    ],
    ids=lambda said: next(iter(said)),
)
def test_what_a_models_configuration_says_of_its_answers_counts(said: dict[str, Any]) -> None:
    model, other = made(), made()
    for name, value in said.items():
        setattr(model.model.generation_config, name, value)
    assert generated(model, HeadProfile({}, ALPHA)) != generated(other, HeadProfile({}, ALPHA))
    checked = writing(model)
    for profile in profiles(model):
        assert checked.answers(profile) == generated(model, profile)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call decoded token by token."""
    rows: list[int] = []
    generate = drafts.generate

    def counted(model: Any, arguments: dict[str, Any]) -> Any:
        rows.append(len(arguments["input_ids"]))
        return generate(model, arguments)

    monkeypatch.setattr(drafts, "generate", counted)
    return rows


def test_what_changes_nothing_is_not_decoded(decoded: list[int]) -> None:
    checked = writing(made())
    assert decoded == [len(TEXTS)]  # unsteered, once
    plain = checked.answers(HeadProfile({}, ALPHA))
    weak = HeadProfile({0: [0]}, ALPHA)
    checked.answers(weak)
    before = len(decoded)
    checked.answers(weak)  # now its own answers are known
    assert len(decoded) == before
    assert checked.answers(HeadProfile({}, ALPHA)) == plain
    assert len(decoded) == before


def test_only_rows_that_change_are_decoded(decoded: list[int]) -> None:
    model = made()
    checked = writing(model)
    plain = checked.answers(HeadProfile({}, ALPHA))
    for profile in profiles(model):
        decoded.clear()
        found = checked.answers(profile)
        changed = sum(one != other for one, other in zip(found, plain, strict=True))
        assert sum(decoded) <= changed


def test_two_equally_likely_tokens_do_not_keep_it_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another batch may round otherwise: here each reading of a position tells the other token."""
    model = made()
    checked = writing(model, 3, TEXTS[:1])
    (draft,) = checked._drafts.values()
    other = [draft[0], draft[1] + 1, draft[2]]
    checked._known[0].append(other)
    asked = 0

    def logits(self: Reading, heads: Any) -> torch.Tensor:
        nonlocal asked
        asked += 1
        assert asked < 10, "it goes on forever"
        found = torch.zeros(1, 4, 360)
        second = other[1] if asked % 2 else draft[1]
        for place, token in enumerate([draft[0], second, draft[2]]):
            found[0, place, token] = 1.0
        return found

    monkeypatch.setattr(Reading, "logits", logits)
    (answer,) = checked.answers(HeadProfile({0: [0]}, ALPHA))
    assert answer == model.tokenizer.decode(other, skip_special_tokens=True)


def test_a_prompt_that_leaves_no_room_for_its_answer_is_refused() -> None:
    with pytest.raises(PromptTooLongError):
        writing(made(), new=120)
