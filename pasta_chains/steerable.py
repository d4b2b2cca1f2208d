"""Makes a loaded model steerable, or says why it cannot be."""

from __future__ import annotations

import inspect
from collections import defaultdict
from functools import partial
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
    model.set_attn_implementation(attention.NAME)
    try:
        layers = _layers_that_ask(model)
    except Exception as error:  # whatever it is, the model must be left as it was
        model.set_attn_implementation(before)
        if isinstance(error, UnsupportedModelError):
            raise
        raise UnsupportedModelError(
            f"{type(model).__name__} cannot be steered: two steered tokens end in "
            f"{type(error).__name__}: {error}"
        ) from error
    # `generate` would refuse our two arguments as typing errors.
    model._validate_model_kwargs = partial(_validate_without_steering, model)
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
    config = model.config.get_text_config()
    short = {"sliding_attention", "chunked_attention"} & set(
        getattr(config, "layer_types", None) or ()
    )
    if short or getattr(config, "attention_chunk_size", None):
        raise UnsupportedModelError(
            f"{name} has layers that read a part of the prompt at a time (sliding-window or "
            "chunked attention), which cannot be steered yet. Use it through transformers, without "
            "emphasis, or choose a model with full attention."
        )


@torch.no_grad()
def _layers_that_ask(model: Any) -> list[int]:
    """Run two tokens through the model: a layer that asks for its heads leaves its number."""
    asked: defaultdict[int, tuple[int, ...]] = defaultdict(lambda: (0,))
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


def _validate_without_steering(model: Any, model_kwargs: dict[str, Any]) -> None:
    own = (attention.BIAS, attention.HEADS)
    others = {name: value for name, value in model_kwargs.items() if name not in own}
    type(model)._validate_model_kwargs(model, others)
