"""Heads are steered from their layer on, and the logits are those of the whole model."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import architectures
import pytest
import tiny
import torch
from test_every_architecture import BUILT, REFUSED
from torch import Tensor, nn

from pasta_chains.engine import SteeredModel
from pasta_chains.profile import HeadProfile
from pasta_chains.profiling.measuring import all_heads
from pasta_chains.profiling.upper_layers import Reading, path_of_layers
from pasta_chains.prompts import TokenizedPrompt, tokenize
from pasta_chains.spans import Span, SpanStr

STEERED = [one for one in BUILT if one not in REFUSED]
APART = {"llama", "qwen3", "gemma2", "gpt2", "gptj", "bloom", "falcon", "mistral", "mixtral", "opt"}
"""Types that must be read layer by layer: without that the search is slow, and still right."""

TEXTS = [
    SpanStr("The mayor of Tarn is Ada Lowe. Answer:", [Span(0, 12)]),
    SpanStr("Only the emphasized words are read with full attention. Who? Answer:", [Span(9, 19)]),
    SpanStr("Who is the mayor of Tarn?"),
]
ALPHA, WIDTH = 0.01, 3


def prompts(model: SteeredModel, texts: Sequence[SpanStr] = TEXTS) -> list[TokenizedPrompt]:
    return [tokenize(text, model.tokenizer, ALPHA) for text in texts]


def batch(
    model: SteeredModel, texts: Sequence[SpanStr] = TEXTS
) -> tuple[dict[str, Any], list[int]]:
    """Inputs of texts, padded on the right, and for each row where its logits begin."""
    every = HeadProfile(all_heads(model), ALPHA)
    inputs = model.inputs_of(prompts(model, texts), every, left=False)
    return inputs, [int(row.sum()) - WIDTH for row in inputs["attention_mask"]]


def whole(
    model: SteeredModel, heads: Mapping[int, Sequence[int]], texts: Sequence[SpanStr] = TEXTS
) -> Tensor:
    """The same logits from all of the model."""
    inputs = model.inputs_of(prompts(model, texts), HeadProfile(heads, ALPHA), left=False)
    with torch.no_grad():
        logits = model.model(**inputs, use_cache=False).logits.float()
    _, first = batch(model, texts)
    return torch.stack(
        [row[start - 1 : start - 1 + WIDTH] for row, start in zip(logits, first, strict=True)]
    )


def some_heads(model: SteeredModel) -> Iterator[dict[int, tuple[int, ...]]]:
    """One head of each layer, and heads of several layers at once."""
    layers = all_heads(model)
    for layer in layers:
        yield {layer: (1,)}
    yield {layer: (0, len(heads) - 1) for layer, heads in layers.items()}


@pytest.mark.parametrize("model_type", STEERED)
def test_logits_are_those_of_the_whole_model(model_type: str) -> None:
    model = SteeredModel(architectures.decoder(model_type), tiny.tokenizer())
    path = path_of_layers(model.model)
    if model_type in APART:
        assert path is not None
    inputs, first = batch(model)
    reading = Reading(model.model, path, inputs, first, WIDTH)
    assert torch.equal(reading.logits({}), whole(model, {}))
    for heads in some_heads(model):
        found, wanted = reading.logits(heads), whole(model, heads)
        assert (found - wanted).abs().max() <= 1e-5, heads
    assert (reading.logits(all_heads(model)) - reading.plain)[:2].abs().max() > 1e-3


@pytest.fixture
def model() -> SteeredModel:
    return SteeredModel(tiny.llama(), tiny.tokenizer())


def state(model: Any) -> list[tuple[str, int, int, int, frozenset[str]]]:
    """All modules with their hooks and what was set on them."""
    return [
        (
            name,
            id(module),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            frozenset(vars(module)),
        )
        for name, module in model.named_modules()
    ]


def test_the_model_stays_as_it_was(model: SteeredModel) -> None:
    before = state(model.model)
    path = path_of_layers(model.model)
    assert path == "model.layers"
    reading = Reading(model.model, path, *batch(model), WIDTH)
    reading.logits({1: (0,)})
    assert state(model.model) == before


@pytest.mark.parametrize("heads", [{}, {1: (0,)}, {2: (3,)}])
def test_the_model_stays_as_it_was_after_an_exception(
    model: SteeredModel, monkeypatch: pytest.MonkeyPatch, heads: dict[int, tuple[int, ...]]
) -> None:
    path, last = path_of_layers(model.model), model.model.model.layers[2].mlp
    reading = Reading(model.model, path, *batch(model), WIDTH)
    before = state(model.model)

    def fail(*_: Any) -> Tensor:
        raise MemoryError("no memory left")

    with monkeypatch.context() as patched:
        patched.setattr(last, "forward", fail)
        with pytest.raises(MemoryError, match="no memory left"):
            reading.logits(heads)
    vars(last).pop("forward", None)
    assert state(model.model) == before
    assert torch.equal(reading.logits(heads), whole(model, heads))


def test_layers_below_are_not_read_again(model: SteeredModel) -> None:
    """Which is what the whole is for."""
    reading = Reading(model.model, path_of_layers(model.model), *batch(model), WIDTH)
    assert reading.plain.shape == (3, WIDTH, 360)
    read: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda *_, number=number: read.append(number))
        for number, layer in enumerate(model.model.model.layers)
    ]
    again = Reading(model.model, path_of_layers(model.model), *batch(model), WIDTH)
    again.logits({2: (0,)})
    for hook in hooks:
        hook.remove()
    read = read[-4:]
    assert read == [0, 1, 2, 2]  # unsteered, and from the steered layer on
    read.clear()
    reading.logits({})
    assert not read


def test_without_emphasis_nothing_is_steered(model: SteeredModel) -> None:
    plain = [SpanStr(text.text) for text in TEXTS]
    reading = Reading(model.model, path_of_layers(model.model), *batch(model, plain), WIDTH)
    assert torch.equal(reading.logits({1: (0, 1)}), whole(model, {}, plain))


@pytest.mark.parametrize("layers_are_read", [True, False])
def test_threads_see_nothing_of_each_other(model: SteeredModel, layers_are_read: bool) -> None:
    """One reads unsteered, layer by layer, while others read other batches and generate."""
    path = path_of_layers(model.model) if layers_are_read else None
    texts = [TEXTS[:2], TEXTS[1:], [TEXTS[0]] * 3]
    expected = [[whole(model, heads, some) for heads in some_heads(model)] for some in texts]
    written = model.generate(TEXTS[0], max_new_tokens=4, profile=HeadProfile({1: [0]}))
    failures: list[str] = []

    def read(number: int) -> None:
        for _ in range(4):
            reading = Reading(model.model, path, *batch(model, texts[number]), WIDTH)
            for heads, wanted in zip(some_heads(model), expected[number], strict=True):
                if not torch.allclose(reading.logits(heads), wanted, atol=1e-5):
                    failures.append(f"{number}: {heads}")

    def write() -> None:
        for _ in range(6):
            found = model.generate(TEXTS[0], max_new_tokens=4, profile=HeadProfile({1: [0]}))
            if found != written:
                failures.append(found)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    threads.append(threading.Thread(target=write))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


class _Twice(nn.Module):
    """A model that goes through its layers in an order of its own."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def forward(self, input_ids: Tensor, **arguments: Any) -> Any:
        self.inner(input_ids=input_ids, **arguments)
        return self.inner(input_ids=input_ids, **arguments)


def test_a_model_that_cannot_be_read_apart_is_known_by_its_reading(model: SteeredModel) -> None:
    assert path_of_layers(_Twice(model.model)) is None
    assert path_of_layers(nn.Linear(2, 2)) is None


def test_a_model_with_replaced_methods_is_read_as_a_whole(model: SteeredModel) -> None:
    """Accelerate moves weights in a `forward` that it sets on modules, which a view would miss."""
    layer = model.model.model.layers[0]
    layer.forward = layer.forward
    assert path_of_layers(model.model) is None
    reading = Reading(model.model, None, *batch(model), WIDTH)
    for heads in some_heads(model):
        assert torch.equal(reading.logits(heads), whole(model, heads))
