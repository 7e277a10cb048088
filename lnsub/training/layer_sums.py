"""Sums over examples of what linear layers are given, and of the gradients that single examples have there.

A weight's gradient is the sum over tokens of the outer product of the layer's output gradient and its input. Both are
at hand in the pass of a whole batch, so the gradient of each of its examples can be summed apart, at the cost of one
backward pass (Goodfellow, 2015, https://arxiv.org/abs/1510.01799). On the embedded model this takes a fifteenth of the
time of a backward pass for each example, and less than torch.func's per-sample gradients.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lnsub.common.errors import UserError
from lnsub.models.experts import FIRST, output_gradients, refuse_unknown_experts, routed
from lnsub.models.prunable import Prunable, prunable
from lnsub.pruning.scores import Need
from lnsub.pruning.sharding import local, sharded_like


class _Part(NamedTuple):
    """A part of a weight's gradient: a sum over tokens of outer products, for one expert or the only matrix.

    Attributes:
        expert: which matrix of a stack; None where there is but one.
        states: what the layer was given, by example: [tokens, in] each.
        gradients: the gradients of what it gave, likewise: [tokens, out].
    """

    expert: int | None
    states: Sequence[Tensor]
    gradients: Sequence[Tensor]


class LayerSums:
    """Hooks on a model's prunable layers that sum up over passes.

    For each pass: :meth:`start`, the forward pass, the backward pass of a loss that is a *sum* over examples, and
    :meth:`finish`. A layer may be called several times in a pass. Of a sharded model each rank sums squares for its own
    rows; all ranks must be given the same examples.

    Args:
        model: the model.
        weights: its prunable weights by name, of the layouts that :class:`~lnsub.models.prunable.Prunable` names.
        needs: ``squared_gradients`` and ``activations`` are summed up if they are in it.

    Attributes:
        squares: sums over examples of an example's squared gradient, by name, of the shape of the rows on this rank.
        seen: the number of passes in which a weight had a gradient, by name.
        inputs: sums over tokens of an input's square, by name: float64 [in_features], of stacked experts
            [experts, in_features], each over the tokens that were sent to it.
        tokens: the number of those tokens, by name: int64 [], of stacked experts [experts, 1].

    Raises:
        UserError: what stacked experts are given cannot be told apart.
    """

    def __init__(self, model: nn.Module, weights: Mapping[str, Tensor], needs: frozenset[Need]) -> None:
        found = prunable(model)
        self._entries = {name: found[name] for name in weights}
        self._squaring = "squared_gradients" in needs
        self._counting = "activations" in needs
        self._padding: Sequence[Tensor] = ()
        self._parts: dict[str, list[_Part]] = {}
        self._rows: dict[str, slice] = {}
        self.squares: dict[str, Tensor] = {}
        self.seen: dict[str, int] = {}
        self.inputs: dict[str, Tensor] = {}
        self.tokens: dict[str, Tensor] = {}
        for name, weight in weights.items():
            entry = self._entries[name]
            if weight.dim() == 3:
                refuse_unknown_experts(name, entry.module, entry.attribute)
            if self._squaring:
                self.squares[name] = torch.zeros_like(local(weight.detach()))
                self.seen[name] = 0
                rows = local(sharded_like(torch.arange(weight.shape[0]), weight)).tolist()
                self._rows[name] = slice(rows[0], rows[-1] + 1) if rows else slice(0, 0)
            if self._counting:
                stack = weight.shape[:-2]
                shape = (*stack, weight.shape[entry.inputs])
                self.inputs[name] = torch.zeros(shape, dtype=torch.float64, device=weight.device)
                self.tokens[name] = torch.zeros((*stack, *[1] * len(stack)), dtype=torch.int64, device=weight.device)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Puts the hooks on the layers, and takes them off again."""
        experts: dict[nn.Module, dict[str, str]] = {}
        handles = []
        for name, entry in self._entries.items():
            if entry.parameter.dim() == 3:
                experts.setdefault(entry.module, {})[entry.attribute] = name
            else:
                handles.append(entry.module.register_forward_hook(self._hook(name)))
        handles += [
            module.register_forward_hook(self._hook_experts(names), with_kwargs=True)
            for module, names in experts.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._parts = {}

    def start(self, padding: Sequence[Tensor]) -> None:
        """Prepares for a pass.

        Args:
            padding: bool [batch, length], True at tokens and False at padding; of an encoder-decoder also the
                decoder's, of another length.
        """
        self._padding = padding
        self._parts = {name: [] for name in self._entries}

    def finish(self) -> None:
        """Adds the squared gradients of the pass up, after its backward pass."""
        for name, parts in self._parts.items():
            self._parts[name] = []
            if not parts:
                continue
            self.seen[name] += 1
            outputs_first = self._entries[name].outputs < self._entries[name].inputs
            for expert in {part.expert for part in parts}:
                total = self.squares[name]
                if expert is not None:
                    rows = self._rows[name]
                    if not rows.start <= expert < rows.stop:
                        continue
                    total = total[expert - rows.start]
                same = [part for part in parts if part.expert == expert]
                for example in range(len(self._padding[0])):
                    gradient = sum(_gradient(part, example, total, outputs_first) for part in same)
                    total.addcmul_(gradient, gradient)  # type: ignore[arg-type]

    def _hook(self, name: str) -> Any:
        entry = self._entries[name]

        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            states = inputs[0].detach()
            if not states.numel():  # the adapters of a language that no example is in
                return
            if self._counting:
                flat = states.flatten(0, -2)
                counted = self._counted(len(flat))
                self._count(name, (), flat if counted is None else flat[counted])
            if self._squaring and output.requires_grad:
                output.register_hook(lambda gradient: self._keep(name, entry, states, gradient))

        return hook

    def _keep(self, name: str, entry: Prunable, states: Tensor, gradient: Tensor) -> None:
        """Keeps what the squares of a layer's gradients are made of; of a sharded weight, for this rank's rows."""
        rows = self._rows[name]
        if entry.outputs == 0:
            gradient = gradient[..., rows]
        else:
            states = states[..., rows]
        self._parts[name].append(_Part(None, self._by_example(name, states), self._by_example(name, gradient)))

    def _hook_experts(self, names: Mapping[str, str]) -> Any:
        """A hook on a layer of stacked experts; ``names`` are the parameters' by what the layer calls them."""

        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            calls = list(routed(layer, args, kwargs))
            for call in calls if self._counting else ():
                counted = self._counted(len(output))
                for attribute, name in names.items():
                    states = call.states if attribute in FIRST else call.inner
                    self._count(name, (call.expert,), states if counted is None else states[counted[call.tokens]])

            # Worked out while the layer's backward pass runs, as a sharded model has its weights only then.
            def keep(gradient: Tensor) -> None:
                numbers = torch.arange(len(output), device=output.device)[:, None]
                examples = [len(tokens) for tokens in self._by_example(next(iter(names.values())), numbers)]
                of_token = torch.repeat_interleave(torch.tensor(examples, device=output.device))
                for call in calls:
                    counts = torch.bincount(of_token[call.tokens], minlength=len(examples)).tolist()
                    first, second = output_gradients(layer, call, gradient)
                    for attribute, name in names.items():
                        pair = (call.states, first) if attribute in FIRST else (call.inner, second)
                        self._parts[name].append(_Part(call.expert, *(vectors.split(counts) for vectors in pair)))

            if self._squaring and output.requires_grad:
                output.register_hook(keep)

        return hook

    def _count(self, name: str, expert: tuple[int, ...], states: Tensor) -> None:
        self.inputs[name][expert] += states.float().square().sum(0)
        self.tokens[name][expert] += len(states)

    def _counted(self, vectors: int) -> Tensor | None:
        """Which of a layer's vectors are tokens and not padding, bool [vectors]; None: all."""
        found = (mask.flatten() for mask in self._padding if mask.numel() == vectors)
        return next(found, None)  # None for a model without padding, or one vector for each example

    def _by_example(self, name: str, states: Tensor) -> Sequence[Tensor]:
        """What a layer was given or gave, by example: [..., features] -> one [tokens, features] for each."""
        tokens = self._padding[0]
        if len(states) == len(tokens):  # [batch, length, features], or one vector for each example
            return list(states.reshape(len(tokens), -1, states.shape[-1]))
        flat = states.flatten(0, -2)
        lengths = tokens.sum(1).tolist()
        together = states.dim() == 2 or len(states) == 1  # and not some of the examples
        if together and len(flat) == sum(lengths):  # sequences end to end
            return flat.split(lengths)
        if together and len(flat) == tokens.numel():
            return list(flat.view(*tokens.shape, -1))
        raise UserError(
            f"{name} is given {len(flat)} vectors for {len(tokens)} examples of {tokens.shape[1]} tokens, so that the "
            "gradients of single examples cannot be told apart: choose another score than fisher."
        )


def _gradient(part: _Part, example: int, like: Tensor, outputs_first: bool) -> Tensor:
    """One example's share of a weight's gradient, in the weight's layout."""
    states, gradients = part.states[example].to(like.dtype), part.gradients[example].to(like.dtype)
    return gradients.T @ states if outputs_first else states.T @ gradients
