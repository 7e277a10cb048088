"""Units: the heads, neurons or rows that a mask keeps or prunes as a whole, and which weights each consists of.

A unit's weights are slices of several parameters. A neuron of a feed-forward block is a row of the matrix that computes
it (two, where there is a gate) and a column of the one that reads it; an attention head is its rows of query, key and
value, and its columns of the output matrix. Where several query heads share keys and values (grouped-query attention),
they are one unit. A row is an output feature of one matrix.

:mod:`lnsub.models.unit_maps` finds them in a model; a ticket carries them, so that it can be compared without one.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from lnsub.common.errors import UserError
from lnsub.common.plain_data import UnreadableError, parse_json
from lnsub.tickets.layout import LONGEST_NAME, MOST_TENSORS

Granularity = Literal["weight", "neuron", "head", "row"]
"""What a mask keeps or prunes as a whole."""

UNITS: tuple[str, ...] = get_args(Granularity)[1:]
"""The granularities other than single weights."""

_MOST = 2**31


@dataclass(frozen=True)
class Member:
    """What a group's units own of one parameter.

    Attributes:
        parameter: its name in the bare base model.
        axis: the axis along which the units lie.
        pieces: (start, length, width) of parts of that axis: in each, unit 0 has the first ``width`` positions, unit 1
            the next, and so on; after the last unit it begins again with unit 0.
        expert: the index on axis 0 of stacked experts; None: the parameter is not stacked.
    """

    parameter: str
    axis: int
    pieces: tuple[tuple[int, int, int], ...]
    expert: int | None = None

    def positions(self, count: int, length: int) -> np.ndarray:
        """The unit that each position of the axis belongs to: int64 [length], -1 for none."""
        found = np.full(length, -1, np.int64)
        for start, size, width in self.pieces:
            found[start : start + size] = np.arange(size) // width % count
        return found


@dataclass(frozen=True)
class Group:
    """Units of one kind in one place of a model: the heads of a layer, the neurons of a feed-forward block.

    Attributes:
        name: where they are, such as ``encoder.layer.3``; unique.
        count: how many there are.
        members: the parameters that they consist of.
    """

    name: str
    count: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Units:
    """All units of a granularity in a model.

    Attributes:
        granularity: what they are.
        groups: where they are, in name order.
    """

    granularity: str
    groups: tuple[Group, ...]

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that units consist of, in name order; masks of this granularity cover these alone."""
        return tuple(sorted({member.parameter for group in self.groups for member in group.members}))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The number of units of each group, by name: the shapes of a mask of units."""
        return {group.name: (group.count,) for group in self.groups}

    def sizes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
        """How many weights each unit has, by group: int64 [count]."""
        found = {}
        for group in self.groups:
            total = np.zeros(group.count, np.int64)
            for member in group.members:
                shape = shapes[member.parameter]
                at = member.positions(group.count, shape[member.axis])
                across = math.prod(shape) // shape[member.axis] // (1 if member.expert is None else shape[0])
                total += across * np.bincount(at[at >= 0], minlength=group.count)
            found[group.name] = total
        return found

    def sums(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Adds up the values of each unit's weights: float64 by group, [count]."""
        found = {}
        for group in self.groups:
            total = np.zeros(group.count)
            for member in group.members:
                array, axis = _slices(values[member.parameter], member)
                others = tuple(a for a in range(array.ndim) if a != axis)
                along = array.sum(axis=others, dtype=np.float64)
                at = member.positions(group.count, len(along))
                total += np.bincount(at[at >= 0], along[at >= 0], minlength=group.count)
            found[group.name] = total
        return found

    def kept(self, masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Reads which units a mask keeps.

        Args:
            masks: boolean arrays by parameter name.

        Returns:
            Booleans by group, [count].

        Raises:
            UserError: a unit is neither kept nor pruned as a whole.
        """
        found = {}
        for group in self.groups:
            any_kept, all_kept = np.zeros(group.count, bool), np.ones(group.count, bool)
            for member in group.members:
                bits, axis = _slices(masks[member.parameter], member)
                others = tuple(a for a in range(bits.ndim) if a != axis)
                at = member.positions(group.count, bits.shape[axis])
                inside = at >= 0
                np.logical_or.at(any_kept, at[inside], bits.any(axis=others)[inside])
                np.logical_and.at(all_kept, at[inside], bits.all(axis=others)[inside])
            if (odd := np.flatnonzero(any_kept != all_kept)).size:
                raise UserError(
                    f"{self.granularity} {odd[0]} of {group.name} is neither kept nor pruned as a whole, so this is no "
                    f"mask of {self.granularity}s"
                )
            found[group.name] = any_kept
        return found

    def expanded(self, kept: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
        """Makes the mask of all weights of the kept units; the inverse of :meth:`kept`.

        Weights of :attr:`parameters` that belong to no unit are kept.

        Args:
            kept: booleans by group, [count].
            shapes: of the parameters, by name.

        Returns:
            Boolean arrays by parameter name.
        """
        masks = {name: np.ones(tuple(shapes[name]), bool) for name in self.parameters}
        for group in self.groups:
            for member in group.members:
                bits, axis = _slices(masks[member.parameter], member)
                at = member.positions(group.count, bits.shape[axis])
                dropped = np.flatnonzero((at >= 0) & ~kept[group.name][at])
                bits[(slice(None),) * axis + (dropped,)] = False
        return masks

    def to_json(self) -> str:
        """Writes the units for a ticket's metadata."""
        groups = {
            group.name: [
                group.count,
                [[m.parameter, m.axis, list(map(list, m.pieces)), m.expert] for m in group.members],
            ]
            for group in self.groups
        }
        return json.dumps({"granularity": self.granularity, "groups": groups}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, shapes: Mapping[str, Sequence[int]]) -> "Units":
        """Reads what :meth:`to_json` wrote, and checks that it fits the parameters of a mask.

        Args:
            text: from a ticket's metadata.
            shapes: of the ticket's parameters, by name.

        Raises:
            ValueError: it does not; the message says why, as the end of a sentence.
        """
        try:
            read = parse_json(text)
            groups = tuple(
                Group(
                    name,
                    count,
                    tuple(Member(p, axis, tuple(map(tuple, pieces)), expert) for p, axis, pieces, expert in m),
                )
                for name, (count, m) in sorted(read["groups"].items())
            )
            units = cls(read["granularity"], groups)
        except (UnreadableError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError("its units are not described as lnsub does") from error
        if units.granularity not in UNITS or not 0 < len(groups) <= MOST_TENSORS:
            raise ValueError("its units are of no granularity that this lnsub knows")
        for group in groups:
            if not _whole(group.count, 1) or not group.members or not 0 < len(group.name) <= LONGEST_NAME:
                raise ValueError(f"its units in {group.name[:40]!r} are not counted")
            for member in group.members:
                if problem := _problem(member, group.count, shapes):
                    raise ValueError(f"its units in {group.name[:40]!r} {problem}")
        return units


def _slices(array: Any, member: Member) -> tuple[Any, int]:
    """A member's expert of its parameter, as a view, and the axis of that along which its units lie."""
    return (array, member.axis) if member.expert is None else (array[member.expert], member.axis - 1)


def _problem(member: Member, count: int, shapes: Mapping[str, Sequence[int]]) -> str:
    """What is wrong with a member; empty where nothing is."""
    shape = shapes.get(member.parameter) if isinstance(member.parameter, str) else None
    if shape is None:
        return "are of a parameter that it has no mask of"
    stacked = member.expert is not None
    if not _whole(member.axis, int(stacked)) or member.axis >= len(shape):
        return f"have no axis in {member.parameter}"
    if count > shape[member.axis]:
        return f"are more than {member.parameter} has room for"
    if member.expert is not None and (not _whole(member.expert, 0) or member.expert >= shape[0]):
        return f"are of an expert that {member.parameter} lacks"
    for piece in member.pieces:
        if len(piece) != 3 or not all(map(_whole, piece, (0, 1, 1))) or piece[0] + piece[1] > shape[member.axis]:
            return f"go beyond {member.parameter}"
    return ""


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and least <= value < _MOST
