"""Head profiles: what they hold, how they are written and read, and what they refuse."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from pasta_chains.errors import PastaError, ProfileError
from pasta_chains.profile import HeadProfile

PROFILE = HeadProfile({3: [17, 7], 0: [1]}, alpha=0.05, model="org/Tiny-1", source="by hand")


def test_heads_are_sorted_and_counted() -> None:
    assert PROFILE.heads == {0: (1,), 3: (7, 17)}
    assert list(PROFILE.heads) == [0, 3]
    assert len(PROFILE) == 3
    assert len(HeadProfile({})) == 0
    assert HeadProfile({"3": range(2)}).heads == {3: (0, 1)}  # type: ignore[dict-item]  # wrong on purpose


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    for profile in (PROFILE, HeadProfile({}), HeadProfile({2: []}, source="ünïcode 🙂")):
        profile.save(tmp_path / "profile.json")
        assert HeadProfile.load(tmp_path / "profile.json") == profile
        assert HeadProfile.load(str(tmp_path / "profile.json")) == profile


def test_the_file_is_plain_json_with_the_model_first(tmp_path: Path) -> None:
    PROFILE.save(tmp_path / "profile.json")
    assert list(json.loads((tmp_path / "profile.json").read_text()).items()) == [
        ("model", "org/Tiny-1"),
        ("alpha", 0.05),
        ("source", "by hand"),
        ("heads", {"0": [1], "3": [7, 17]}),
    ]


def test_details_are_kept_for_the_record(tmp_path: Path) -> None:
    details = {"k": 3, "validation": {"json": 0.5}}
    profile = replace(PROFILE, details=details)
    profile.save(tmp_path / "profile.json")
    assert HeadProfile.load(tmp_path / "profile.json").details == details
    assert hash(profile) == hash(PROFILE)  # mappings have none
    assert replace(profile, alpha=0.1).details == details
    with pytest.raises(ProfileError, match="details are 'many'; they must be a mapping"):
        replace(PROFILE, details="many")


def test_the_published_format_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "llama.json").write_text('{"3": [17, 7], "8": [28]}')
    assert HeadProfile.load(tmp_path / "llama.json") == HeadProfile({3: [7, 17], 8: [28]}, 0.01)


def test_equal_profiles_have_equal_hashes_and_cannot_be_changed() -> None:
    same = HeadProfile({0: [1], 3: [7, 17]}, 0.05, "org/Tiny-1", "by hand")
    assert same == PROFILE
    assert hash(same) == hash(PROFILE)
    assert len({same, PROFILE, replace(PROFILE, alpha=0.1), replace(PROFILE, heads={0: [1]})}) == 3
    with pytest.raises(FrozenInstanceError):
        same.alpha = 0.1  # type: ignore[misc]  # frozen: wrong on purpose


def test_replace_keeps_the_other_fields_and_checks_the_new_one() -> None:
    assert replace(PROFILE, model=None) == HeadProfile(PROFILE.heads, 0.05, None, "by hand")
    assert replace(PROFILE, heads={1: [2]}).heads == {1: (2,)}
    with pytest.raises(ProfileError, match="alpha is 2"):
        replace(PROFILE, alpha=2)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([3, 4], "heads is .* it must map layers to heads, such as"),
        ("3", "it must map layers to heads"),
        (None, "it must map layers to heads"),
        ({-1: [0]}, "Layer -1 of the head profile is no number, or there twice"),
        ({"-1": [0]}, "Layer '-1'"),
        ({"three": [0]}, "Layer 'three'"),
        ({1.0: [0]}, "Layer 1.0"),
        ({True: [0]}, "Layer True"),
        ({None: [0]}, "Layer None"),
        ({"3": [0], 3: [1]}, "Layer 3 of the head profile is no number, or there twice"),
        ({"3": [0], "03": [1]}, "Layer '03'"),
        ({3: "17"}, "The heads of layer 3 are '17'; they must be a list"),
        ({3: 17}, "The heads of layer 3 are 17; they must be a list"),
        ({3: None}, "they must be a list"),
        ({3: [1, 1]}, "they must be different whole numbers from 0"),
        ({3: [-1]}, "different whole numbers from 0"),
        ({3: ["1"]}, "different whole numbers from 0"),
        ({3: [True]}, "different whole numbers from 0"),
        ({3: [1.0]}, "different whole numbers from 0"),
        ({3: [[1], [2]]}, "different whole numbers from 0"),
    ],
)
def test_malformed_heads_are_refused(heads: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=message):
        HeadProfile(heads)


@pytest.mark.parametrize("alpha", [0, -1, 1.5, math.nan, math.inf, True, "0.1", None])
def test_an_alpha_outside_0_to_1_is_refused(alpha: Any) -> None:
    with pytest.raises(ProfileError, match="The head profile's alpha is"):
        HeadProfile({}, alpha=alpha)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read: Expecting property name"),
        ("", "cannot be read: Expecting value"),
        ("\xff", "cannot be read: .*utf-8"),
        ("[3, 4]", "A head profile is a JSON object, such as"),
        ("null", "A head profile is a JSON object"),
        ('{"heads": {"1": [0]}, "lpha": 0.1}', "has no field lpha"),
        ('{"heads": {"1": [0]}, "z": 1, "a": 1}', "has no field a, z"),
        ('{"heads": [1]}', "it must map layers to heads"),
        ('{"heads": {"1": [0]}, "alpha": "0.1"}', "alpha is '0.1'"),
        ('{"heads": {"1": [0]}, "model": 3}', "model is 3; it must be a text"),
        ('{"heads": {"1": [0]}, "source": ["x"]}', r"source is \['x'\]; it must be a text"),
        ('{"alpha": 0.1, "profiles": {"a": {"1": [0]}}}', "holds several profiles. Pass one"),
        ('{"layers": {"1": [0]}}', "Layer 'layers' of the head profile is no number"),
        ('{"1": {"0": 1}}', "they must be different whole numbers"),
        ('{"1": [0], "1": [2]}', "has the field '1' twice"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_with_its_name(
    content: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "profile.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ProfileError, match=f"(?s){message}") as raised:
        HeadProfile.load(file)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_opened_is_refused_with_its_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"The head profile .* cannot be read"):
        HeadProfile.load(tmp_path / name)


@pytest.mark.parametrize(
    "model", ["org/Tiny-1", "elsewhere/tiny-1", "/models/Tiny-1/", r"C:\models\Tiny-1", ""]
)
def test_a_profile_fits_a_model_whose_name_ends_alike(model: str) -> None:
    PROFILE.check_fits(model, layers=4, heads=18)


@pytest.mark.parametrize(
    ("model", "layers", "heads", "message"),
    [
        ("org/Tiny-2", 9, 99, r"belongs to org/Tiny-1, but .* org/Tiny-2.*dataclasses\.replace"),
        ("Tiny-1", 3, 99, "steers layer 3, but Tiny-1 has layers 0 to 2"),
        ("Tiny-1", 4, 17, "steers head 17 of layer 3, but Tiny-1 has heads 0 to 16"),
        ("", 3, 99, "but the model has layers 0 to 2"),
    ],
)
def test_a_model_it_is_not_for_is_refused(
    model: str, layers: int, heads: int, message: str
) -> None:
    with pytest.raises(ProfileError, match=message):
        PROFILE.check_fits(model, layers, heads)


def test_a_profile_without_a_model_fits_every_name() -> None:
    replace(PROFILE, model=None).check_fits("anything", layers=4, heads=18)


def test_its_errors_are_value_errors_of_this_package() -> None:
    assert issubclass(ProfileError, ValueError)
    assert issubclass(ProfileError, PastaError)
