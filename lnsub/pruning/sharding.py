"""Tensors whose rows are shared out among processes, as torch's ``fully_shard`` leaves a model's weights.

Each is a DTensor: it has the shape of the whole, and every rank holds some consecutive rows of it, perhaps none. The
functions here take plain tensors too, which are whole on every rank, so that callers need not tell the two apart.
"""

from collections.abc import Iterable, Sequence
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
    """Shares ``tensor`` out as ``other`` is, without communication.

    Args:
        tensor: the whole tensor, the same on every rank; or one that is shared out already, which is returned as it is.
        other: of the same shape, shared out or plain.
    """
    if not isinstance(other, DTensor) or isinstance(tensor, DTensor):
        return tensor
    rows = tensor.to(other.device)
    return distribute_tensor(rows, other.device_mesh, other.placements, src_data_rank=None)


def with_rows(rows: Tensor, other: Tensor) -> Tensor:
    """Makes of each rank's ``rows`` a tensor that is shared out as ``other`` is; the reverse of :func:`local`."""
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
    # Rows that were put aside on the CPU can only be sent from the device that the ranks talk by.
    there = cast(DTensor, tensor.to(tensor.device_mesh.device_type))
    return there.full_tensor().to(tensor.device)


@dataclass(frozen=True)
class Ranks:
    """The ranks that tensors are shared out among; of plain tensors, this process alone. Made by :meth:`sharing`.

    Attributes:
        index: this rank's place among them: rows go by it.
        count: how many they are.
        device: the kind of device that they talk by.
        group: how they talk to each other; None where there is no other.
    """

    index: int = 0
    count: int = 1
    device: str = "cpu"
    group: dist.ProcessGroup | None = None

    @classmethod
    def sharing(cls, tensors: Iterable[Tensor]) -> "Ranks":
        """Tells among which ranks ``tensors`` are shared out.

        Raises:
            ValueError: they are shared out in different ways, or not by rows over one mesh dimension.
        """
        ways = {(t.device_mesh, t.placements) if isinstance(t, DTensor) else None for t in tensors}
        if len(ways) > 1:
            raise ValueError("Some of these tensors are shared out among processes otherwise than the others, or not.")
        way = ways.pop()
        if way is None:
            return cls()
        mesh, placements = way
        if placements != (Shard(0),):
            raise ValueError(f"Tensors must be shared out by rows over one mesh dimension: got {placements}.")
        return cls(mesh.get_local_rank(), mesh.size(), mesh.device_type, mesh.get_group())

    def sum(self, tensor: Tensor) -> Tensor:
        """Adds up all ranks' ``tensor``, of one shape and on the weights' device, in place; returns it."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def sums(self, numbers: Sequence[int]) -> list[int]:
        """Adds up all ranks' ``numbers``, one by one."""
        if self.group is None:
            return list(numbers)
        return self._reduced(torch.tensor(numbers, device=self.device), dist.ReduceOp.SUM).tolist()

    def least(self, numbers: Sequence[int]) -> list[int]:
        """Finds the least of all ranks' ``numbers``, one by one."""
        if self.group is None:
            return list(numbers)
        return self._reduced(torch.tensor(numbers, device=self.device), dist.ReduceOp.MIN).tolist()

    def sums_before(self, numbers: Sequence[int]) -> list[int]:
        """Adds up what comes before each of ``numbers``: all ranks' earlier ones, and the same one of lower ranks."""
        by_rank = torch.zeros(self.count, len(numbers), dtype=torch.int64)
        by_rank[self.index] = torch.tensor(numbers)
        in_order = torch.tensor(self.sums(by_rank.T.flatten().tolist()))
        before = in_order.cumsum(0) - in_order
        return before.view(len(numbers), self.count)[:, self.index].tolist()

    def _reduced(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self.group is not None:
            dist.all_reduce(tensor, operation, self.group)
        return tensor
