"""Which weights a sub-network keeps: boolean tensors by parameter name."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lnsub.common.errors import UserError
from lnsub.pruning.sharding import Ranks, local, whole
from lnsub.tickets.packed import mask_problem


class Mask(Mapping[str, Tensor]):
    """One bit per prunable weight: True is kept, False is pruned.

    A read-only mapping from parameter names of the bare base model to bool tensors of the parameters' shapes. It
    iterates in sorted name order, whatever order it was made in. The tensors are not copied: a mask is a value, so
    never write to them. Every operation returns a new mask. The tensors may be sharded (see
    :mod:`lnsub.pruning.sharding`): shapes and counts are then those of the whole, and all ranks call everything
    together.

    Args:
        tensors: bool tensors by parameter name, any shape with at least one element.

    Raises:
        ValueError: there is no entry, or one is not a bool tensor or has no elements; the message names it.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        if not tensors:
            raise ValueError("A mask needs at least one parameter: got none.")
        for name, bits in tensors.items():
            if not isinstance(bits, Tensor):
                raise ValueError(f"The mask of {name!r} must be a bool tensor: got {type(bits).__name__}.")
            if bits.dtype != torch.bool:
                raise ValueError(f"The mask of {name!r} must be a bool tensor: got dtype {bits.dtype}.")
            if bits.numel() == 0:
                raise ValueError(f"The mask of {name!r} has no elements: its shape is {tuple(bits.shape)}.")
        self._tensors = {name: tensors[name] for name in sorted(tensors)}

    @classmethod
    def dense(cls, shapes: Mapping[str, Sequence[int]], device: torch.device | str | None = None) -> "Mask":
        """Returns the mask that keeps every weight of parameters with these shapes."""
        return cls({name: torch.ones(tuple(shape), dtype=torch.bool, device=device) for name, shape in shapes.items()})

    @classmethod
    def from_packed(cls, packed: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]]) -> "Mask":
        """Unpacks what :meth:`to_packed` packed.

        Args:
            packed: one-dimensional uint8 arrays by parameter name, ``ceil(weights / 8)`` bytes each.
            shapes: the shape of each of the same parameters.

        Returns:
            The mask, on the CPU.

        Raises:
            UserError: the names differ, or an array does not fit its shape; the message names the parameter.
        """
        if problem := mask_problem(packed, shapes):
            raise UserError(f"These packed masks do not fit their shapes: {problem}.")
        tensors = {}
        for name, shape in shapes.items():
            bits = np.unpackbits(packed[name], count=math.prod(shape), bitorder="little").view(np.bool_)
            tensors[name] = torch.from_numpy(bits).view(*shape)
        return cls(tensors)

    def to_packed(self) -> dict[str, np.ndarray]:
        """Packs the mask eight weights to a byte, the form in which tickets are saved and compared.

        A sharded mask is gathered, one parameter at a time: all ranks call it together.

        Returns:
            One-dimensional uint8 arrays by parameter name: weight ``i`` in row-major order is bit ``i % 8`` (the
            lowest first) of byte ``i // 8``; the last byte is padded with zeros.
        """
        return {
            name: np.packbits(whole(bits).reshape(-1).cpu().numpy(), bitorder="little")
            for name, bits in self._tensors.items()
        }

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"Mask({len(self)} parameters, {self.kept:,} of {self.total:,} weights kept)"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter, in name order."""
        return {name: tuple(bits.shape) for name, bits in self._tensors.items()}

    @property
    def total(self) -> int:
        """How many weights the mask covers, kept or pruned."""
        return sum(bits.numel() for bits in self._tensors.values())

    @property
    def kept(self) -> int:
        """How many weights are kept."""
        here = torch.stack([torch.count_nonzero(local(bits)) for bits in self._tensors.values()]).sum()
        return int(Ranks.sharing(self._tensors.values()).sum(here))

    @property
    def density(self) -> float:
        """The kept share of all its weights, in [0, 1]."""
        return self.kept / self.total

    @property
    def sparsity(self) -> float:
        """The pruned share of all its weights, in [0, 1]."""
        return (self.total - self.kept) / self.total

    def to(self, device: torch.device | str) -> "Mask":
        """Returns the same mask on ``device``; tensors already there are shared, not copied."""
        return Mask({name: bits.to(device) for name, bits in self._tensors.items()})

    def restricted(self, names: Iterable[str]) -> "Mask":
        """Returns the mask of only these parameters, of which there must be at least one.

        Raises:
            UserError: the mask has no such parameter, or ``names`` is empty.
        """
        wanted = set(names)
        if not wanted:
            raise UserError("No parameter is left: a mask needs at least one.")
        if unknown := wanted - self._tensors.keys():
            raise UserError(f"The mask has no parameter {min(unknown)!r}: it has {len(self)} others.")
        return Mask({name: self._tensors[name] for name in wanted})

    def __and__(self, other: "Mask") -> "Mask":
        """The intersection: kept in both. Raises UserError where names or shapes differ."""
        return self._combined(other, torch.bitwise_and)

    def __or__(self, other: "Mask") -> "Mask":
        """The union: kept in either. Raises UserError where names or shapes differ."""
        return self._combined(other, torch.bitwise_or)

    def __sub__(self, other: "Mask") -> "Mask":
        """The difference: kept here and not in ``other``. Raises UserError where names or shapes differ."""
        return self._combined(other, torch.gt)

    def is_subset_of(self, other: "Mask") -> bool:
        """Whether every weight kept here is kept in ``other``. Raises UserError where names or shapes differ."""
        return (self - other).kept == 0

    def equal(self, other: "Mask") -> bool:
        """Whether both keep the same weights of the same parameters; masks of other names or shapes are not equal."""
        return self.shapes == other.shapes and self._combined(other, torch.bitwise_xor).kept == 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.equal(other)

    def _combined(self, other: "Mask", operation: Callable[[Tensor, Tensor], Tensor]) -> "Mask":
        require_same_shapes("the first mask", self, "the second mask", other)
        return Mask({name: operation(bits, other[name]) for name, bits in self._tensors.items()})


def shuffled(mask: Mask, seed: int) -> Mask:
    """Moves the kept weights of each parameter to random places.

    The control of Frankle et al. (2021, "Pruning Neural Networks at Initialization: Why Are We Missing the Mark?",
    https://arxiv.org/abs/2009.08576): the density of every matrix stays, so a ticket that does better than its shuffled
    self owes it to *which* weights it keeps.

    Args:
        mask: what to shuffle.
        seed: same seed, same places: each parameter has its own stream, which depends on the seed and its name alone.

    Returns:
        A mask that keeps as many weights of each parameter as ``mask``, on the same device.
    """
    tensors = {}
    for name, bits in mask.items():
        # Drawn on the CPU, so that the places do not depend on the device.
        order = torch.randperm(bits.numel(), generator=generator_for("shuffled", seed, name))
        tensors[name] = bits.reshape(-1)[order.to(bits.device)].view(bits.shape)
    return Mask(tensors)


def generator_for(purpose: str, seed: int, name: str) -> torch.Generator:
    """Makes the stream of random numbers of one parameter.

    It depends on the three arguments alone: not on the order of the parameters, the rank, the process (as ``hash()``
    does) or what was drawn before.

    Args:
        purpose: what the numbers are for, so that two uses of one seed are independent.
        seed: the user's seed.
        name: the parameter's name.

    Returns:
        A generator on the CPU.
    """
    digest = hashlib.sha256(f"{purpose}:{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))


def require_same_shapes(what: str, first: Mapping[str, Tensor], other_what: str, second: Mapping[str, Tensor]) -> None:
    """Refuses two mappings of tensors that are not about the same parameters.

    Args:
        what: what ``first`` is, for the message: ``"the scores"``.
        first: tensors by parameter name.
        other_what: what ``second`` is.
        second: tensors by parameter name.

    Raises:
        UserError: a name is in one only, or a shape differs; the message names the parameter.
    """
    _require_same_names(what, first, other_what, second)
    for name in first:
        if first[name].shape != second[name].shape:
            raise UserError(
                f"The shapes of {name!r} differ: {tuple(first[name].shape)} in {what}, "
                f"{tuple(second[name].shape)} in {other_what}."
            )


def _require_same_names(what: str, first: Iterable[str], other_what: str, second: Iterable[str]) -> None:
    ours, theirs = set(first), set(second)
    for here, there, only in ((what, other_what, ours - theirs), (other_what, what, theirs - ours)):
        if only:
            count = f"{len(only)} parameters are" if len(only) > 1 else "1 parameter is"
            raise UserError(f"The parameters differ: {count} in {here} but not in {there}, such as {min(only)!r}.")
