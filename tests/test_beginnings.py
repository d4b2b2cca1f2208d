"""What steering cannot change is read once, and the rest gives the logits of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import architectures
import pytest
import tiny
import torch
from test_upper_layers import STEERED, some_heads
from torch import Tensor

from pasta_chains.engine import SteeredModel
from pasta_chains.profile import HeadProfile
from pasta_chains.profiling import beginnings
from pasta_chains.profiling.beginnings import line_up, unchanged
from pasta_chains.profiling.measuring import all_heads
from pasta_chains.profiling.upper_layers import Reading, path_of_layers
from pasta_chains.prompts import TokenizedPrompt, tokenize
from pasta_chains.spans import Span, SpanStr

TEXTS = [
    SpanStr("The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who?", [Span(31, 61)]),
    SpanStr("Only the emphasized words are read with full attention. Who? Answer:", [Span(20, 35)]),
    SpanStr("Who is the mayor of Tarn?"),
    SpanStr("The mayor of the town of Tarn is Ada Lowe. Answer:", [Span(43, 50)]),
]
CUT = {"llama", "gpt2", "gptj", "bloom", "falcon", "mixtral", "opt"}
"""Types that must not read beginnings again: with that the search is slower, and still right."""
ALPHA, WIDTH = 0.01, 2


def prompts(model: SteeredModel, texts: Sequence[SpanStr] = TEXTS) -> list[TokenizedPrompt]:
    return [tokenize(text, model.tokenizer, ALPHA) for text in texts]


def read(model: SteeredModel, texts: Sequence[SpanStr] = TEXTS) -> Reading:
    """Read texts, to know what follows each but its last token."""
    given = prompts(model, texts)
    first = [len(prompt.ids) - 1 for prompt in given]
    path = path_of_layers(model.model)
    every = HeadProfile(all_heads(model), ALPHA)
    return beginnings.read(model, path, given, every, first, WIDTH)


def whole(model: SteeredModel, heads: Mapping[int, Sequence[int]]) -> Tensor:
    """The same logits from all of the model and the prompts."""
    given = prompts(model)
    inputs = model.inputs_of(given, HeadProfile(heads, ALPHA), left=False)
    with torch.no_grad():
        logits = model.model(**inputs, use_cache=False).logits.float()
    ends = [len(prompt.ids) for prompt in given]
    return torch.stack([row[end - WIDTH : end] for row, end in zip(logits, ends, strict=True)])


@pytest.mark.parametrize("model_type", STEERED)
def test_logits_are_those_of_the_whole_prompt(model_type: str) -> None:
    model = SteeredModel(architectures.decoder(model_type), tiny.tokenizer())
    reading = read(model)
    if model_type in CUT:
        assert reading.begin > 10
    for heads in some_heads(model):
        found, wanted = reading.logits(heads), whole(model, heads)
        assert torch.allclose(found, wanted, atol=2e-5), heads
    assert (reading.logits(all_heads(model)) - reading.plain).abs().max() > 1e-3


@pytest.fixture
def model() -> SteeredModel:
    return SteeredModel(tiny.llama(), tiny.tokenizer())


@pytest.mark.parametrize(
    ("bias", "most", "count"),
    [
        ([-1.0, -1.0, 0.0, -1.0], 9, 2),
        ([0.0, 0.0, -1.0, 0.0], 9, 2),  # what comes before may be emphasized, too
        ([-1.0, 0.0], 9, 1),
        ([-1.0, -1.0, -1.0, 0.0], 2, 2),
        ([0.0, 0.0, 0.0], 2, 2),  # nothing is emphasized
        ([0.0, -1.0], 0, 0),
    ],
)
def test_unchanged_are_the_tokens_before_the_first_that_is_unlike(
    bias: list[float], most: int, count: int
) -> None:
    prompt = TokenizedPrompt(SpanStr("text"), list(range(len(bias))), bias)
    assert unchanged(prompt, most) == count


def test_rows_are_moved_to_one_column(model: SteeredModel) -> None:
    inputs = {
        "input_ids": torch.tensor([[5, 6, 7, 0], [1, 2, 3, 4]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
        "heads": {0: (1,)},
    }
    lined_up = line_up(model.model, inputs, [0, 2])
    assert lined_up["input_ids"].tolist() == [[0, 0, 5, 6, 7], [1, 2, 3, 4, 0]]
    assert lined_up["attention_mask"].tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert lined_up["position_ids"].tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 3]]
    assert lined_up["heads"] == {0: (1,)}


def test_beginnings_are_not_read_again(model: SteeredModel) -> None:
    """Which is what the whole is for."""
    reading = read(model)
    assert reading.plain.shape[:2] == (len(TEXTS), WIDTH)
    read_columns: list[int] = []
    hook = model.model.model.layers[2].register_forward_hook(
        lambda module, args, output: read_columns.append(args[0].shape[1])
    )
    for _ in range(2):
        reading.logits({1: (0,)})
    hook.remove()
    longest = max(len(prompt.ids) for prompt in prompts(model))
    assert len(read_columns) == 2
    assert max(read_columns) < 0.75 * longest


def test_the_cache_stays_as_it_was(model: SteeredModel) -> None:
    reading = read(model)
    first = reading.logits({0: (0,), 2: (1,)})
    for heads in some_heads(model):
        reading.logits(heads)
    assert torch.equal(reading.logits({0: (0,), 2: (1,)}), first)


def test_early_emphasis_is_read_from_the_start(model: SteeredModel) -> None:
    assert read(model, [SpanStr(TEXTS[0].text, [Span(0, 9)])]).begin == 0


def test_a_model_that_reads_two_pieces_otherwise_is_read_as_a_whole(
    model: SteeredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = read(model)
    assert wanted.begin > 0
    # As one does that counts positions from the first token of a call.
    forward = type(model.model.model.rotary_emb).forward
    monkeypatch.setattr(
        type(model.model.model.rotary_emb),
        "forward",
        lambda self, states, position_ids: forward(
            self, states, position_ids * position_ids.max() / 50
        ),
    )
    assert read(model).begin == 0


def test_padding_after_short_answers_is_no_difference(model: SteeredModel) -> None:
    """Drafts have different lengths, so logits of padding are read, too."""
    given, every = prompts(model), HeadProfile(all_heads(model), ALPHA)
    first = [len(prompt.ids) for prompt in given]
    reading = beginnings.read(model, path_of_layers(model.model), given, every, first, 9)
    assert reading.begin > 10
    found, wanted = reading.logits({1: (0,)})[:, 0], whole(model, {1: (0,)})[:, -1]
    assert torch.allclose(found, wanted, atol=2e-5)


def test_less_precise_models_are_read_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much difference is taken for rounding."""
    monkeypatch.setattr(beginnings, "_ALIKE", 100.0)
    model = SteeredModel(tiny.llama().to(torch.bfloat16), tiny.tokenizer())
    assert read(model).begin == 0


def test_a_model_with_attention_sinks_is_read_as_a_whole() -> None:
    """To its first tokens a bias that all of them have is not the same as none."""
    layers = ["full_attention"] * 3
    decoder = architectures.decoder("gpt_oss", layer_types=layers, num_hidden_layers=len(layers))
    model = SteeredModel(decoder, tiny.tokenizer())
    reading = read(model)
    assert reading.begin == 0
    for heads in some_heads(model):
        assert torch.allclose(reading.logits(heads), whole(model, heads), atol=2e-5), heads
