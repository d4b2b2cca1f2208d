"""Requests share cached keys where their tokens count alike, and nowhere else.

All texts are of their own, so no cache holds them before. A block has 32 tokens, and the last token
of a prompt is always read anew.
"""

from __future__ import annotations

import time
from dataclasses import replace
from random import Random

import pytest
from conftest import Served
from traffic import Answer, Ask

from pasta_chains.wire import Mark

pytestmark = pytest.mark.parametrize("served", ["crowded"], indirect=True)

HITS = "vllm:prefix_cache_hits"
QUERIES = "vllm:prefix_cache_queries"

WHOLE = 128
"""Tokens of a prompt of 130 that a cache can hold."""

SPAN: Mark = [70, 90, 0.05]
"""In the third block."""

OTHERS: list[Mark] = [
    [70, 90, 0.04],
    [71, 90, 0.05],
    [70, 91, 0.05],
    [70, 90, 0.05, None, True],
    [65, 66, 0.05],
]
"""All different from `SPAN` in the third block."""


def asked(seed: int, *spans: Mark, alpha: float | None = None, most: int = 8) -> Ask:
    """A request for a text of 130 tokens of its own."""
    return Ask(Random(seed).choices(range(3, 360), k=130), spans, alpha, most)


def cached(served: Served, ask: Ask) -> int:
    """How many tokens of a prompt were not read anew; it must be answered rightly all the same."""
    (found,) = served.server.complete([ask.body()])
    answer, wanted = Answer.of_server(found), Answer.of_model(served.steered, ask)
    assert answer.ids == wanted.ids
    assert answer.distance(wanted) <= 1e-5
    details = found["usage"]["prompt_tokens_details"]
    return details["cached_tokens"] if details else 0


def test_equal_text_with_equal_emphasis_is_shared(served: Served) -> None:
    assert cached(served, asked(1, SPAN)) == 0
    assert cached(served, asked(1, SPAN)) == WHOLE


def test_equal_weights_are_shared_however_they_are_said(served: Served) -> None:
    profile = served.steered.profile
    assert profile is not None
    assert cached(served, asked(2, [70, 90])) == 0
    assert cached(served, asked(2, [70, 90, profile.alpha])) == WHOLE
    assert cached(served, asked(2, [70, 90], alpha=profile.alpha)) == WHOLE
    assert cached(served, asked(2, [70, 80], [80, 90])) == WHOLE


def test_alpha_of_1_is_no_emphasis(served: Served) -> None:
    assert cached(served, asked(3)) == 0
    assert cached(served, asked(3, [70, 90, 1.0])) == WHOLE


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_equal_text_with_other_emphasis_is_shared_up_to_the_first_difference(
    served: Served, other: Mark
) -> None:
    seed = 10 + OTHERS.index(other)
    assert cached(served, asked(seed, SPAN)) == 0
    assert cached(served, asked(seed, other)) == 64
    assert cached(served, asked(seed, SPAN)) == WHOLE


def test_a_later_difference_shares_the_same_emphasis_before_it(served: Served) -> None:
    assert cached(served, asked(20, SPAN, [100, 110, 0.05])) == 0
    assert cached(served, asked(20, SPAN)) == 96
    assert cached(served, asked(20, SPAN, [100, 110, 0.2])) == 96


def test_text_before_the_first_span_is_shared_with_requests_without_emphasis(
    served: Served,
) -> None:
    assert cached(served, asked(30)) == 0
    assert cached(served, asked(30, SPAN)) == 64
    assert cached(served, asked(31, SPAN)) == 0
    assert cached(served, asked(31)) == 64
    assert cached(served, asked(31)) == WHOLE


def test_an_answer_is_shared_with_a_prompt_that_emphasizes_it_alike(served: Served) -> None:
    ask = replace(asked(40, [10, 20, 0.05], most=72), prompt=asked(40).prompt[:60])
    written = Answer.of_model(served.steered, ask).ids
    assert len(written) == 72
    assert cached(served, ask) == 0
    longer = replace(ask, prompt=[*ask.prompt, *written], most=8)
    assert cached(served, longer) == 32  # then comes a block with the answer's first tokens
    alike = replace(longer, spans=(*ask.spans, [60, 132, 0.05]))
    assert cached(served, alike) == WHOLE


def test_vllm_counts_the_same(served: Served) -> None:
    before = served.server.counter(QUERIES), served.server.counter(HITS)
    tokens = sum(cached(served, asked(50, span)) for span in (SPAN, OTHERS[0], SPAN))
    deadline = time.monotonic() + 10  # counted when the answer has been sent
    while served.server.counter(QUERIES) < before[0] + 3 * 130 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert served.server.counter(QUERIES) == before[0] + 3 * 130
    assert served.server.counter(HITS) == before[1] + tokens == before[1] + 64 + WHOLE
