"""How often each feed-forward neuron is active: the share of tokens for which its activation is above 0."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lnsub.common.errors import UserError
from lnsub.models.prunable import Prunable, base_of, prunable
from lnsub.tickets.parameters import kind_of
from lnsub.tickets.units import Group, Member, Units

_ACTIVATIONS = ("act_fn", "activation_fn", "act", "activation")
"""What blocks call their activation function."""


class ActivationCounts:
    """Hooks that count, for each neuron, the tokens that activate it.

    What is counted is the output of the activation function: of a gated block the gate's, before it is multiplied by
    what it gates; of another, what its second matrix is given.

    Args:
        model: the model.
        units: its neurons.
        device: where the model computes.

    Attributes:
        positive: the number of tokens with an activation above 0, by group: int64 [neurons].
        tokens: the number of tokens, by group.

    Raises:
        UserError: an activation cannot be told.
    """

    def __init__(self, model: nn.Module, units: Units, device: torch.device) -> None:
        self.positive = {g.name: torch.zeros(g.count, dtype=torch.int64, device=device) for g in units.groups}
        self.tokens = dict.fromkeys(self.positive, 0)
        self._padding: Sequence[Tensor] = ()
        entries = prunable(model)
        self._places = {group.name: _place(group, entries, model) for group in units.groups}
        modules = [module for module, _ in self._places.values()]
        if len({id(module) for module in modules}) < len(modules):
            raise UserError(
                "Some blocks share an activation function, so that their neurons cannot be told apart: choose another "
                "score than lape."
            )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Puts the hooks on the model, and takes them off again."""
        handles = [
            module.register_forward_hook(self._hook(name, activation))
            for name, (module, activation) in self._places.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def start(self, padding: Sequence[Tensor]) -> None:
        """Prepares for a pass; see :meth:`lnsub.training.layer_sums.LayerSums.start`."""
        self._padding = padding

    def probabilities(self) -> dict[str, Tensor]:
        """The share of tokens that activate each neuron, by group: float64 [neurons], on the CPU."""
        return {name: count.double().cpu() / max(1, self.tokens[name]) for name, count in self.positive.items()}

    def _hook(self, name: str, activation: Callable[[tuple[Any, ...], Tensor], Tensor]) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            found = activation(inputs, output).detach().flatten(0, -2)
            if found.shape[1] != len(self.positive[name]):
                raise UserError(
                    f"The activations of {name} are {found.shape[1]}, its neurons {len(self.positive[name])}: choose "
                    "another score than lape."
                )
            for mask in self._padding:
                if mask.numel() == len(found):
                    found = found[mask.flatten()]
                    break
            self.positive[name] += (found > 0).sum(0)
            self.tokens[name] += len(found)

        return hook


def _place(
    group: Group, entries: dict[str, Prunable], model: nn.Module
) -> tuple[nn.Module, Callable[[tuple[Any, ...], Tensor], Tensor]]:
    """The module whose call gives the activations of a group's neurons, and how they are read off it."""
    if any(member.expert is not None for member in group.members):
        raise UserError(
            f"The neurons of {group.name} are those of experts, which are computed together, so that their "
            "activations cannot be told apart: choose another score than lape."
        )

    def is_outer(member: Member) -> bool:
        return member.axis == entries[member.parameter].inputs

    inner = [member for member in group.members if not is_outer(member)]
    outer = next(member for member in group.members if is_outer(member))
    if len(inner) == 1 and len(inner[0].pieces) == 1:
        return entries[outer.parameter].module, lambda inputs, output: inputs[0]
    block = base_of(model).get_submodule(group.name)
    function = next((found for name in _ACTIVATIONS if (found := getattr(block, name, None)) is not None), None)
    if isinstance(function, nn.Module):
        return function, lambda inputs, output: output
    gates = [member for member in inner if kind_of(member.parameter) == "gate"]
    if callable(function) and len(gates) == 1:
        apply: Callable[[Tensor], Tensor] = function
        return entries[gates[0].parameter].module, lambda inputs, output: apply(output)
    raise UserError(f"The activation function of {group.name} cannot be found: choose another score than lape.")
