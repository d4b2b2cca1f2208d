"""Makes a loaded model steerable, or says why it cannot be."""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import Any

import torch

from . import attention
from .errors import UnsupportedModelError


def make_steerable(model: Any) -> list[int]:
    """Have a model call our attention function, and let `generate` pass its arguments on.

    Args:
        model: A `PreTrainedModel` that can generate. When it is refused it is left as it was.

    Returns:
        The numbers of the layers whose heads can be steered.

    Raises:
        UnsupportedModelError: Its attention cannot be chosen, is not told what to steer, or is of a
            kind that is not steered yet.
    """
    attention.register()
    _refuse_closed(model)
    before = model.config._attn_implementation
    if before == attention.NAME:  # another SteeredModel shares it
        return _layers_that_ask(model)
    model.set_attn_implementation(attention.NAME)
    try:
        layers = _layers_that_ask(model)
    except UnsupportedModelError:
        model.set_attn_implementation(before)
        raise
    _let_generate_pass_steering(model)
    return layers


def _refuse_closed(model: Any) -> None:
    name = type(model).__name__
    if not model._can_set_attn_implementation():
        raise UnsupportedModelError(
            f"{name} does not let its attention function be chosen, so it cannot be steered."
        )
    parameters = inspect.signature(model.forward).parameters.values()
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
        raise UnsupportedModelError(
            f"{name}.forward takes no further arguments to pass on to its attention, so it cannot "
            "be steered."
        )


@torch.no_grad()
def _layers_that_ask(model: Any) -> list[int]:
    """Run two tokens through the model: a layer that asks for its heads leaves its number."""
    asked: defaultdict[int, tuple[int, ...]] = defaultdict(tuple)
    ids = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    bias = torch.zeros((1, 2), device=model.device)
    model(
        ids,
        attention_mask=torch.ones_like(ids),
        use_cache=False,
        **{attention.BIAS: bias, attention.HEADS: asked},
    )
    if not asked:
        raise UnsupportedModelError(
            f"The layers of {type(model).__name__} do not pass the steering on to their attention, "
            "so it cannot be steered."
        )
    return sorted(asked)


def _let_generate_pass_steering(model: Any) -> None:
    """Keep `generate` from refusing our two arguments as typing errors."""
    validate = model._validate_model_kwargs

    def without_steering(model_kwargs: dict[str, Any]) -> None:
        own = (attention.BIAS, attention.HEADS)
        validate({name: value for name, value in model_kwargs.items() if name not in own})

    model._validate_model_kwargs = without_steering
