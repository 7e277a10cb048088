"""Tensors sharded by rows over processes, as torch's ``fully_shard`` leaves a model's weights.

Each is a DTensor: it has the shape of the whole, and every rank holds some consecutive rows of it, perhaps none. The
functions here also take plain tensors, which are whole on every rank, so that callers need not tell the two apart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard, distribute_tensor


def local(tensor: Tensor) -> Tensor:
    """The rows that this rank holds, not copied: all rows of a plain tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Shards ``tensor`` as ``other`` is sharded, without communication.

    Args:
        tensor: the whole tensor, the same on every rank; a sharded one is returned unchanged.
        other: of the same shape, sharded or plain.
    """
    if not isinstance(other, DTensor) or isinstance(tensor, DTensor):
        return tensor
    rows = tensor.to(other.device)
    return distribute_tensor(rows, other.device_mesh, other.placements, src_data_rank=None)


def with_rows(rows: Tensor, other: Tensor) -> Tensor:
    """Makes a tensor of each rank's ``rows``, sharded as ``other`` is; the inverse of :func:`local`."""
    if not isinstance(other, DTensor):
        return rows
    return DTensor.from_local(
        rows, other.device_mesh, other.placements, run_check=False, shape=other.shape, stride=other.stride()
    )


def whole(tensor: Tensor) -> Tensor:
    """Gathers the rows of all ranks, on every rank; all ranks call it together. A plain tensor is whole already.

    Returns:
        A plain tensor, on the device of ``tensor``.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    # Rows on the CPU can only be sent from the device that the ranks communicate on.
    there = cast(DTensor, tensor.to(tensor.device_mesh.device_type))
    return there.full_tensor().to(tensor.device)


def gathered(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gathers a sharded model's weights, for a file; all ranks call it together.

    Returns:
        The whole weights, on the CPU; on ranks other than 0, which write no files, without those that are sharded.
    """
    found = {}
    for name, tensor in weights.items():
        rows = whole(tensor)
        if rows is tensor or dist.get_rank() == 0:
            found[name] = rows
    return found


@dataclass(frozen=True)
class Ranks:
    """The ranks that tensors are sharded over; for plain tensors, this process alone. Made by :meth:`sharing`.

    Attributes:
        index: this rank's position among them, which is the order of the rows.
        count: how many there are.
        device: the kind of device that they communicate on.
        group: their process group; None where there is only one.
    """

    index: int = 0
    count: int = 1
    device: str = "cpu"
    group: dist.ProcessGroup | None = None

    @classmethod
    def sharing(cls, tensors: Iterable[Tensor]) -> "Ranks":
        """Finds the ranks that ``tensors`` are sharded over.

        Raises:
            ValueError: they are sharded in different ways, or not by rows over one mesh dimension.
        """
        ways = {(t.device_mesh, t.placements) if isinstance(t, DTensor) else None for t in tensors}
        if len(ways) > 1:
            raise ValueError("These tensors are not all sharded in the same way.")
        way = ways.pop()
        if way is None:
            return cls()
        mesh, placements = way
        if placements != (Shard(0),):
            raise ValueError(f"Tensors must be sharded by rows over one mesh dimension: got {placements}.")
        return cls(mesh.get_local_rank(), mesh.size(), mesh.device_type, mesh.get_group())

    def sum(self, tensor: Tensor) -> Tensor:
        """Sums ``tensor``, of one shape and on the weights' device, over the ranks, in place; returns it."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def sums(self, numbers: Sequence[int]) -> list[int]:
        """Sums ``numbers`` elementwise over the ranks."""
        if self.group is None:
            return list(numbers)
        return self._reduced(torch.tensor(numbers, device=self.device), dist.ReduceOp.SUM).tolist()

    def least(self, numbers: Sequence[int]) -> list[int]:
        """Takes the minimum of ``numbers`` elementwise over the ranks."""
        if self.group is None:
            return list(numbers)
        return self._reduced(torch.tensor(numbers, device=self.device), dist.ReduceOp.MIN).tolist()

    def sums_before(self, numbers: Sequence[int]) -> list[int]:
        """Sums what precedes each of ``numbers``: the earlier ones of all ranks, and the same one of lower ranks."""
        by_rank = torch.zeros(self.count, len(numbers), dtype=torch.int64)
        by_rank[self.index] = torch.tensor(numbers)
        in_order = torch.tensor(self.sums(by_rank.T.flatten().tolist()))
        before = in_order.cumsum(0) - in_order
        return before.view(len(numbers), self.count)[:, self.index].tolist()

    def _reduced(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self.group is not None:
            dist.all_reduce(tensor, operation, self.group)
        return tensor
