"""What a model's answers depend on, beside the prompts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny
import torch

from pasta_chains import HeadProfile, SteeredModel
from pasta_chains.evaluation.about import about_run


def built() -> SteeredModel:
    return SteeredModel(tiny.llama(context=512), tiny.tokenizer(), HeadProfile({1: [0]}))


def test_what_a_run_depends_on() -> None:
    about = about_run(built())
    assert about["torch"] == torch.__version__
    assert (about["dtype"], about["device"]) == ("torch.float32", "cpu")
    other = built()
    other.profile = HeadProfile({0: [1]}, 0.5)
    assert about_run(other) == about


def first_number(model: SteeredModel) -> None:
    model.model.lm_head.weight[0, 0] += 1e-3


def last_number(model: SteeredModel) -> None:
    model.model.model.layers[1].mlp.down_proj.weight[-1, -1] += 1e-3


def half_precision(model: SteeredModel) -> None:
    model.model.lm_head.to(torch.bfloat16)


def chat_template(model: SteeredModel) -> None:
    model.tokenizer.chat_template = "{{ messages }}"


def lower_case(model: SteeredModel) -> None:
    from tokenizers.normalizers import Lowercase

    model.tokenizer.backend_tokenizer.normalizer = Lowercase()


def penalty(model: SteeredModel) -> None:
    model.model.generation_config.no_repeat_ngram_size = 3


def control_tokens(model: SteeredModel) -> None:
    model.control_tokens = "anywhere"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (first_number, "weights"),
        (last_number, "weights"),
        (half_precision, "weights"),
        (chat_template, "tokenizer"),
        (lower_case, "tokenizer"),
        (penalty, "generation_config"),
        (control_tokens, "control_tokens"),
    ],
)
def test_every_change_of_a_model_is_seen(
    change: Callable[[SteeredModel], None], field: str
) -> None:
    before, model = about_run(built()), built()
    with torch.no_grad():
        change(model)
    after = about_run(model)
    assert [name for name in before if before[name] != after[name]] == [field]


def test_weights_that_are_on_disk_have_no_numbers() -> None:
    model = built()
    model.model.lm_head.to("meta")
    assert about_run(model)["weights"] != about_run(built())["weights"]
