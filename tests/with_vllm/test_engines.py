"""Engines that do not steer as their front end says."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.exceptions import VLLMValidationError

from pasta_chains import HeadProfile
from pasta_chains.errors import ProfileError
from pasta_chains.vllm.engines import DIGEST, asking, received
from pasta_chains.vllm.settings import Settings
from pasta_chains.wire import KEY

PROFILE = HeadProfile({1: [0, 3]}, alpha=0.02)
OWN = Settings(PROFILE).digest
STEERED = SimpleNamespace(extra_args={KEY: "{}"})


def config(profile: HeadProfile | None) -> Any:
    told = {} if profile is None else {KEY: {"profile": profile.to_dict()}}
    return SimpleNamespace(additional_config=told, model_config=None)


def front(*told: str | None) -> Any:
    """A front end whose engines say these digests; None is a stock engine."""
    asked: list[int] = []

    async def call_utility_all_async(method: str) -> list[str]:
        assert method == DIGEST
        asked.append(len(told))
        if None in told:
            raise Exception("Call to pasta_chains_digest method failed")
        return [one for one in told if one]

    client = SimpleNamespace(core_engines=[*told], call_utility_all_async=call_utility_all_async)
    return SimpleNamespace(vllm_config=config(PROFILE), engine_core=client, asked=asked)


async def original(front: Any, request_id: str, prompt: Any, params: Any) -> str:
    return "answer"


def add(front: Any, params: Any = STEERED) -> str:
    return str(asyncio.run(asking(original)(front, "1", "x", params)))


def test_engines_are_asked_once_and_again_when_there_are_more() -> None:
    served = front(OWN, OWN)
    assert [add(served), add(served)] == ["answer", "answer"]
    assert served.asked == [2]
    served.engine_core.core_engines.append(OWN)
    add(served)
    assert len(served.asked) == 2


@pytest.mark.parametrize("told", [(OWN, None), (None,), (OWN, "other")])
def test_steered_requests_are_refused_where_an_engine_would_lose_them(told: Any) -> None:
    served = front(*told)
    for _ in range(2):
        with pytest.raises(VLLMValidationError, match="An engine of this server does not steer"):
            add(served)
    assert add(served, SimpleNamespace(extra_args=None)) == "answer"


@pytest.mark.parametrize(
    ("profile", "told", "is_taken"),
    [
        (PROFILE, {"profile": OWN}, True),
        (PROFILE, None, True),
        (None, None, True),
        (None, "what a client sent to stock vLLM", True),
        (PROFILE, {"profile": "other"}, False),
        (None, {"profile": OWN}, False),
        (PROFILE, "what a client sent to a front end that does not steer", False),
    ],
)
def test_an_engine_takes_in_what_it_steers(profile: Any, told: Any, is_taken: bool) -> None:
    core = SimpleNamespace(vllm_config=config(profile))
    extra = None if told is None else {KEY: told}
    request = SimpleNamespace(sampling_params=SimpleNamespace(extra_args=extra))
    take = received(lambda core, request: "taken")
    if is_taken:
        assert take(core, request) == "taken"
        return
    with pytest.raises(ProfileError, match="does not steer the heads"):
        take(core, request)
