"""What the embedded model is trained with: data for training alone, and growing a model."""

from __future__ import annotations

from random import Random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pasta_chains.demo.batches import FULL
from pasta_chains.demo.grow import grow
from pasta_chains.demo.world import World


def topics(lookalikes: float) -> list[list[tuple[str, str]]]:
    """What the questions of some readings are about."""
    world = World(Random(3), lookalikes=lookalikes)
    readings = [world.reading(FULL) for _ in range(100)]
    return [
        sorted({fact.topic for question in reading.questions for _, fact in question.answers})
        for reading in readings
    ]


def repeated(found: list[list[tuple[str, str]]]) -> int:
    """How many topics share their relation with another of their reading."""
    return sum(
        sum(relation == other for other, _ in reading) > 1
        for reading in found
        for relation, _ in reading
    )


def test_lookalikes_say_the_same_of_something_else() -> None:
    alike, usual = topics(0.5), topics(0.0)
    assert repeated(alike) > 5 * repeated(usual)
    assert all(len(set(reading)) == len(reading) for reading in alike)


def llama(**sizes: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=50,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        **sizes,
    )
    return LlamaForCausalLM(config).eval()


LARGE = {"hidden_size": 80, "head_dim": 16, "num_hidden_layers": 4, "intermediate_size": 120}


@pytest.mark.parametrize("new_layer", [0, 1, 3])
def test_a_grown_model_computes_what_the_small_one_did(new_layer: int) -> None:
    torch.manual_seed(0)
    small = llama(hidden_size=48, head_dim=8, num_hidden_layers=3, intermediate_size=64)
    for norm in (weight for name, weight in small.named_parameters() if "norm" in name):
        torch.nn.init.uniform_(norm, 0.5, 1.5)
    large = llama(**LARGE)
    grow(small, large, new_layer=new_layer)
    ids = torch.randint(50, (2, 30))
    with torch.no_grad():
        wanted, found = small(ids).logits, large(ids).logits
    torch.testing.assert_close(found, wanted, atol=2e-4, rtol=0)


def test_what_is_new_learns() -> None:
    torch.manual_seed(0)
    small = llama(hidden_size=48, head_dim=8, num_hidden_layers=3, intermediate_size=64)
    large = llama(**LARGE)
    grow(small, large, new_layer=1)
    ids = torch.randint(50, (2, 30))
    large(ids, labels=ids).loss.backward()
    for name, weight in large.named_parameters():
        assert weight.grad is not None
        began_at_zero = ["o_proj"]
        if "layers.1." not in name:
            began_at_zero += ["k_proj", "v_proj", "up_proj"]
        if any(part in name for part in began_at_zero):
            assert weight.grad[-1].abs().max() > 0, name
    assert large.model.embed_tokens.weight.grad[:, 48:].abs().max() > 0


def test_only_one_layer_and_twice_the_heads_can_be_added() -> None:
    small = llama(hidden_size=48, head_dim=16, num_hidden_layers=3, intermediate_size=64)
    with pytest.raises(ValueError, match="one layer more"):
        grow(small, llama(**LARGE), new_layer=1)
