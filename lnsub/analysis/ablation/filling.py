"""What a removed weight gives in its place: nothing, or what it gave on average.

A layer's output is the sum over its inputs of weight times input. Where removed weights are to give their mean, the sum
over them of weight times the input's mean over a sample is added to the output: exact for any choice of weights.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.models.prunable import Prunable, prunable


class InputMeans:
    """The mean input of each prunable layer of a model, over tokens.

    Args:
        model: a Hugging Face model.

    Raises:
        UserError: it has experts stacked in one parameter, which are no layers with an input of their own.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers = prunable(model)
        for name, entry in self._layers.items():
            if entry.parameter.dim() != 2:
                raise UserError(f"--fill mean knows no mean input of stacked experts such as {name}: use --fill zero.")
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._tokens: tuple[Tensor, ...] = ()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Puts hooks on the layers, and takes them off again."""
        with ExitStack() as stack:
            for name, entry in self._layers.items():
                hook = entry.module.register_forward_hook(self._hook(name))
                stack.callback(hook.remove)
            yield

    def start(self, batch: Mapping[str, Tensor]) -> None:
        """Prepares for a forward pass of a task's batch, whose padding does not count."""
        found = [batch["attention_mask"].bool()] if "attention_mask" in batch else []
        labels = batch["labels"]
        if getattr(self._model.config, "is_encoder_decoder", False) and labels.dim() == 2:
            found.append(labels != IGNORED)
        self._tokens = tuple(found)

    def of(self, name: str) -> Tensor | None:
        """The mean input of a layer, float64 [in_features]; None where it never had one."""
        return self._sums[name] / self._counts[name] if self._counts.get(name) else None

    def _hook(self, name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            flat = inputs[0].detach().flatten(0, -2)
            for mask in self._tokens:
                if len(flat) == mask.numel():
                    flat = flat[mask.flatten()]
                    break
            self._sums[name] = self._sums.get(name, 0) + flat.sum(0, dtype=torch.float64)
            self._counts[name] = self._counts.get(name, 0) + len(flat)

        return hook


@contextmanager
def filled(model: nn.Module, removed: Mapping[str, Tensor], means: InputMeans) -> Iterator[None]:
    """Has each layer add what the removed weights give on average; enter it while the weights are still there.

    Args:
        model: the model of ``means``.
        removed: bool of each matrix's shape, True where a weight is about to be removed, by name.
        means: the mean inputs.
    """
    layers = prunable(model)
    with ExitStack() as stack:
        for name, bits in removed.items():
            if (mean := means.of(name)) is not None:
                hook = layers[name].module.register_forward_hook(_adding(_constant(layers[name], bits, mean)))
                stack.callback(hook.remove)
        yield


@torch.no_grad()
def _constant(entry: Prunable, bits: Tensor, mean: Tensor) -> Tensor:
    """(W * removed) @ E[x]: float64 [out_features]."""
    weight = entry.parameter.detach()
    taken = torch.where(bits.to(weight.device), weight, 0).double()
    return (taken.T if entry.outputs == 1 else taken) @ mean.to(weight.device)


def _adding(constant: Tensor) -> Any:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + constant.to(output.dtype)

    return hook
