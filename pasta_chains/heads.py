"""The heads of a profile in one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import ProfileError
from .profile import HeadProfile
from .steerable import Steerable, heads_on_this_rank


def check_fits_model(profile: HeadProfile, model: Any) -> None:
    """Refuse a profile that was made for another model, or has more layers or heads.

    Raises:
        ProfileError: It was, or it has.
    """
    config = model.config.get_text_config()
    numbers = (getattr(module, "layer_idx", None) for module in model.modules())
    attentions = [number + 1 for number in numbers if type(number) is int]
    layers = max([config.num_hidden_layers, *attentions])  # some have two in a block
    profile.check_fits(str(model.config.name_or_path), layers, config.num_attention_heads)


def heads_by_layer(
    profile: HeadProfile | None, model: Any, steerable: Steerable
) -> Mapping[int, tuple[int, ...]]:
    """The profile's heads for every layer of a model; empty when it steers nothing.

    Args:
        profile: The profile.
        model: The model.
        steerable: What is known of its attention.

    Raises:
        ProfileError: The profile is not for this model.
    """
    if profile is None:
        return {}
    check_fits_model(profile, model)
    name = str(model.config.name_or_path) or "the model"
    for layer, listed in profile.heads.items():
        if layer not in steerable.layers:
            raise ProfileError(
                f"The head profile steers layer {layer}, which has no attention in {name}."
            )
        there = steerable.layers[layer]
        if there is not None and max(listed, default=0) >= there:
            raise ProfileError(
                f"The head profile steers head {max(listed)} of layer {layer}, which has {there} "
                f"heads in {name}."
            )
    if not len(profile):
        return {}
    heads = {layer: profile.heads.get(layer, ()) for layer in steerable.layers}
    return heads_on_this_rank(model, heads)
