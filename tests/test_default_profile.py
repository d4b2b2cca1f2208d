"""What is steered by a guess, and that it has to be asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from pasta_chains.default_profile import ALPHA, LAYERS, band, default_profile
from pasta_chains.engine import SteeredModel
from pasta_chains.errors import ProfileError
from pasta_chains.langchain import PastaLLM
from pasta_chains.profile import HeadProfile
from pasta_chains.spans import emphasize

SIX = dict.fromkeys(range(6), 4)
PROMPT = "The mayor of Tarn is Ada Lowe. " + emphasize("Her dog is Rex.") + " Who barks?"


@pytest.mark.parametrize(
    ("begin", "end", "layers"),
    [
        (0.0, 1.0, [0, 1, 2, 3, 4, 5]),
        (0.5, 1.0, [3, 4, 5]),
        (1 / 3, 2 / 3, [2, 3]),
        (0.4, 0.5, [2]),
        (0.0, 0.01, [0]),
    ],
)
def test_a_band_is_every_head_of_the_layers_in_a_part_of_the_depth(
    begin: float, end: float, layers: list[int]
) -> None:
    found = band(SIX, begin, end, 0.2)
    assert found.heads == dict.fromkeys(layers, (0, 1, 2, 3))
    assert found.alpha == 0.2


def test_layers_without_attention_are_not_counted_and_heads_may_differ() -> None:
    assert band({3: 2, 7: 4, 11: 1}, 0.5, 1.0, 0.1).heads == {7: (0, 1, 2, 3), 11: (0,)}
    with pytest.raises(ProfileError, match="no layers to steer"):
        band({}, 0.5, 1.0, 0.1)


def test_the_default_steers_its_layers_and_says_that_it_is_a_guess() -> None:
    found = default_profile(SIX)
    assert found == band(SIX, *LAYERS, ALPHA)
    assert 0 < len(found) < 24
    assert found.source is not None
    assert "a guess" in found.source


def test_a_model_is_steered_by_the_default_where_asked() -> None:
    model = SteeredModel(tiny.llama(), tiny.tokenizer(), "default")
    profile = default_profile(model.head_counts)
    assert model.profile == profile
    plain = SteeredModel(tiny.llama(), tiny.tokenizer())
    with pytest.raises(ProfileError, match="'default' is a guess"):
        plain.score(PROMPT, [" Rex"])
    guessed = model.score(PROMPT, [" Rex"])
    assert guessed == plain.score(PROMPT, [" Rex"], profile="default")
    assert guessed == plain.score(PROMPT, [" Rex"], profile=profile)
    assert guessed != plain.score(PROMPT, [" Rex"], profile=HeadProfile({}))
    plain.profile = "default"
    assert plain.profile == profile
    assert PastaLLM(model=plain, head_profile="default")._identifying_params["alpha"] == ALPHA


def test_a_file_of_that_name_is_read_when_given_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = HeadProfile({1: [0]}, alpha=0.3)
    own.save("default")
    model = SteeredModel(tiny.llama(), tiny.tokenizer(), Path("default"))
    assert model.profile == own
    assert model.read_profile("default") == default_profile(model.head_counts)
