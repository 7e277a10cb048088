"""Inherited masks: the magnitude masks of theta_0 that a base model's checkpoint gives without any training.

What they are for is said in :mod:`lnsub.departure`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel

from lnsub.errors import UserError
from lnsub.masks import Mask
from lnsub.provenance import INHERITED, Provenance
from lnsub.prune import select
from lnsub.scores import ScoreInputs, score
from lnsub.subnet import Subnet
from lnsub.tasks.pretrained import load_model
from lnsub.tickets import Ticket, ticket_filename

SCORE = "magnitude_init"
"""The score of inherited masks."""


class Theta0(Mapping[str, np.ndarray]):
    """The prunable weights that a base model's checkpoint holds: float32 arrays by name in the bare base model.

    A pooler that the checkpoint lacks is not among them: the library would draw it at random.

    Args:
        base_model: a Hub id or a folder with a Hugging Face checkpoint.
        fingerprint: the model's base fingerprint.
        weights: the weights by name; the arrays are views of them.
    """

    def __init__(self, base_model: str, fingerprint: str, weights: Mapping[str, Tensor]) -> None:
        self.base_model = base_model
        self.fingerprint = fingerprint
        self.weights = dict(sorted(weights.items()))

    @classmethod
    def load(cls, base_model: str) -> "Theta0":
        """Reads a checkpoint.

        Args:
            base_model: a Hub id or a folder with a Hugging Face checkpoint.

        Raises:
            UserError: there is no such model, or nothing of it can be pruned.
        """
        with torch.random.fork_rng(devices=[]):  # what the checkpoint lacks is drawn, and thrown away here
            model, missing = load_model(AutoModel, base_model, init="pretrained", attention="eager")
        subnet = Subnet(model)
        weights = {name: weight.detach() for name, weight in subnet.weights.items() if name not in missing}
        return cls(base_model, subnet.fingerprint(), weights)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.weights[name].numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def inherited_masks(theta_0: Theta0, tickets: Sequence[Ticket], ready: Sequence[Ticket] = ()) -> list[Ticket]:
    """Makes the inherited masks that tickets are to be held against.

    There is one for each sparsity, scope and set of parameters: a pooler among the parameters moves the threshold of
    all others. Parameters that the checkpoint lacks are left out.

    Args:
        theta_0: the base model's weights.
        tickets: tickets of this base model, of any sparsities and scopes.
        ready: inherited masks that are there already; those that serve a ticket are not made again.

    Returns:
        The masks of ``ready`` and those made, as tickets of task and language ``inherited`` and score
        ``magnitude_init``: what IMP with this score finds at the same sparsity and scope.

    Raises:
        UserError: a ticket is of another base model, of a scope that weights cannot be ranked by (``mixed``), or of
            sparsity 1.
    """
    found = {_key(mask.provenance, mask.shapes): mask for mask in ready}
    for ticket in tickets:
        ticket.check_base(theta_0.fingerprint, theta_0.base_model)
        shapes = {name: shape for name, shape in ticket.shapes.items() if name in theta_0}
        if not shapes:
            raise UserError(f"ticket {ticket.where} has no parameter that the checkpoint of {theta_0.base_model} has")
        key = _key(ticket.provenance, shapes)
        if key not in found:
            found[key] = _inherited_mask(theta_0, list(shapes), ticket.provenance)
    return list(found.values())


def save_inherited(masks: Sequence[Ticket], folder: str | Path) -> list[Path]:
    """Writes inherited masks to a folder, each named for its scope, its number of matrices and its sparsity.

    Args:
        masks: inherited masks.
        folder: where to; made where it is missing.

    Returns:
        The files.

    Raises:
        UserError: one cannot be written.
    """
    names = [
        f"inherited-{m.provenance.scope}-{len(m.masks)}matrices-{ticket_filename(m.provenance.sparsity)}" for m in masks
    ]
    return [mask.save(Path(folder) / name) for mask, name in zip(masks, names, strict=True)]


def _key(provenance: Provenance, names: Mapping[str, object]) -> tuple[float, str, frozenset[str]]:
    return round(provenance.sparsity, 6), provenance.scope, frozenset(names)


def _inherited_mask(theta_0: Theta0, names: list[str], served: Provenance) -> Ticket:
    """The magnitude mask of some parameters of theta_0, at the sparsity and scope of the ticket that it serves."""
    weights = {name: theta_0.weights[name] for name in names}
    dense = Mask.dense({name: weight.shape for name, weight in weights.items()})
    mask = select(score(SCORE, ScoreInputs(weights=weights, init=weights)), dense, served.sparsity, served.scope)
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
    )
    return Ticket(mask.to_packed(), mask.shapes, provenance)
