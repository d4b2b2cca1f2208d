"""A server answers as `SteeredModel` does, to each of many mixed requests that it reads at once."""

from __future__ import annotations

import pytest
from cases import CASES
from conftest import Mixed, Served
from traffic import Answer, Ask

# Of log-probabilities. The embedded model magnifies the rounding of float32: on these prompts,
# without emphasis, transformers is up to 1.5e-5 from float64, and vLLM that is not told to steer is
# up to 2.9e-5 from transformers. In the random model both stay below 3e-6.
TOLERANCE = {"random": 1e-5, "embedded": 5e-5}


@pytest.mark.parametrize("served", [name for name in CASES if name != "off"], indirect=True)
def test_all_answers_are_those_of_steered_model(served: Served, mixed: dict[str, Mixed]) -> None:
    expected = mixed[served.case.model]
    found = answers(served, expected.asks)
    assert len(found) == 200
    pairs = list(zip(expected.answers, found, strict=True))
    unequal = {number: pair for number, pair in enumerate(pairs) if pair[0].ids != pair[1].ids}
    assert not unequal
    assert max(first.distance(second) for first, second in pairs) <= TOLERANCE[served.case.model]
    for counter in served.case.happens:
        assert served.server.counter(counter) > 0, counter


@pytest.mark.parametrize("served", ["off"], indirect=True)
def test_the_comparison_fails_where_the_server_does_not_steer(
    served: Served, mixed: dict[str, Mixed]
) -> None:
    expected = mixed[served.case.model]
    found = answers(served, expected.asks)
    plain, steered = [], []
    for ask, wanted, answer in zip(expected.asks, expected.answers, found, strict=True):
        kind = steered if ask.spans else plain
        kind.append(wanted.ids == answer.ids and wanted.distance(answer) <= TOLERANCE["random"])
    assert len(plain) > 80
    assert all(plain)
    assert len(steered) > 80
    assert not any(steered)


def answers(served: Served, asks: list[Ask]) -> list[Answer]:
    """What the server writes when it is asked everything at once."""
    return [Answer.of_server(one) for one in served.server.complete([ask.body() for ask in asks])]
