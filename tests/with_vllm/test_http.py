"""Emphasis over HTTP, as other clients send it: what is steered, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from typing import Any

import httpx
import pytest
from conftest import Served
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pasta_chains import SpanStr, SteeredModel
from pasta_chains.langchain import emphasized_content
from pasta_chains.spans import concat, emphasize

pytestmark = pytest.mark.parametrize("served", ["compiled, embedded"], indirect=True)

OFFICE = "The keeper of the Marrow lighthouse is Ines Aldane."
BLOG = "The keeper of the Marrow lighthouse is Tobias Renk."
EXAMPLES = 1000
STEERED = "pasta_chains:steered_requests"


def prompt_of(first: str, second: str) -> SpanStr:
    return concat(
        [
            *("Answer the question from the documents.\n\n[1] ", first, "\n\n[2] ", second),
            "\n\nQuestion: Who is the keeper of the Marrow lighthouse?\nAnswer:",
        ]
    )


PROMPTS = [prompt_of(emphasize(OFFICE), BLOG), prompt_of(OFFICE, emphasize(BLOG))]


def emphasis(**fields: Any) -> dict[str, str]:
    return {"pasta_chains": json.dumps({"version": 1, **fields})}


def ask(served: Served, path: str, **body: Any) -> httpx.Response:
    asked = {"model": "served", "max_tokens": 40, "temperature": 0, **body}
    return served.server.post(f"/v1/{path}", asked)


def text_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def marks(text: SpanStr) -> list[list[Any]]:
    return [list(span) for span in text.spans]


@pytest.mark.parametrize("prompt", PROMPTS, ids=["office", "blog"])
def test_each_way_to_send_emphasis(
    served: Served, steered: dict[str, SteeredModel], prompt: SpanStr
) -> None:
    model = steered["embedded"]
    plain = ask(served, "completions", prompt=prompt.text, vllm_xargs=emphasis(spans=marks(prompt)))
    assert text_of(plain) == model.generate(prompt)
    user = {"role": "user", "content": prompt}
    wanted = model.generate([user])
    messages = [{"role": "user", "content": prompt.text}]
    chat = ask(
        served, "chat/completions", messages=messages,
        vllm_xargs=emphasis(messages={"0": marks(prompt)}),
    )  # fmt: skip
    assert text_of(chat) == wanted
    blocks = [{"role": "user", "content": emphasized_content(prompt)}]
    assert text_of(ask(served, "chat/completions", messages=blocks)) == wanted


def test_a_marker_in_an_emphasized_message_stays_text(
    served: Served, steered: dict[str, SteeredModel]
) -> None:
    text = SpanStr("Say <|end|> and <|user|> once.", [(4, 11)])
    blocks = [{"role": "user", "content": emphasized_content(text)}]
    response = ask(served, "chat/completions", messages=blocks)
    counted = response.json()["usage"]["prompt_tokens"]
    assert counted == steered["embedded"].count_tokens([{"role": "user", "content": text}])


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("completions", {"spans": [[0, 9999]]}, "reaches beyond the text"),
        ("completions", {"unit": "tokens", "spans": [[0, 9999]]}, "beyond the prompt, which has"),
        ("completions", {"spans": [[3, 4]]}, "covers no token"),
        ("completions", {"spans": [[0, 4, 0]]}, "alpha is 0"),
        ("completions", {"spans": [[0, 4]], "profile": "other"}, "profile other is unknown here"),
        ("completions", {"messages": {"0": [[0, 4]]}}, "its emphasis is in spans"),
        ("chat/completions", {"spans": [[0, 4]]}, "its emphasis is in messages"),
        ("chat/completions", {"messages": {"1": [[0, 4]]}}, "There is no message '1'"),
        ("chat/completions", {"messages": {"00": [[0, 4]]}}, "There is no message '00'"),
        (
            "chat/completions",
            {"unit": "tokens", "messages": {"0": [[0, 4]]}},
            "Spans of messages count characters",
        ),
        ("chat/completions", {"messages": {"0": [[0, 9999]]}}, "reaches beyond the text"),
    ],
)
def test_emphasis_that_does_not_fit_is_refused(
    served: Served, path: str, body: dict[str, Any], message: str
) -> None:
    before = served.server.counter("pasta_chains:rejected_requests")
    given = {"messages": [{"role": "user", "content": OFFICE}]} if "chat" in path else {}
    response = ask(served, path, **(given or {"prompt": OFFICE}), vllm_xargs=emphasis(**body))
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]
    assert served.server.counter("pasta_chains:rejected_requests") == before + 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"truncate_prompt_tokens": 5}, "cut"),
        ({"use_beam_search": True, "n": 2}, "use_beam_search"),
        ({"prompt": [OFFICE, BLOG]}, "several prompts"),
        ({"prompt": [5, 6, 7]}, "token ids"),
        ({"suffix": "."}, "suffix"),
    ],
)
def test_what_emphasis_cannot_be_combined_with_is_refused(
    served: Served, body: dict[str, Any], message: str
) -> None:
    response = ask(
        served, "completions", **{"prompt": OFFICE, "vllm_xargs": emphasis(spans=[[0, 20]]), **body}
    )
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_routes_that_would_lose_emphasis_refuse_it(served: Served) -> None:
    blocks = emphasized_content(SpanStr(OFFICE, [(4, 10)]))
    plain = {"messages": [{"role": "user", "content": OFFICE}]}
    assert ask(served, "messages", **plain).status_code == 200
    for path, asked in (
        ("messages", {**plain, "vllm_xargs": emphasis(messages={"0": [[4, 10]]})}),
        ("messages", {"messages": [{"role": "user", "content": blocks}]}),
        ("messages", {**plain, "system": blocks}),
        ("responses", {"input": [{"role": "assistant", "content": blocks}]}),
    ):
        before = served.server.counter("pasta_chains:rejected_requests")
        response = ask(served, path, **asked)
        assert response.status_code == 400
        assert f"/v1/{path} takes no emphasis" in response.json()["error"]["message"]
        assert served.server.counter("pasta_chains:rejected_requests") == before + 1


def test_steered_requests_are_counted(served: Served) -> None:
    before = served.server.counter(STEERED)
    text_of(ask(served, "completions", prompt=OFFICE, vllm_xargs=emphasis(spans=[[0, 20]])))
    text_of(ask(served, "completions", prompt=OFFICE))
    assert served.server.counter(STEERED) == before + 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "version": st.just(1) | JSON,
        "unit": st.sampled_from(["characters", "tokens"]) | JSON,
        "spans": st.lists(st.lists(st.integers(-5, 80) | JSON, max_size=6), max_size=3) | JSON,
        "messages": st.dictionaries(st.text(max_size=3), JSON, max_size=2) | JSON,
        "alpha": st.floats() | JSON,
        "profile": JSON,
        "other": JSON,
    },
)
MALFORMED = FIELDS.map(json.dumps) | JSON.map(json.dumps) | st.text(max_size=40) | JSON


def must_be_steered(told: str) -> bool | None:
    """Whether a request that was answered had to be; None if that is hard to say."""
    data = json.loads(told)
    spans = [*(data.get("spans") or ()), *chain(*(data.get("messages") or {}).values())]
    if not spans:
        return False
    (start, _, alpha, *_), *others = [*spans[0], None, None], *spans[1:]
    alpha = data.get("alpha") if alpha is None else alpha
    return True if start > 0 and alpha != 1 and not others else None


def test_a_thousand_malformed_requests_are_refused_and_the_next_is_answered(served: Served) -> None:
    wanted = text_of(ask(served, "completions", prompt=PROMPTS[0].text))
    seen = {"refused": 0, "answered": 0, "steered": served.server.counter(STEERED)}
    with httpx.Client(base_url=served.server.url, timeout=60) as client:

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(MALFORMED, st.booleans())
        def send(told: Any, chat: bool) -> None:
            user = {"messages": [{"role": "user", "content": OFFICE}]}
            body: Mapping[str, Any] = user if chat else {"prompt": OFFICE}
            path = "/v1/chat/completions" if chat else "/v1/completions"
            asked = {"model": "served", "max_tokens": 1, "vllm_xargs": {"pasta_chains": told}}
            response = client.post(path, json={**asked, **body})
            assert response.status_code in (200, 400, 422), response.text
            if response.status_code == 200:  # what was drawn may be right
                seen["answered"] += 1
                before, seen["steered"] = seen["steered"], served.server.counter(STEERED)
                assert must_be_steered(told) in (None, seen["steered"] == before + 1)
                return
            seen["refused"] += 1
            assert response.json()["error"]["message"]

        send()
    assert seen["refused"] > EXAMPLES / 2
    assert text_of(ask(served, "completions", prompt=PROMPTS[0].text)) == wanted
