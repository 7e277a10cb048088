"""What each expert of a mixture is given: its inputs are not those of a layer with a hook of its own.

transformers stacks a layer's experts in two parameters, [experts, out, in] (or [experts, in, out]), and computes them
together: grouped, batched or one after the other. What one expert was given is worked out from what the whole layer was
given, in the same way for all of these.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from lnsub.common.errors import UserError
from lnsub.models.transformers_internals import expert_activation, knows_experts

FIRST = ("gate_up_proj", "up_proj")
"""The names of the parameter that hidden states meet first; the other is ``down_proj``."""


class Routed(NamedTuple):
    """What one expert did in one call of its layer.

    Attributes:
        expert: its number.
        tokens: which of the layer's tokens it was given, int64 [n], in order.
        states: the hidden states that it was given, [n, hidden].
        projected: the first projection, [n, projected features].
        inner: what ``down_proj`` was given, [n, intermediate].
        share: its weight in each token's output, [n, 1].
    """

    expert: int
    tokens: Tensor
    states: Tensor
    projected: Tensor
    inner: Tensor
    share: Tensor


def refuse_unknown_experts(name: str, module: nn.Module, attribute: str) -> None:
    """Raises a :class:`UserError` where what stacked weights are given cannot be worked out.

    Args:
        name: the parameter's name, for the message.
        module: its layer.
        attribute: its name there.
    """
    if attribute not in (*FIRST, "down_proj") or not knows_experts(module):
        raise UserError(
            f"What {name} is given cannot be told apart by expert in a {type(module).__name__}: choose a score that"
            " reads only weights and gradients, such as magnitude or taylor."
        )


def routed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Routed]:
    """Works out what each expert was given in a call, without gradients; experts without any token are left out.

    Args:
        module: a layer of stacked experts.
        args: the call's arguments: hidden states [tokens, hidden], the experts of each token and their weights, both
            [tokens, experts a token].
        kwargs: those that were given by name.
    """
    given = dict(zip(("hidden_states", "top_k_index", "top_k_weights"), args, strict=False)) | kwargs
    layer: Any = module
    first = cast(Tensor, next(getattr(layer, name) for name in FIRST if hasattr(layer, name))).detach()
    states, index, shares = (given[name].detach() for name in ("hidden_states", "top_k_index", "top_k_weights"))
    for expert in index.unique().tolist():
        if expert >= len(first):
            continue  # experts of another process
        tokens, place = (index == expert).nonzero(as_tuple=True)
        chosen = states[tokens].to(first.dtype)
        with torch.no_grad():
            projected = project(chosen, first[expert], transposed=layer.is_transposed)
            inner = expert_activation(module, projected)
        yield Routed(expert, tokens, chosen, projected, inner, shares[tokens, place, None])


def project(states: Tensor, weight: Tensor, *, transposed: bool) -> Tensor:
    """A linear layer: [n, in] -> [n, out] by a weight [out, in], or [in, out] where it is transposed."""
    return states @ weight if transposed else F.linear(states, weight)


def output_gradients(module: nn.Module, call: Routed, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Works out the gradients of an expert's two projections.

    Args:
        module: the layer.
        call: what the expert did in it.
        gradient: the gradient of the layer's output, [tokens, hidden].

    Returns:
        The gradient of the first projection's output, [n, projected features], and of ``down_proj``'s, [n, hidden].
    """
    layer: Any = module
    down = layer.down_proj.detach()[call.expert]
    of_output = gradient[call.tokens].to(down.dtype) * call.share.to(down.dtype)
    of_inner = project(of_output, down, transposed=not layer.is_transposed)
    with torch.enable_grad():
        projected = call.projected.requires_grad_()
        inner = expert_activation(module, projected)
    (of_projected,) = torch.autograd.grad(inner, projected, of_inner)
    return of_projected, of_output
