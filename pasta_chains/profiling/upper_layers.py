"""Reads one batch with many heads, one after the other, and each time only as much as it changes.

Steering a head changes nothing below its layer, and nothing before the first emphasized token. So
the batch is read once without steering, what every layer gave is kept, and for each head the model
is run from that head's layer and from that token on.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .. import attention
from ..cache import cache_name, given_cache

_PROBE = 8
"""Number of tokens that tell whether layers can be read apart."""


class Reading:
    """A batch that was read unsteered, to be read again with heads steered.

    Args:
        model: A steerable model.
        path: Where its layers are, from `path_of_layers`; None to read all of it for each head.
        inputs: Of the batch, with its bias and whatever heads in every layer.
        first: Column of each row at which logits are wanted: those of the column before it are the
            first.
        width: For how many columns.
        begin: Column before which steering changes nothing; less than each of `first`.
    """

    def __init__(
        self,
        model: Any,
        path: str | None,
        inputs: Mapping[str, Any],
        first: Sequence[int],
        width: int,
        begin: int = 0,
    ) -> None:
        self._model, self._path, self.begin = model, path, begin
        self._inputs = {name: value for name, value in inputs.items() if name != attention.HEADS}
        self._none: dict[int, tuple[int, ...]] = dict.fromkeys(inputs.get(attention.HEADS, ()), ())
        self._positions = torch.tensor(first, device=model.device)[:, None] - 1
        self._positions = self._positions + torch.arange(width, device=model.device)
        self._positions = self._positions.clamp(max=inputs["input_ids"].shape[1] - 1) - begin

    @property
    def columns(self) -> int:
        """How many columns are read for each head."""
        return int(self._inputs["input_ids"].shape[1]) - self.begin

    @property
    def plain(self) -> Tensor:
        """Logits of shape (rows, width, vocabulary), without steering."""
        return self._unsteered[0]

    def logits(self, heads: Mapping[int, Sequence[int]]) -> Tensor:
        """Logits of shape (rows, width, vocabulary), with heads steered.

        Args:
            heads: For each layer its steered heads.
        """
        chosen = {layer: tuple(some) for layer, some in heads.items() if some}
        if not chosen or attention.BIAS not in self._inputs:
            return self.plain
        model = self._model
        if self._path is not None:
            lowest = min(_place(model.get_submodule(self._path), layer) for layer in chosen)
            if lowest > 0:
                model = _from_layer(model, self._path, lowest, self._unsteered[1][lowest - 1])
        return self._run(model, {**self._inputs, attention.HEADS: self._none | chosen})

    @cached_property
    def _unsteered(self) -> tuple[Tensor, list[Any]]:
        """Logits without steering, and what each layer gave, if they can be read apart."""
        inputs = {n: v for n, v in self._inputs.items() if n != attention.BIAS}
        outputs: list[Any] = []
        model = self._model
        if self._path is not None:
            layers = model.get_submodule(self._path)
            model = _view(model, self._path, [_recorded(layer, outputs) for layer in layers])
        return self._run(model, inputs), outputs

    @cached_property
    def cache(self) -> Any:
        """Keys and values of the columns that steering does not change."""
        inputs = {n: v for n, v in self._inputs.items() if n != attention.BIAS}
        before = {name: value[:, : self.begin] for name, value in inputs.items()}
        with torch.no_grad():
            return given_cache(self._model(**before, use_cache=True))

    def _run(self, model: Any, inputs: Mapping[str, Any]) -> Tensor:
        if self.begin:
            inputs = dict(inputs)
            for name in ("input_ids", "position_ids"):
                if name in inputs:
                    inputs[name] = inputs[name][:, self.begin :]
            inputs[cache_name(self._model)] = _twin(self.cache)
        inputs = {**inputs, "use_cache": bool(self.begin)}
        with torch.no_grad():
            kept = self._positions.unique()
            # Logits of all positions of a long batch can take more memory than the model.
            if "logits_to_keep" in inspect.signature(model.forward).parameters:
                logits = model(**inputs, logits_to_keep=kept).logits
                positions = torch.searchsorted(kept, self._positions)
            else:
                logits, positions = model(**inputs).logits, self._positions
        index = positions.to(logits.device)[..., None].expand(-1, -1, logits.shape[-1])
        found: Tensor = logits.gather(1, index).float()
        return found


@torch.no_grad()
def path_of_layers(model: Any) -> str | None:
    """Where a model has its list of layers, if it can be run from any of them on.

    Returns:
        The dotted name of the list; None where there is no such list, or the model does not go
        through it in order, each layer with what the one before gave.
    """
    path: str | None = next(
        (name for name, module in model.named_modules() if _are_layers(module)), None
    )
    if path is None or any("forward" in vars(one) for one in _on_the_way(model, path)):
        return None  # without a list, or with one's forward replaced, as accelerate does
    ids = torch.arange(1, _PROBE + 1, device=model.device)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    reading = Reading(model, path, inputs, [1], _PROBE)
    plain, outputs = reading._unsteered
    if len(outputs) != len(model.get_submodule(path)):
        return None
    for layer in range(1, len(outputs)):
        from_here = _from_layer(model, path, layer, outputs[layer - 1])
        if not torch.equal(reading._run(from_here, inputs), plain):
            return None
    return path


def _are_layers(module: nn.Module) -> bool:
    if not isinstance(module, nn.ModuleList) or not len(module):
        return False
    # Some read the keys that a layer below left for them, which it would not leave.
    if any(getattr(part, "is_kv_shared_layer", False) for part in module.modules()):
        return False
    return all(_has(layer, number) for number, layer in enumerate(module))


def _has(layer: nn.Module, number: int) -> bool:
    return any(getattr(part, "layer_idx", None) == number for part in layer.modules())


def _place(layers: nn.ModuleList, number: int) -> int:
    """Where in a list the attention of a number is: some have two in each layer."""
    return next((place for place, layer in enumerate(layers) if _has(layer, number)), 0)


def _on_the_way(model: nn.Module, path: str) -> list[nn.Module]:
    """The model, and each module down to its list of layers, those included."""
    names = path.split(".")
    above = [model.get_submodule(".".join(names[:count])) for count in range(len(names))]
    return [*above, *model.get_submodule(path)]  # type: ignore[misc]  # a ModuleList


def _from_layer(model: Any, path: str, layer: int, output: Any) -> Any:
    """A view of a model whose layers below one give what they gave before."""
    layers = model.get_submodule(path)
    known = [_Known(below, output) for below in layers[:layer]]
    return _view(model, path, [*known, *layers[layer:]])


def _view(model: Any, path: str, layers: Sequence[nn.Module]) -> Any:
    """A model with other layers in the place of its own. The model itself stays as it is."""
    view = within = _shallow(model)
    *above, last = path.split(".")
    for name in above:
        within._modules[name] = _shallow(within._modules[name])
        within = within._modules[name]
    within._modules[last] = nn.ModuleList(layers)
    return view


def _recorded(layer: nn.Module, outputs: list[Any]) -> nn.Module:
    """A twin of a layer that notes what it gives."""
    twin: nn.Module = _shallow(layer)
    twin._forward_hooks = layer._forward_hooks.copy()
    twin.register_forward_hook(lambda module, args, output: outputs.append(output))
    return twin


def _twin(cache: Any) -> Any:
    """A cache that begins with the same keys: layers add to them by making new tensors."""
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    return twin


def _shallow(module: Any) -> Any:
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


class _Known(nn.Module):
    """Stands for a layer, and gives what is known already."""

    def __init__(self, layer: nn.Module, output: Any) -> None:
        super().__init__()
        self.__dict__["_layer"] = layer  # not as a part of this one
        self._output = output

    def forward(self, *_: Any, **__: Any) -> Any:
        return self._output

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_layer"], name)  # models ask layers what kind they are
