"""Head profiles: which attention heads of a model to steer, and how strongly."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .errors import EmphasisError, ProfileError
from .tokens import check_alpha

FILE_NAME = "head_profile.json"
"""A model folder that contains a file of this name brings its own profile."""

_SHIPPED = Path(__file__).parent / "profiles"
_EMBEDDED = Path(__file__).parent / "demo" / "pasta-reader" / FILE_NAME


@dataclass(frozen=True)
class HeadProfile:
    """The heads to steer.

    Attributes:
        heads: For each layer the numbers of its steered query heads, both from 0. An empty
            mapping steers nothing.
        alpha: Coefficient for text outside the emphasis, 0 < alpha <= 1.
        model: Name of the model the heads were found on; None fits every model.
        source: Where the heads come from, for people.
        details: What was measured when they were found, for the record: JSON.
    """

    heads: Mapping[int, tuple[int, ...]]
    alpha: float = 0.01
    model: str | None = None
    source: str | None = None
    details: Mapping[str, Any] | None = None

    def __init__(
        self,
        heads: Mapping[int, Iterable[int]],
        alpha: float = 0.01,
        model: str | None = None,
        source: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            check_alpha(alpha)
        except EmphasisError as error:
            raise ProfileError(f"The head profile's {error}") from error
        for field, value in (("model", model), ("source", source)):
            if value is not None and not isinstance(value, str):
                raise ProfileError(f"The head profile's {field} is {value!r}; it must be a text.")
        if details is not None and not isinstance(details, Mapping):
            raise ProfileError(
                f"The head profile's details are {details!r}; they must be a mapping."
            )
        set_field = object.__setattr__
        set_field(self, "heads", _checked_heads(heads))
        set_field(self, "alpha", float(alpha))
        set_field(self, "model", model)
        set_field(self, "source", source)
        set_field(self, "details", details)

    def __len__(self) -> int:
        """Number of steered heads."""
        return sum(map(len, self.heads.values()))

    def __hash__(self) -> int:
        return hash((tuple(self.heads.items()), self.alpha, self.model, self.source))

    def check_fits(self, model: str, layers: int, heads: int) -> None:
        """Refuse a model that this profile is not for.

        Names are compared by their last part, so a local copy in a folder of the model's name fits.

        Args:
            model: Name or path that the model was loaded from.
            layers: Its number of layers.
            heads: Its number of query heads in each layer.

        Raises:
            ProfileError: The profile names another model, or a layer or head that is not there.
        """
        if self.model is not None and model and _last_part(self.model) != _last_part(model):
            raise ProfileError(
                f"This head profile belongs to {self.model}, but the model is {model}. Heads of "
                "one model mean nothing in another. If they are the same weights, or a finetuned "
                "copy, say so with dataclasses.replace(profile, model=None)."
            )
        for layer, numbers in self.heads.items():
            if layer >= layers:
                raise ProfileError(
                    f"The head profile steers layer {layer}, but {model or 'the model'} has layers "
                    f"0 to {layers - 1}."
                )
            if numbers and numbers[-1] >= heads:
                raise ProfileError(
                    f"The head profile steers head {numbers[-1]} of layer {layer}, but "
                    f"{model or 'the model'} has heads 0 to {heads - 1}."
                )

    def to_dict(self) -> dict[str, Any]:
        """Returns the profile as JSON can hold it."""
        data = {
            "model": self.model,
            "alpha": self.alpha,
            "source": self.source,
            "heads": {str(layer): list(numbers) for layer, numbers in self.heads.items()},
        }
        return data if self.details is None else {**data, "details": dict(self.details)}

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote, or the paper's published format `{"3": [17, 7], …}`.

        Raises:
            ProfileError: The file cannot be read, or holds something else.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
            data = json.loads(text, object_pairs_hook=_without_twins)
        except (OSError, ValueError) as error:
            raise ProfileError(f"The head profile {path} cannot be read: {error}") from error
        try:
            return cls.from_dict(data)
        except ProfileError as error:
            raise ProfileError(f"{path}: {error}") from error

    @classmethod
    def for_model(cls, name: str | Path, variant: str | None = None) -> Self:
        """The heads that come with this package for a model.

        Args:
            name: Name of the model on the hub, or path of a local copy. The last part counts, in
                small or capital letters.
            variant: Which of the model's profiles; by default the one that its file recommends.

        Returns:
            The profile, for models of this name.

        Raises:
            ProfileError: No profile comes with this package for this model, or no such variant.
        """
        wanted = os.fspath(name)
        files = _shipped()
        for data in files:
            for known in (data["model"], *data["aliases"]):
                if _last_part(known) == _last_part(wanted):
                    return cls(**_variant(data, variant) | {"model": known})
        raise ProfileError(
            f"No head profile is shipped for {wanted or 'a model without a name'}. Find its heads: "
            f"`pasta-chains profile {wanted or 'MODEL'} --task … --out profile.json`. There are "
            f"profiles for {', '.join(data['model'] for data in files)}. A finetuned copy of one "
            "of these may use its heads: "
            'dataclasses.replace(HeadProfile.for_model("huggyllama/llama-7b"), model=None). '
            'SteeredModel(…, profile="default") steers heads by a guess.'
        )

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Build a profile from what `to_dict` returned, or from the paper's published format.

        Raises:
            ProfileError: The data hold something else.
        """
        if not isinstance(data, dict):
            raise ProfileError('A head profile is a JSON object, such as {"3": [17, 7]}.')
        if "heads" not in data and "profiles" in data:
            raise ProfileError(
                "This file holds several profiles. Pass one of them: "
                "HeadProfile(heads=json['profiles'][NAME], alpha=json['alpha'])."
            )
        if "heads" not in data:
            return cls(data)
        unknown = set(data) - {"heads", "alpha", "model", "source", "details"}
        if unknown:
            raise ProfileError(f"A head profile has no field {', '.join(sorted(unknown))}.")
        return cls(**data)


def _shipped() -> list[dict[str, Any]]:
    """What comes with this package: one model each, its aliases, and its profiles by variant."""
    files = [json.loads(file.read_text("utf-8")) for file in sorted(_SHIPPED.glob("*.json"))]
    embedded = json.loads(_EMBEDDED.read_text("utf-8"))
    heads = {"demo": embedded.pop("heads")}
    return [*files, {**embedded, "aliases": [], "default": "demo", "profiles": heads}]


def _variant(data: dict[str, Any], variant: str | None) -> dict[str, Any]:
    """Heads, alpha, source and details of one variant of a shipped file."""
    profiles = data["profiles"]
    chosen = data["default"] if variant is None else variant
    if chosen not in profiles:
        raise ProfileError(
            f"The head profiles of {data['model']} have no variant {chosen!r}. There are "
            f"{', '.join(profiles)}; the default is {data['default']}."
        )
    source = data["source"] if len(profiles) == 1 else f"{data['source']}, {chosen}"
    details = data.get("details")
    return {
        "heads": profiles[chosen],
        "alpha": data["alpha"],
        "source": source,
        "details": details,
    }


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a JSON object; of two with one name JSON would silently drop the first."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the field {twin!r} twice.")
    return fields


def _checked_heads(heads: Any) -> dict[int, tuple[int, ...]]:
    if not isinstance(heads, Mapping):
        raise ProfileError(f"heads is {heads!r}; it must map layers to heads, such as {{3: [17]}}.")
    checked: dict[int, tuple[int, ...]] = {}
    for layer, numbers in heads.items():
        number = int(layer) if isinstance(layer, str) and layer.isdecimal() else layer
        if not _is_index(number) or number in checked:
            raise ProfileError(f"Layer {layer!r} of the head profile is no number, or there twice.")
        if isinstance(numbers, str) or not isinstance(numbers, Iterable):
            raise ProfileError(f"The heads of layer {layer} are {numbers!r}; they must be a list.")
        listed = tuple(numbers)
        if not all(map(_is_index, listed)) or len(set(listed)) < len(listed):
            raise ProfileError(
                f"The heads of layer {layer} are {list(listed)!r}; they must be different whole "
                "numbers from 0."
            )
        checked[number] = tuple(sorted(listed))
    return dict(sorted(checked.items()))


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _last_part(name: str) -> str:
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1].lower()
