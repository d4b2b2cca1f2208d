"""Log-probabilities of the tokens that a model wrote."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from transformers import LogitsProcessor

from pasta_chains import HeadProfile, Span, SpanStr, SteeredModel
from pasta_chains.errors import PromptError
from pasta_chains.langchain import ChatPasta
from pasta_chains.structured import Structure

TEXT = "The mayor of Tarn is Ada Lowe. Or Bo Marsh. Answer:"
MARKED = SpanStr(TEXT, [Span(21, 29)])


@pytest.fixture(scope="module")
def steered() -> SteeredModel:
    return SteeredModel(tiny.llama(), tiny.tokenizer(), HeadProfile({0: [2], 1: [0, 3]}, 0.02))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"do_sample": True, "temperature": 3.0, "top_k": 5, "seed": 1},
        {"structure": Structure.regex("[a-e]{6}")},
        {"num_return_sequences": 2, "do_sample": True, "seed": 2},
        {"stop": ["a", "e", "i", "o", "u"]},
    ],
    ids=["greedy", "sampled", "structured", "several", "stopped"],
)
def test_they_are_the_models_own_steered_ones(steered: SteeredModel, more: Any) -> None:
    prompts = [MARKED, TEXT, "Bo"]
    more = more | {"logits_processor": [_Plain(steered)]}
    found = steered.run(prompts, max_new_tokens=6, logprobs=3, **more)
    assert [one.text for one in found] == [
        one.text for one in steered.run(prompts, max_new_tokens=6, **more)
    ]
    copies = len(found) // len(prompts)
    for number, answer in enumerate(found):
        assert len(answer.logprobs) == answer.new_tokens
        tokens = [steered.tokenizer.convert_tokens_to_ids(t) for t in _tokens(steered, answer)]
        inputs = steered.inputs(prompts[number // copies])
        for place, token in enumerate(tokens):
            with torch.no_grad():
                logits = steered.model(**_longer(inputs, tokens[:place])).logits[0, -1]
            expected = torch.log_softmax(logits, -1)
            told = answer.logprobs[place]
            assert told.logprob == pytest.approx(expected[token].item(), abs=1e-4)
            values = expected.topk(3).values.tolist()
            assert [value for _, value in told.top] == pytest.approx(values, abs=1e-4)


class _Plain(LogitsProcessor):
    """Forbids tokens that are parts of characters, since their texts tell nothing."""

    def __init__(self, steered: SteeredModel) -> None:
        texts = [str(steered.tokenizer.decode([number])) for number in range(360)]
        self._forbidden = [number for number, text in enumerate(texts) if not text.isascii()]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, self._forbidden] = float("-inf")
        return scores


def _tokens(steered: SteeredModel, answer: Any) -> list[str]:
    """The tokens whose texts were told."""
    texts = {
        str(steered.tokenizer.decode([number])): token
        for token, number in steered.tokenizer.get_vocab().items()
    }
    return [texts[one.token] for one in answer.logprobs]


def _longer(inputs: dict[str, Any], tokens: list[int]) -> dict[str, Any]:
    """The inputs with some of the answer after them, steered as new tokens are."""
    more = torch.tensor([tokens], dtype=torch.long)
    longer = dict(inputs)
    longer["input_ids"] = torch.cat([inputs["input_ids"], more], 1)
    longer["attention_mask"] = torch.ones_like(longer["input_ids"])
    if "steering_bias" in inputs:
        zeros = torch.zeros(1, len(tokens))
        longer["steering_bias"] = torch.cat([inputs["steering_bias"], zeros], 1)
    return longer


def test_they_are_told_only_if_asked_for(steered: SteeredModel) -> None:
    (answer,) = steered.run(TEXT, max_new_tokens=3)
    assert answer.logprobs == ()
    (answer,) = steered.run(TEXT, max_new_tokens=3, logprobs=True)
    assert [one.top for one in answer.logprobs] == [(), (), ()]
    stream = steered.stream(TEXT, max_new_tokens=3, logprobs=True)
    assert [*stream]
    assert stream.generation == answer


def test_langchain_messages_have_them(steered: SteeredModel) -> None:
    chat = ChatPasta(model=steered, max_tokens=3)
    message = chat.invoke(TEXT, logprobs=2)
    (first, *_), streamed = message.response_metadata["logprobs"]["content"], None
    assert first["logprob"] < 0
    assert len(first["top_logprobs"]) == 2
    for chunk in chat.stream(TEXT, logprobs=2):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    assert streamed.response_metadata == message.response_metadata
    assert "logprobs" not in chat.invoke(TEXT).response_metadata


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"logprobs": -1}, "logprobs is -1"),
        ({"logprobs": "all"}, "logprobs is 'all'"),
        ({"logprobs": True, "num_beams": 2}, "cannot be combined with num_beams"),
    ],
)
def test_what_cannot_be_told_is_refused(
    steered: SteeredModel, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        steered.run(TEXT, **arguments)
