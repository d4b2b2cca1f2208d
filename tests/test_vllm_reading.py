"""How a server reads emphasis: as `SteeredModel` does, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import tiny

from pasta_chains import HeadProfile, SpanStr
from pasta_chains.errors import EmphasisError, PromptError, UnsupportedModelError
from pasta_chains.prompts import Prompt, tokenize
from pasta_chains.vllm.reading import Reader, contents, of_tokens, weights_of
from pasta_chains.vllm.settings import Settings
from pasta_chains.wire import Emphasis

SETTINGS = Settings(HeadProfile({1: [0]}, alpha=0.05))
TEXT = "The mayor of Tarn is Ada Lowe. Who is the mayor?"


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(SETTINGS, tiny.tokenizer())


def emphasis_of(**fields: Any) -> Emphasis:
    return Emphasis(version=1, **fields)


def bias(emphasis: Emphasis, count: int) -> list[float]:
    """The weights of tokens as `TokenizedPrompt` has them."""
    weights = weights_of(SETTINGS, Emphasis.parse(emphasis.dump()), count)
    assert weights is not None
    logs = [0.0] * count
    for start, end, log in weights.between(0, count):
        logs[start:end] = [log] * (end - start)
    return [log - weights.generated for log in logs]


def local(reader: Reader, prompt: Prompt, alpha: float = 0.05) -> tuple[list[int], list[float]]:
    found = tokenize(prompt, reader.tokenizer, alpha)
    return found.ids, found.bias


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_a_text_is_read_as_by_a_model_that_runs_here(reader: Reader, alpha: float | None) -> None:
    spans = [[4, 9], [21, 29, 0.001, "name"], [31, 34, None, None, True]]
    ids, wanted = local(reader, SpanStr(TEXT, [tuple(one) for one in spans]), alpha or 0.05)
    found = reader.of_text(emphasis_of(spans=spans, alpha=alpha), TEXT, ids)
    assert bias(found, len(ids)) == pytest.approx(wanted)


def test_nothing_is_steered_with_an_alpha_of_one(reader: Reader) -> None:
    ids, _ = local(reader, TEXT)
    for nothing in (emphasis_of(spans=[[4, 9]], alpha=1.0), emphasis_of()):
        assert weights_of(SETTINGS, reader.of_text(nothing, TEXT, ids), len(ids)) is None


def test_messages_are_read_as_by_a_model_that_runs_here(reader: Reader) -> None:
    marked = SpanStr("Tarn </s> is  ", [(0, 4)])
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": marked}]
    wanted_ids, wanted = local(reader, chat)
    ids, found = reader.of_chat(emphasis_of(), chat, None, {})
    assert ids == wanted_ids
    assert bias(found, len(ids)) == pytest.approx(wanted)
    official = reader.tokenizer.apply_chat_template(
        [{**one, "content": str(one["content"])} for one in chat],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert reader.of_chat(emphasis_of(), chat, official, {})[0] == ids
    with pytest.raises(PromptError, match="renders another text in vLLM"):
        reader.of_chat(emphasis_of(), chat, official + " ", {})


def test_a_template_that_drops_an_emphasized_message_is_refused() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{{ messages[-1].content }}"
    chat = [
        {"role": "system", "content": SpanStr("a b", [(0, 1)])},
        {"role": "user", "content": "c"},
    ]
    with pytest.raises(PromptError, match="message 0"):
        Reader(SETTINGS, tokenizer).of_chat(emphasis_of(), chat, None, {})


def test_what_is_cut_off_may_not_be_emphasized(reader: Reader) -> None:
    ids = list(range(10, 20))
    spans = emphasis_of(unit="tokens", spans=[[7, 9]])
    kept = of_tokens(SETTINGS, spans, ids, ids[-4:])
    assert [mark[:2] for mark in kept.spans] == [[1, 3]]
    weights = weights_of(SETTINGS, kept, 4)
    assert weights is not None
    assert weights.prompt_tokens == 4
    for read in (ids[:8], ids[8:]):
        with pytest.raises(EmphasisError, match="was cut to"):
            of_tokens(SETTINGS, spans, ids, read)
    with pytest.raises(PromptError, match="not at one end only"):
        of_tokens(SETTINGS, spans, ids, ids[2:9])
    with pytest.raises(PromptError, match="other tokens of this prompt"):
        reader.of_text(emphasis_of(spans=[[4, 9]]), TEXT, [1] * 99)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": {"0": [[0, 1]]}}, "is in spans, not messages"),
        ({"profile": "other"}, f"unknown here; this server steers with {SETTINGS.digest}"),
        ({"unit": "tokens", "spans": [[0, 11]]}, "beyond the prompt, which has 10 tokens"),
        ({"unit": "tokens", "spans": [[4, 4]]}, "marks no text"),
    ],
)
def test_emphasis_that_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    ids = list(range(10))
    for read in (of_tokens, lambda settings, sent, *_: weights_of(settings, sent, len(ids))):
        with pytest.raises(EmphasisError, match=message):
            read(SETTINGS, emphasis_of(**fields), ids, ids)


def test_the_known_profile_is_taken() -> None:
    ids = list(range(10))
    known = emphasis_of(unit="tokens", spans=[[2, 4]], profile=SETTINGS.digest)
    assert not of_tokens(SETTINGS, known, ids, ids).is_empty


def test_blocks_are_joined_as_in_vllm() -> None:
    block = {"type": "text", "text": "abc", "extras": {"emphasis": [[0, 2, None, "x", False]]}}
    plain = {"role": "user", "content": [{"type": "text", "text": "abc"}]}
    found = contents([plain, {"role": "user", "content": ["ab", block]}])
    assert found.keys() == {1}
    assert found[1].text == "ab\nabc"
    assert [span[:2] for span in found[1].spans] == [(3, 5)]
    with pytest.raises(EmphasisError, match="it must be like"):
        contents([{"content": [{"text": "a", "extras": {"emphasis": "x"}}]}])
    with pytest.raises(EmphasisError, match="Message 0 has emphasis and a block that is not text"):
        contents([{"content": [block, {"type": "image_url"}]}])


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="no character offsets"):
        Reader(SETTINGS, object())
