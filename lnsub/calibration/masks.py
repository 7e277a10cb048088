"""Masks by a score, made piece by piece: scores of the whole model are held only where all are ranked together."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lnsub.pruning.granularity import select_units
from lnsub.pruning.masks import Mask
from lnsub.pruning.scopes import SCOPES
from lnsub.pruning.scores import ScoreInputs, score
from lnsub.pruning.selection import select
from lnsub.tickets.units import Units

Packed = dict[str, np.ndarray]


def packed_masks(
    name: str, inputs: ScoreInputs, sparsities: Sequence[float], scope: str, units: Units | None, device: torch.device
) -> dict[float, Packed]:
    """Prunes a dense model once to each of several sparsities.

    Args:
        name: a key of :data:`lnsub.pruning.scores.SCORES`.
        inputs: what the score is computed from; of a granularity, masks are of its units' parameters alone.
        sparsities: in (0, 1).
        scope: a key of :data:`~lnsub.pruning.scopes.SCOPES`.
        units: what is kept or pruned as a whole; None: single weights.
        device: where scores are computed and ranked.

    Returns:
        The masks by sparsity, packed, by parameter name.

    Raises:
        UserError: scores cannot be ranked.
    """
    scores = _Scores(name, inputs, device)
    if units is not None:
        dense = Mask.dense({parameter: inputs.weights[parameter].shape for parameter in units.parameters}, device)
        return {s: select_units(scores, dense, s, scope, units).to_packed() for s in sparsities}
    groups: dict[str, list[str]] = {}
    for parameter in sorted(inputs.weights):
        groups.setdefault(SCOPES[scope](parameter), []).append(parameter)
    packed: dict[float, Packed] = {s: {} for s in sparsities}
    for parameters in groups.values():
        group = {parameter: scores[parameter] for parameter in parameters}
        dense = Mask.dense({parameter: tensor.shape for parameter, tensor in group.items()}, device)
        for sparsity, found in packed.items():
            found |= select(group, dense, sparsity, scope, inputs.inputs).to_packed()
    return packed


class _Scores(Mapping[str, Tensor]):
    """Scores by parameter name, each computed when it is asked for."""

    def __init__(self, name: str, inputs: ScoreInputs, device: torch.device) -> None:
        self._name = name
        self._inputs = inputs
        self._device = device

    def __getitem__(self, parameter: str) -> Tensor:
        given = self._inputs
        weight = {parameter: given.weights[parameter].detach().to(self._device)}
        one = ScoreInputs(
            weight, given.init, given.gradients, given.squared_gradients, given.activations, given.inputs, given.seed
        )
        return score(self._name, one)[parameter]

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs.weights)

    def __len__(self) -> int:
        return len(self._inputs.weights)
