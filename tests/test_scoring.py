"""Scores of continuations: sums of log-probabilities, whatever else is scored beside them."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import PromptError, PromptTooLongError
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
SECOND = SpanStr(TEXT, [Span(31, 61)])
CHAT = [{"role": "user", "content": SECOND}]


@pytest.fixture(scope="module")
def steered() -> SteeredModel:
    profile = HeadProfile({0: [2], 1: [0, 3], 2: [0, 1, 2, 3]}, alpha=0.02)
    return SteeredModel(tiny.llama(), tiny.tokenizer(), profile)


@pytest.mark.parametrize("prompt", [TEXT, SECOND, CHAT], ids=["plain", "emphasized", "chat"])
def test_a_score_is_the_sum_of_log_probabilities(steered: SteeredModel, prompt: Any) -> None:
    answers = [" Ada Lowe", " Bo", " Marsh. The mayor of Tarn", "é"]
    scores = steered.score(prompt, answers)
    for answer, score in zip(answers, scores, strict=True):
        inputs = steered.inputs(prompt)
        total = 0.0
        for token in steered.tokenizer(answer, add_special_tokens=False)["input_ids"]:
            with torch.no_grad():  # the bias stays as long as the prompt: new tokens have none
                logits = steered.model(**inputs, use_cache=False).logits[0, -1]
            total += float(logits.log_softmax(-1)[token])
            inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[token]])], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        assert score == pytest.approx(total, abs=1e-4)
        assert steered.score(prompt, [answer]) == pytest.approx([score], abs=1e-4)
    assert steered.score(prompt, []) == []


def test_next_token_scores_sum_to_one_and_emphasis_moves_them(steered: SteeredModel) -> None:
    vocabulary = [steered.tokenizer.decode([token]) for token in range(360)]
    alone = {
        text
        for token, text in enumerate(vocabulary)
        if steered.tokenizer(text, add_special_tokens=False)["input_ids"] == [token]
    }
    total = torch.tensor(steered.score(SECOND, sorted(alone))).exp().sum()
    assert 0 < total <= 1 + 1e-5
    moved = abs(steered.score(SECOND, [" Bo"])[0] - steered.score(TEXT, [" Bo"])[0])
    assert moved > 1e-3


def test_scores_of_nothing_are_refused(steered: SteeredModel) -> None:
    with pytest.raises(PromptError, match="has no token to score"):
        steered.score(TEXT, ["a", ""])
    with pytest.raises(PromptError, match="continuations is one text"):
        steered.score(TEXT, "abc")
    with pytest.raises(PromptTooLongError):
        steered.score(TEXT, [TEXT * 20])
    with pytest.raises(PromptError, match="A prompt is a text or a list"):
        steered.score([TEXT, TEXT], ["a"])  # type: ignore[list-item]  # wrong on purpose
