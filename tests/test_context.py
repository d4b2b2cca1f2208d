"""How much a model can read and write together."""

from __future__ import annotations

import pytest

from pasta_chains.context import Context, Room
from pasta_chains.errors import PromptError, PromptTooLongError


def test_an_answer_leaves_room_for_a_prompt() -> None:
    assert Context(100).room_for_prompt(7, "keep-emphasis") == Room(93, 93)
    assert Context(4096).room_for_prompt(None, "keep-emphasis") == Room(3840, 4095)
    assert Context(3).room_for_prompt(None, "keep-emphasis") == Room(2, 2)


def test_without_a_limit_or_with_an_error_nothing_is_dropped() -> None:
    assert Context(None).room_for_prompt(7, "keep-emphasis") is None
    assert Context(100).room_for_prompt(7, "error") is None
    with pytest.raises(PromptError, match="overflow"):
        Context(100).room_for_prompt(7, "truncate")  # type: ignore[arg-type]  # wrong on purpose


def test_a_prompt_leaves_room_for_an_answer() -> None:
    assert Context(100).room_for_answer(93, 7) == 7
    assert Context(100).room_for_answer(93, None) == 7
    assert Context(4096).room_for_answer(93, None) == 256
    assert Context(None).room_for_answer(10**6, None) == 256


def test_what_does_not_fit_is_refused_by_the_models_name() -> None:
    with pytest.raises(PromptTooLongError, match=r"93 tokens and the answer may have 8.*of Ada is"):
        Context(100, "Ada").room_for_answer(93, 8)
    with pytest.raises(PromptTooLongError, match="the model is 100 tokens"):
        Context(100).room_for_answer(100, None)
