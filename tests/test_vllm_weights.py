"""Weights of a request's tokens in the engine: shifted, cut, and in the keys of blocks."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pasta_chains.vllm.bias import CHANNELS, Bias
from pasta_chains.vllm.caching import with_emphasis
from pasta_chains.vllm.weights import Weights
from pasta_chains.wire import KEY

LOGS = st.lists(st.sampled_from([0.0, 0.0, 2.3, 4.6, -4.6]), min_size=1, max_size=30)
DTYPES = {torch.float32: 1e-6, torch.bfloat16: 3e-5, torch.float16: 3e-6}


def weights_of(logs: list[float], *, shifted: bool = True) -> Weights | None:
    return Weights.of(logs, "profile", shifted=shifted)


@given(LOGS, st.booleans(), st.integers(0, 40), st.integers(1, 10))
def test_any_piece_has_the_weights_of_its_tokens(
    logs: list[float], shifted: bool, start: int, count: int
) -> None:
    weights = weights_of(logs, shifted=shifted)
    if weights is None:
        assert len(set(logs)) == 1
        return
    assert Weights.load(weights.dump()) == weights
    zero = 0.0 if shifted else max(logs)
    expected = [log - zero for log in logs] + [max(logs) - zero] * 60
    found = [0.0] * count
    for first, last, log in weights.between(start, start + count):
        found[first:last] = [log] * (last - first)
    assert found == expected[start : start + count]


def test_plain_text_weighs_one_unless_there_are_sinks() -> None:
    shifted, unshifted = (weights_of([0.0, 4.6, 0.0], shifted=one) for one in (True, False))
    assert shifted is not None
    assert shifted.runs == ((1, 2, 4.6),)
    assert shifted.generated == 4.6
    assert unshifted is not None
    assert unshifted.runs == ((0, 1, -4.6), (2, 3, -4.6))
    assert unshifted.generated == 0.0


def request_of(weights: Weights | None) -> Any:
    told = {"other": 1} if weights is None else {KEY: weights.dump()}
    return SimpleNamespace(sampling_params=SimpleNamespace(extra_args=told))


def keys(weights: Weights | None, start: int, end: int, own: tuple[Any, ...] | None = None) -> Any:
    wrapped = with_emphasis(lambda request, start, end, mm: (own, mm))
    found, mm = wrapped(request_of(weights), start, end, 7)
    assert mm == 7
    return found


def test_blocks_before_the_first_span_are_shared_and_later_ones_are_not() -> None:
    early, late = weights_of([0.0] * 5 + [4.6] * 3), weights_of([0.0] * 6 + [4.6] * 2)
    assert keys(early, 0, 4) is None is keys(None, 0, 4)
    assert keys(early, 4, 8) == ((KEY, ("profile", (1, 4, 4.6))),)
    assert keys(early, 4, 8) != keys(late, 4, 8) != keys(None, 4, 8)
    assert keys(early, 8, 12) == ((KEY, ("profile", (0, 4, 4.6))),)  # generated
    assert keys(early, 4, 8, own=("lora",)) == ("lora", *keys(early, 4, 8))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_channels_add_up_to_the_bias(dtype: torch.dtype) -> None:
    scale, logs = 128**-0.5, [0.0, math.log(1000), 0.0, -math.log(0.37), 0.0]
    bias = Bias(16, dtype, torch.device("cpu"), shifted=True)
    channels = bias.channels(scale, 8)
    assert bias.channels(scale, 8) is channels
    assert bias.channels(1.0, 8) is not channels
    weights = weights_of(logs)
    assert weights is not None
    new = SimpleNamespace(req_id="a", sampling_params=request_of(weights).sampling_params)
    bias.add([new], ["a", "b"])
    bias.write([("b", 0, 2), ("a", 1, 6)])
    told = (channels[:, :CHANNELS].double().sum(-1) * scale).tolist()
    strongest = math.log(1000)
    expected = [0.0, 0.0, *logs[1:], strongest, strongest]
    assert told[: len(expected)] == pytest.approx(expected, abs=DTYPES[dtype] * strongest)
    assert not channels[len(expected) :].any()
    assert not channels[:, CHANNELS:].any()
    bias.write([("b", 0, 9)])
    assert not channels.any()


def test_a_request_that_has_ended_is_forgotten() -> None:
    bias = Bias(8, torch.float32, torch.device("cpu"), shifted=True)
    channels = bias.channels(1.0, 2)
    weights = weights_of([0.0, 1.0])
    sampled = request_of(weights).sampling_params
    bias.add([SimpleNamespace(req_id="a", sampling_params=sampled)], ["a"])
    bias.add([SimpleNamespace(req_id="b", sampling_params=sampled)], ["b"])
    bias.write([("a", 0, 2)])
    assert not channels.any()
    bias.add([SimpleNamespace(req_id="b", sampling_params=None)], ["b"])  # the id is used again
    bias.write([("b", 0, 2)])
    assert not channels.any()


STEPS = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(1, 5)), max_size=3),
    min_size=1,
    max_size=6,
)


@given(STEPS)
def test_a_step_finds_nothing_of_the_steps_before_it(
    steps: list[list[tuple[str, int, int]]],
) -> None:
    bias = Bias(16, torch.float32, torch.device("cpu"), shifted=True)
    channels = bias.channels(1.0, 2)
    weights = weights_of([0.0, 2.0, 0.0])
    sampled = request_of(weights).sampling_params
    bias.add([SimpleNamespace(req_id="a", sampling_params=sampled)], ["a"])
    for rows in steps:
        bias.write(rows)
        told = [
            2.0 if request == "a" and position not in (0, 2) else 0.0
            for request, first, count in rows
            for position in range(first, first + count)
        ]
        assert channels.sum(-1).tolist() == told + [0.0] * (16 - len(told))
    bias.add([], [])  # the request has ended, and a longer step without emphasis follows
    bias.write([("b", 0, 16)])
    assert not channels.any()
