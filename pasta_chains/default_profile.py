"""The heads that are steered where nobody has looked for a model's own."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .errors import ProfileError
from .profile import HeadProfile

NAME = "default"
"""What `profile=` is given for it."""

LAYERS = (2 / 3, 1.0)
"""From which to which part of a model's depth all heads are steered."""

ALPHA = 0.1


def default_profile(head_counts: Mapping[int, int]) -> HeadProfile:
    """A guess: every head of some layers, steered less than with a profile that was found.

    `docs/results/default-profile.md` tells what it was measured on; of no other model is it known
    whether it helps or harms.

    Args:
        head_counts: For each layer with attention its number of heads.

    Raises:
        ProfileError: No layer has heads.
    """
    return band(head_counts, *LAYERS, ALPHA)


def band(head_counts: Mapping[int, int], begin: float, end: float, alpha: float) -> HeadProfile:
    """Every head of the layers from one part of the depth to another.

    Args:
        head_counts: For each layer with attention its number of heads.
        begin: Of the depth, 0 is the first layer.
        end: Of the depth, 1 is after the last layer.
        alpha: Coefficient for text outside the emphasis.

    Raises:
        ProfileError: No layer lies there.
    """
    layers = sorted(head_counts)
    chosen = layers[math.floor(begin * len(layers)) : math.ceil(end * len(layers))]
    if not chosen:
        raise ProfileError("The model has no layers to steer.")
    return HeadProfile(
        {layer: range(head_counts[layer]) for layer in chosen},
        alpha,
        source="a guess, not found on this model: see docs/results/default-profile.md",
    )
