"""What a server was told: `--additional-config '{"pasta_chains": {"profile": "heads.json"}}'`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from ..default_profile import NAME as DEFAULT
from ..default_profile import default_profile
from ..errors import ProfileError
from ..profile import HeadProfile
from ..wire import KEY

_FIELDS = ("profile", "enabled", "shifted")


@dataclass(frozen=True)
class Settings:
    """How a server steers.

    Attributes:
        profile: The heads.
        shifted: Whether plain text, rather than the strongest, has weight 1 (see `Weights`).
    """

    profile: HeadProfile
    shifted: bool = True

    @classmethod
    def of(cls, vllm_config: Any) -> Self | None:
        """What the configuration of an engine says; None if it is to be stock vLLM.

        Raises:
            ProfileError: It is malformed, or names a profile that is not there.
        """
        additional = getattr(vllm_config, "additional_config", None)
        given = additional.get(KEY) if isinstance(additional, Mapping) else None
        if given is None:
            return None
        if not isinstance(given, Mapping):
            raise ProfileError(f'{KEY} is {given!r}; it must be like {{"profile": "heads.json"}}.')
        unknown = sorted(set(given) - set(_FIELDS))
        if unknown:
            raise ProfileError(f"{KEY} has no setting {unknown[0]!r}: only profile and enabled.")
        enabled = given.get("enabled", True)
        if not isinstance(enabled, bool):
            raise ProfileError(f"enabled of {KEY} is {enabled!r}; it must be true or false.")
        if not enabled or given.get("profile") is None:
            return None
        shifted = given.get("shifted", True)  # which `dump` wrote
        if not isinstance(shifted, bool):
            raise ProfileError(f"shifted of {KEY} is {shifted!r}; leave it out.")
        return cls(_profile(given["profile"], vllm_config.model_config), shifted)

    def dump(self) -> dict[str, Any]:
        """What other processes and machines read, which may not have the profile's file."""
        profile = replace(self.profile, details=None)
        return {"profile": profile.to_dict(), "shifted": self.shifted}

    @property
    def digest(self) -> str:
        """Tells one way to steer from another: heads and alpha, not where they come from."""
        heads = {layer: list(numbers) for layer, numbers in self.profile.heads.items()}
        told = json.dumps([heads, self.profile.alpha, self.shifted], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def _profile(given: Any, model_config: Any) -> HeadProfile:
    if given == DEFAULT:
        return default_profile(
            dict.fromkeys(range(layers_of(model_config)), heads_of(model_config))
        )
    if isinstance(given, str):
        return HeadProfile.load(given)
    return HeadProfile.from_dict(given)


def layers_of(model_config: Any) -> int:
    """Number of a model's layers."""
    return int(model_config.get_total_num_hidden_layers())


def heads_of(model_config: Any) -> int:
    """Number of query heads in a layer, of all ranks together."""
    return int(model_config.hf_text_config.num_attention_heads)
