"""The smaller dense model that a ticket of neurons or heads stands for.

Pruned units are cut out of the matrices, so that the model is smaller and faster without any sparse arithmetic, and its
outputs are those of the masked model. A configuration has one size for all layers. Where layers keep different numbers
of units, all get as many as the layer that keeps most (of neurons, a multiple of 8), and the rest are zeros.
"""

import copy
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lnsub.common.errors import UserError
from lnsub.models.prunable import prunable
from lnsub.models.subnet import Subnet
from lnsub.tickets.parameters import stack_of
from lnsub.tickets.ticket import Ticket
from lnsub.tickets.units import Group, Member, Units

_WIDTHS = ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "hidden_dim")
"""What configurations call the number of neurons of a feed-forward block."""

_MULTIPLE = 8
"""What the number of neurons is rounded up to: matrix kernels want rows of whole 16 bytes, in bfloat16 too."""


@dataclass(frozen=True)
class Shrunk:
    """A smaller model.

    Attributes:
        model: the model, with weights of its own.
        granularity: what was cut out.
        sizes: the new numbers of units by the configuration's name for them, each with the old one.
        parameters: how many parameters it has, and how many the original has.
    """

    model: PreTrainedModel
    granularity: str
    sizes: Mapping[str, tuple[int, int]]
    parameters: tuple[int, int]


@torch.no_grad()
def shrink(model: PreTrainedModel, subnet: Subnet, ticket: Ticket) -> Shrunk:
    """Cuts a ticket's pruned units out of a model.

    Args:
        model: the model under the ticket's mask.
        subnet: its sub-network.
        ticket: a ticket of granularity ``neuron`` or ``head``.

    Raises:
        UserError: the ticket is of another granularity; every layer keeps all of its units in some place; or the
            configuration of this type of model cannot say that it has fewer (BERT's width of a head, for example, is
            the hidden width over the number of heads).
    """
    units = ticket.units
    if units is None or units.granularity not in {"neuron", "head"}:
        raise UserError(
            f"ticket {ticket.where} is of granularity {ticket.provenance.granularity}: only a ticket of neurons or "
            "heads stands for a smaller dense model"
        )
    config = copy.deepcopy(model.config)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    kept = units.kept(ticket.bits())
    sizes = _sizes(units, kept, text)
    for name, (new, _) in sizes.items():
        setattr(text, name, new)
    if units.granularity == "head":
        _set_heads(text, units, subnet, sizes)
    places = {
        group.name: _Places(np.flatnonzero(kept[group.name]), sizes[_setting(group, text, units)][0])
        for group in units.groups
    }
    state = _cut(model, subnet, units, places)
    smaller = _made(model, config, state, ticket)
    counts = (sum(p.numel() for p in smaller.parameters()), sum(p.numel() for p in model.parameters()))
    if counts[0] >= counts[1]:
        raise UserError(
            f"some layer keeps all of its {units.granularity}s under ticket {ticket.where}, so no smaller model stands "
            "for it: prune with scope layer, which takes as many from each"
        )
    return Shrunk(smaller, units.granularity, sizes, counts)


@dataclass(frozen=True)
class _Places:
    """Which units a group keeps, and how many it has places for."""

    kept: np.ndarray
    room: int

    def positions(self, member: Member, count: int) -> np.ndarray:
        """For each new position along a member's axis, the old one, or -1 for a zero."""
        found = []
        for start, length, width in member.pieces:
            for first in range(start, start + length, count * width):
                old = first + self.kept[:, None] * width + np.arange(width)
                found.append(np.pad(old.reshape(-1), (0, (self.room - len(self.kept)) * width), constant_values=-1))
        return np.concatenate(found)


def _sizes(units: Units, kept: Mapping[str, np.ndarray], config: Any) -> dict[str, tuple[int, int]]:
    """The new and the old number of units by setting: the most that any of its groups keeps."""
    multiple = _MULTIPLE if units.granularity == "neuron" else 1
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for group in units.groups:
        found[_setting(group, config, units)].append((max(1, int(kept[group.name].sum())), group.count))
    most = {name: (max(new for new, _ in sizes), max(old for _, old in sizes)) for name, sizes in found.items()}
    return {name: (min(-(-new // multiple) * multiple, old), old) for name, (new, old) in most.items()}


def _setting(group: Group, config: Any, units: Units) -> str:
    """The setting of a configuration that says how many units a group has."""
    known = config.to_dict()
    if units.granularity == "head":
        own = f"{stack_of(group.name)}_attention_heads"
        return (
            "num_key_value_heads" if "num_key_value_heads" in known else own if own in known else "num_attention_heads"
        )
    if any(member.expert is not None for member in group.members) and "moe_intermediate_size" in known:
        return "moe_intermediate_size"
    own = f"{stack_of(group.name)}_ffn_dim"
    return next((name for name in (own, *_WIDTHS) if name in known), "intermediate_size")


def _set_heads(config: Any, units: Units, subnet: Subnet, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Sets the number of query heads beside that of keys and values, and the width of a head where it can be set."""
    if "num_key_value_heads" in sizes:
        new, old = sizes["num_key_value_heads"]
        queries = config.num_attention_heads
        output = units.groups[0].members[0]  # the output matrix comes first; its input features are the heads'
        config.head_dim = subnet.shapes[output.parameter][output.axis] // queries
        config.num_attention_heads = queries // old * new


def _cut(model: PreTrainedModel, subnet: Subnet, units: Units, places: Mapping[str, _Places]) -> dict[str, Tensor]:
    """The model's state with the pruned units cut out of weights and biases."""
    state = {name: tensor.detach() for name, tensor in subnet.state().items()}
    base = {id(tensor): name for name, tensor in subnet.state(keep_vars=True).items()}
    entries = prunable(model)
    stacked: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for group in units.groups:
        for member in group.members:
            entry, name = entries[member.parameter], base[id(entries[member.parameter].parameter)]
            at = places[group.name].positions(member, group.count)
            if member.expert is not None:
                stacked[name][member.expert] = _taken(entry.parameter[member.expert], member.axis - 1, at)
                continue
            state[name] = _taken(state[name], member.axis, at)
            bias = getattr(entry.module, "bias", None)
            if isinstance(bias, Tensor) and member.axis == entry.outputs:
                state[base[id(bias)]] = _taken(bias.detach(), 0, at)
    for name, experts in stacked.items():
        state[name] = torch.stack([experts[number] for number in sorted(experts)])
    return state


def _taken(tensor: Tensor, axis: int, positions: np.ndarray) -> Tensor:
    """The entries at these positions of an axis, and zeros at -1."""
    at = torch.from_numpy(positions).to(tensor.device)
    found = tensor.index_select(axis, at.clamp(min=0))
    shape = [1] * tensor.dim()
    shape[axis] = len(at)
    return found * (at >= 0).view(shape).to(found.dtype)


def _made(model: PreTrainedModel, config: Any, state: Mapping[str, Tensor], ticket: Ticket) -> PreTrainedModel:
    """A model of the smaller configuration with these weights."""
    refused = UserError(
        f"a {model.config.model_type} model's configuration cannot say what is left of ticket {ticket.where}, so no "
        f"smaller model can be written: export it with its zeros"
    )
    try:
        with torch.device("meta"):
            smaller: PreTrainedModel = type(model)(config)
    except (ValueError, RuntimeError) as error:
        raise refused from error
    shapes = {name: tensor.shape for name, tensor in smaller.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in state.items()}:
        raise refused
    with torch.random.fork_rng(devices=[]):
        smaller = type(model)(config)
    smaller.load_state_dict(dict(state))
    return smaller.to(model.dtype).eval()
