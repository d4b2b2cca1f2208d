"""Makes a loaded model steerable, or says why it cannot be."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle
from transformers import GenerationConfig

from . import adapters, attention, masking
from .cache import given_cache
from .errors import PastaError, UnsupportedModelError
from .sampling import SeededSampling

_PROBE = 8
"""Number of tokens that tell whether a model can be steered."""

_SAME = 0.05
"""Logits that differ by less, as a share of the largest, are the same in half precision."""


@dataclass(frozen=True)
class Steerable:
    """What is known of a model that was made steerable.

    Attributes:
        layers: The layers whose heads can be steered, each with its number of heads; None where
            the model does not show it.
        batches: Whether prompts can be put in one batch, padded on the left.
        attention: The attention implementations of the model and its parts, as they have to stay.
    """

    layers: Mapping[int, int | None]
    batches: bool
    attention: Any

    def check_is_still(self, model: Any) -> None:
        """Refuse a model whose attention was changed afterwards: it would not be steered.

        Raises:
            UnsupportedModelError: It was changed.
        """
        now = implementations(model.config)
        if now != self.attention:
            raise UnsupportedModelError(
                f"The attention of {type(model).__name__} was {self.attention} when it was made "
                f"steerable, and is {now} now, so nothing would be steered. Choose the "
                "implementation first, and then make a SteeredModel."
            )


def make_steerable(
    model: Any, check: Callable[[Steerable], object] = lambda made: None
) -> Steerable:
    """Have a model call our attention function, and let `generate` pass its arguments on.

    The function runs on the kernel that the model was loaded with. A model of a type that has an
    adapter gets the hooks of `masking`.

    Args:
        model: A `PreTrainedModel` that can generate. When it is refused it is left as it was.
        check: May refuse it, too, by raising a `PastaError`.

    Raises:
        UnsupportedModelError: Its attention cannot be chosen, is not told what to steer, or is of a
            kind that cannot be steered.
    """
    if hasattr(model, "_orig_mod"):
        raise UnsupportedModelError(
            "A module that torch.compile returned cannot be steered. Make a SteeredModel of the "
            "model itself, and then call its compile()."
        )
    adapter = adapters.adapter_of(model)
    _refuse_closed(model)
    plain = _probe(model)
    if not plain.isfinite().all():
        raise UnsupportedModelError(
            f"The logits of {type(model).__name__} are not numbers, even before it is steered. Its "
            f"attention runs on {model.config._attn_implementation}; load it with another "
            "attn_implementation."
        )
    before = implementations(model.config)
    hooks: list[RemovableHandle] = []
    ours = adapter is None or adapter.way == "pass on"
    new = [name for name in _PATCHES if name not in vars(model)]
    try:
        hooks += masking.install(model, adapter) if adapter else []
        if ours:
            model.set_attn_implementation(_renamed(model.config, attention.register))
        _check_unsteered(model, plain)
        layers = _layers_that_ask(model, counted=ours)
        for name in new:
            setattr(model, name, _PATCHES[name](model))
        if _count_seen not in model._forward_pre_hooks.values():
            hooks.append(
                model.register_forward_pre_hook(_count_seen, with_kwargs=True, prepend=True)
            )
        made = Steerable(layers, _reads_past_padding(model), implementations(model.config))
        check(made)
    except Exception as error:  # whatever it is, the model must be left as it was
        for hook in hooks:
            hook.remove()
        for name in new:
            vars(model).pop(name, None)
        if ours:
            model.set_attn_implementation(before)
        if isinstance(error, PastaError):
            raise
        raise UnsupportedModelError(
            f"{type(model).__name__} cannot be steered: a few steered tokens end in "
            f"{type(error).__name__}: {error}"
        ) from error
    return made


def heads_on_this_rank(
    model: Any, heads: Mapping[int, tuple[int, ...]]
) -> dict[int, tuple[int, ...]]:
    """Number heads as the layers of this process do, which have a part of them each.

    Args:
        model: A steerable model; with tensor parallelism, this process's part of it.
        heads: For each layer, heads of the whole model.

    Returns:
        For each layer, those of them that are here, counted from the first head that is here.
    """
    if not _ranks(model) > 1:
        return dict(heads)
    here: dict[int, int] = {}

    def watch(layer: int, query: torch.Tensor, *_: Any) -> None:
        here[layer] = query.shape[1]

    nothing: dict[int, tuple[int, ...]] = dict.fromkeys(heads, ())
    bias = torch.zeros((1, _PROBE), device=model.device)
    _probe(model, **{attention.BIAS: bias, attention.HEADS: nothing, attention.WATCH: watch})
    rank = model._device_mesh["tp"].get_local_rank()
    every = model.config.get_text_config().num_attention_heads
    numbered = {}
    for layer, listed in heads.items():
        first = rank * here[layer] if here[layer] < every else 0
        numbered[layer] = tuple(h - first for h in listed if 0 <= h - first < here[layer])
    return numbered


def _ranks(model: Any) -> int:
    return getattr(model, "_tp_size", None) or 1


def _refuse_closed(model: Any) -> None:
    name = type(model).__name__
    if _ranks(model) > 1 and adapters.adapter_of(model):
        raise UnsupportedModelError(
            f"{name} cannot be steered with tensor parallelism. Load it without tp_plan."
        )
    parameters = inspect.signature(model.forward).parameters.values()
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
        raise UnsupportedModelError(
            f"{name}.forward takes no further arguments to pass on to its attention, so it cannot "
            "be steered."
        )


def implementations(config: Any) -> Any:
    """The attention implementations of a configuration and of each inside it.

    It is what `set_attn_implementation` takes.
    """
    return _renamed(config, str)


def _renamed(config: Any, name: Callable[[str], str]) -> Any:
    own = config._attn_implementation
    named = {"": own and name(own)}
    for key in config.sub_configs:
        inner = getattr(config, key)
        if inner is not None:
            # transformers 5.19 takes no dict for a part that has no parts.
            named[key] = _renamed(inner, name) if inner.sub_configs else _renamed(inner, name)[""]
    return named


@torch.no_grad()
def _probe(model: Any, **steering: Any) -> Any:
    """Logits of a few tokens."""
    ids = _probe_tokens(model)
    training = model.training
    model.eval()
    try:
        output = model(ids, attention_mask=torch.ones_like(ids), use_cache=False, **steering)
    finally:
        model.train(training)
    return output.logits


def _probe_tokens(model: Any) -> torch.Tensor:
    return torch.arange(1, _PROBE + 1, device=model.device)[None]


@torch.no_grad()
def _reads_past_padding(model: Any) -> bool:
    """Whether a prompt with padding on its left reads as without.

    Some older types count positions from the padding on. Their prompts cannot be put in one batch.
    """
    ids = _probe_tokens(model)
    padded = torch.nn.functional.pad(ids, (3, 0))
    there = torch.nn.functional.pad(torch.ones_like(ids), (3, 0))
    own = model.generation_config
    tokens = {name: value for name, value in own.to_dict().items() if name.endswith("_token_id")}
    model.generation_config = GenerationConfig(**tokens)  # whatever else it says must not matter
    try:
        alone, beside = (
            model.generate(
                tokens, attention_mask=mask, max_new_tokens=1, min_new_tokens=1, do_sample=False,
                output_logits=True, return_dict_in_generate=True,
            ).logits[0]
            for tokens, mask in ((ids, torch.ones_like(ids)), (padded, there))
        )  # fmt: skip
    finally:
        model.generation_config = own
    error = (alone - beside).float().abs().max()
    return bool(error <= _SAME * alone.float().abs().max())


def _check_unsteered(model: Any, plain: torch.Tensor) -> None:
    if not torch.equal(_probe(model), plain):
        raise UnsupportedModelError(
            f"{type(model).__name__} computes something else when its attention function is ours, "
            "even without emphasis, so it cannot be steered."
        )


class _Asked:
    """Steers head 0 of every layer. No mapping, for models in parts are given copies of those."""

    def __init__(self) -> None:
        self.layers: set[Any] = set()

    def __getitem__(self, layer: Any) -> tuple[int, ...]:
        self.layers.add(layer)
        return (0,)


def _layers_that_ask(model: Any, *, counted: bool) -> dict[int, int | None]:
    """Steer the probe: a layer that asks for its heads leaves its number, and how many it has."""
    asked = _Asked()
    heads: dict[int, int] = {}

    def watch(layer: int, query: torch.Tensor, *_: Any) -> None:
        heads[layer] = query.shape[1] * _ranks(model)

    bias = torch.zeros((1, _PROBE), device=model.device)
    watched = {attention.WATCH: watch} if counted else {}
    _probe(model, **{attention.BIAS: bias, attention.HEADS: asked}, **watched)
    if not asked.layers:
        raise UnsupportedModelError(
            f"The layers of {type(model).__name__} do not pass the steering on to their attention, "
            "so it cannot be steered."
        )
    if any(type(layer) is not int or layer < 0 for layer in asked.layers):
        raise UnsupportedModelError(
            f"The attention of {type(model).__name__} has no layer number of its own, as several "
            "layers share it, so no profile can name its heads."
        )
    return {layer: heads.get(layer) for layer in sorted(asked.layers)}


def _count_seen(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Before each forward: tell layers that keep only the last tokens how many there have been."""
    cache = given_cache(kwargs)
    if kwargs.get(attention.BIAS) is None or cache is None:
        return None
    if not any(cache.is_sliding):
        return None
    # There may be more flags than layers so far, which are made when they are used.
    sliding = [
        layer for layer, slides in zip(cache.layers, cache.is_sliding, strict=False) if slides
    ]
    if not sliding:
        return None
    ids = args[0] if args else kwargs.get("input_ids")
    new = ids if ids is not None else kwargs["inputs_embeds"]
    # Some say that they slide and are never asked: RecurrentGemma's, in transformers 5.19.
    seen = max(int(layer.get_seq_length()) for layer in sliding) + new.shape[1]
    return args, {**kwargs, attention.SEEN: seen}


def _without_steering(model_kwargs: dict[str, Any]) -> dict[str, Any]:
    own = (attention.BIAS, attention.HEADS, attention.SEEN)
    return {name: value for name, value in model_kwargs.items() if name not in own}


def _validate_without_steering(model: Any, model_kwargs: dict[str, Any]) -> None:
    type(model)._validate_model_kwargs(model, _without_steering(model_kwargs))


def _refuse_continuous_batching(*_: Any, **__: Any) -> None:
    raise UnsupportedModelError(
        "Continuous batching takes no steering, so it would lose emphasis. Use SteeredModel.run "
        "with a list of prompts; or load the model once more, unsteered."
    )


def _propose_without_steering(model: Any, *args: Any, **arguments: Any) -> Any:
    """Let an assistant propose tokens unsteered: what is kept of them is the steered model's."""
    arguments["model_kwargs"] = _without_steering(arguments["model_kwargs"])
    return type(model)._get_candidate_generator(model, *args, **arguments)


def _processors_with_sampling_last(model: Any, *args: Any, **arguments: Any) -> Any:
    """`generate` puts temperature and the like after a caller's own processors."""
    processors = type(model)._get_logits_processor(model, *args, **arguments)
    processors.sort(key=lambda processor: isinstance(processor, SeededSampling))
    return processors


_PATCHES: dict[str, Callable[[Any], Any]] = {
    # `generate` would refuse our arguments as typing errors, and hand them to an assistant.
    "_validate_model_kwargs": partial(partial, _validate_without_steering),
    "_get_candidate_generator": partial(partial, _propose_without_steering),
    "_get_logits_processor": partial(partial, _processors_with_sampling_last),
    "init_continuous_batching": lambda model: _refuse_continuous_batching,
}
"""Methods of a model that are replaced, each with what makes its replacement."""
