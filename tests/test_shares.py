"""`AttentionShares`: its sums, its largest heads, and its forms for files and terminals."""

from __future__ import annotations

import json

import pytest
import rich
import tiny
import torch

from pasta_chains.engine import SteeredModel
from pasta_chains.errors import PromptError
from pasta_chains.profile import HeadProfile
from pasta_chains.shares import MEASURES, AttentionShares
from pasta_chains.spans import Span, SpanStr

TEXT = "The mayor of Tarn is Ada Lowe. The mayor of Tarn is Bo Marsh. Who is the mayor? Answer:"
ONE = SpanStr(TEXT, [Span(31, 61)])


@pytest.fixture(scope="module")
def steered() -> SteeredModel:
    return SteeredModel(tiny.llama(), tiny.tokenizer(), HeadProfile({0: [1], 1: [0, 3]}))


def test_shares_of_a_name_and_of_nested_spans_add_up(steered: SteeredModel) -> None:
    second_twice = [Span(31, 61, 0.5, "second"), Span(70, 79, None, "second")]
    text = SpanStr(TEXT, [Span(0, 61, name="documents"), *second_twice])
    shares = steered.attention_to_spans(text, max_new_tokens=3)
    assert shares.spans == text.spans
    documents, second = shares.of("documents"), shares.of("second")
    assert (len(documents.by_span), len(second.by_span)) == (0, 2)
    for measure in MEASURES:
        total = getattr(documents, measure) + getattr(second, measure)
        torch.testing.assert_close(getattr(shares, measure), total)
    assert second.of("second").spans == second.spans == text.spans[1:]
    with pytest.raises(PromptError, match="There are 'documents', 'second'"):
        shares.of("third")
    with pytest.raises(PromptError, match="None has a name"):
        steered.attention_to_spans(ONE, max_new_tokens=1).of("third")


def test_top_heads_and_lists(steered: SteeredModel) -> None:
    shares = steered.attention_to_spans(ONE, max_new_tokens=3)
    top = shares.top(5)
    assert [head.share for head in top] == sorted((head.share for head in top), reverse=True)
    assert top[0].share == shares.answer_unsteered.max().item()
    layer, head, share = shares.top(1, "last_steered")[0]
    assert shares.last_steered is not None
    assert shares.last_steered[layer, head].item() == share
    assert len(shares.top(99)) == 12
    data = json.loads(json.dumps(shares.to_dict()))
    assert data["answer_steered"] == shares.answer_steered.tolist()  # type: ignore[union-attr]  # there is a profile
    assert (data["layers"], data["answer"]) == ([0, 1, 2], shares.answer)
    with pytest.raises(PromptError, match="use one of last_unsteered"):
        shares.top(measure="steered")  # type: ignore[arg-type]  # wrong on purpose


def test_layers_may_have_different_numbers_of_heads() -> None:
    layers = {0: torch.rand(1, 2, 3), 3: torch.rand(1, 4, 3)}
    shares = AttentionShares.of_layers(ONE, ONE.spans, "", layers, None)
    assert shares.layers == (0, 3)
    assert shares.last_unsteered[0].isnan().tolist() == [False, False, True, True]
    assert len(shares.top()) == 6
    assert shares.to_dict()["last_unsteered"][0][2:] == [None, None]


def test_a_table_shows_each_of_the_largest_heads(
    steered: SteeredModel, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = steered.attention_to_spans(ONE, max_new_tokens=3)
    rich.print(shares)
    lines = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert len(lines) == 10
    layer, head, share = shares.top(1)[0]
    assert [cell.strip() for cell in lines[0][1:3]] == [str(layer), str(head)]
    assert lines[0][5].strip() == f"{share:.1%}"
    bare = SteeredModel(tiny.llama(), tiny.tokenizer()).attention_to_spans(ONE, max_new_tokens=3)
    rich.print(bare)
    assert capsys.readouterr().out.count(" - ") == 20
