"""Inherited masks: the magnitude masks of theta_0 that a base model's checkpoint gives without any training.

:mod:`lnsub.analysis.overlap.departure` says what they are for.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel

from lnsub.common.errors import UserError
from lnsub.common.files import check_output
from lnsub.models.pretrained import load_model
from lnsub.models.prunable import input_axes
from lnsub.models.subnet import Subnet
from lnsub.pruning.granularity import prune
from lnsub.pruning.masks import Mask
from lnsub.pruning.scores import ScoreInputs, score
from lnsub.runs.folder import ticket_filename
from lnsub.tickets.file_format import is_ticket
from lnsub.tickets.inherited import served_by
from lnsub.tickets.provenance import INHERITED, Provenance
from lnsub.tickets.ticket import Ticket

SCORE = "magnitude_init"
"""The score of inherited masks."""


class Theta0(Mapping[str, np.ndarray]):
    """The prunable weights that a base model's checkpoint holds: float32 arrays by name in the bare base model.

    Args:
        base_model: a Hub id or a folder with a Hugging Face checkpoint.
        fingerprint: the model's base fingerprint.
        weights: the weights by name; the mapping's arrays are views of them.
        drawn: prunable weights that the checkpoint lacks, such as a pooler, drawn as the library does; not in the
            mapping.
        inputs: the axis of each weight's input features; without it, the last one.
    """

    def __init__(
        self,
        base_model: str,
        fingerprint: str,
        weights: Mapping[str, Tensor],
        drawn: Mapping[str, Tensor],
        inputs: Mapping[str, int] | None = None,
    ) -> None:
        self.base_model = base_model
        self.fingerprint = fingerprint
        self.weights = dict(sorted(weights.items()))
        self.drawn = dict(sorted(drawn.items()))
        self.inputs = inputs

    @classmethod
    def load(cls, base_model: str) -> "Theta0":
        """Reads a checkpoint.

        Args:
            base_model: a Hub id or a folder with a Hugging Face checkpoint.

        Raises:
            UserError: there is no such model, or nothing of it can be pruned.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, missing = load_model(AutoModel, base_model, init="pretrained", attention="eager")
        subnet = Subnet(model)
        weights = {name: weight.detach() for name, weight in subnet.weights.items()}
        drawn = {name: weights.pop(name) for name in missing & weights.keys()}
        return cls(base_model, subnet.fingerprint(), weights, drawn, input_axes(model))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.weights[name].numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def inherited_masks(theta_0: Theta0, tickets: Sequence[Ticket], ready: Sequence[Ticket] = ()) -> list[Ticket]:
    """Makes the inherited masks that tickets are compared with.

    There is one for each sparsity, scope, granularity and set of parameters, because a pooler among the parameters
    moves the threshold of all others. A pooler that the checkpoint lacks is ranked with the rest, as in the ticket's
    run, but is not in the mask: its values were drawn at random there and here, so nothing of it is inherited. (Their
    size is what moves the threshold, and that does not depend on the seed.)

    Args:
        theta_0: the base model's weights.
        tickets: tickets of this base model, of any sparsities, scopes and granularities.
        ready: existing inherited masks; those that serve a ticket are not made again.

    Returns:
        The masks of ``ready`` and those made: tickets of task and language ``inherited`` and score ``magnitude_init``,
        of what IMP with this score finds at this sparsity and scope. ``sources`` is JSON and names as ``left_out`` the
        parameters that were ranked but are not in the mask; it is empty where there are none.

    Raises:
        UserError: a ticket is of another base model, of a scope by which weights cannot be ranked (``mixed``), or of
            sparsity 1.
    """
    found = {_key(mask.provenance, served_by(mask)): mask for mask in ready}
    for ticket in tickets:
        ticket.check_base(theta_0.fingerprint, theta_0.base_model)
        key = _key(ticket.provenance, ticket.masks)
        if key not in found:
            found[key] = _inherited_mask(theta_0, ticket)
    return list(found.values())


def save_inherited(masks: Sequence[Ticket], folder: str | Path) -> list[Path]:
    """Writes inherited masks to a folder, each named for its scope, the matrices that were ranked and its sparsity.

    Args:
        masks: inherited masks.
        folder: where to; made where it is missing.

    Returns:
        The files.

    Raises:
        UserError: one cannot be written, or another file has its name.
    """
    names = [
        f"inherited-{_ranked(m.provenance)}-{len(served_by(m))}matrices-{ticket_filename(m.provenance.sparsity)}"
        for m in masks
    ]
    paths = [Path(folder) / name for name in names]
    for path in paths:
        check_output(path, "a ticket", is_ticket)
    return [mask.save(path) for mask, path in zip(masks, paths, strict=True)]


def _ranked(provenance: Provenance) -> str:
    """What was ranked together and, where it is no single weight, what a unit is."""
    return provenance.scope + ("" if provenance.granularity == "weight" else f"-{provenance.granularity}s")


def _key(provenance: Provenance, names: Iterable[str]) -> tuple[float, str, str, frozenset[str]]:
    return round(provenance.sparsity, 6), provenance.scope, provenance.units, frozenset(names)


def _inherited_mask(theta_0: Theta0, ticket: Ticket) -> Ticket:
    """The magnitude mask of theta_0 at a ticket's sparsity and scope, ranked over the ticket's parameters."""
    every = theta_0.weights | theta_0.drawn
    unknown = ticket.masks.keys() - every.keys()
    kept = theta_0.weights.keys() & ticket.masks.keys()
    if unknown or not kept:
        raise UserError(
            f"ticket {ticket.where} has {min(unknown or ticket.masks)}, which is not in the checkpoint of "
            f"{theta_0.base_model}: use the base model that the ticket was found in"
        )
    served = ticket.provenance
    weights = {name: every[name] for name in ticket.masks}
    dense = Mask.dense({name: weight.shape for name, weight in weights.items()})
    scores = score(SCORE, ScoreInputs(weights=weights, init=weights))
    mask = prune(scores, dense, served.sparsity, served.scope, ticket.units, theta_0.inputs).restricted(kept)
    left_out = sorted(ticket.masks.keys() - kept)
    provenance = Provenance(
        base_model=theta_0.base_model,
        base_fingerprint=theta_0.fingerprint,
        task=INHERITED,
        language=INHERITED,
        seed=-1,
        round=-1,
        sparsity=served.sparsity,
        score=SCORE,
        scope=served.scope,
        schedule="one-shot",
        sources=json.dumps({"left_out": left_out}) if left_out else "",
        granularity=served.granularity,
        units=served.units,
    )
    return Ticket(mask.to_packed(), mask.shapes, provenance)
