"""Operations that would make the host wait for a device, noticed on the CPU."""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    *("aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::nonzero"),
    *("aten::masked_select", "aten::_unique2", "aten::unique_consecutive", "aten::bincount", "aten::repeat_interleave"),
}
"""What makes the host wait for a device: each needs a value, or a size that depends on values."""


def waits(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operation would wait, were its tensors on a device."""
    name = func.name().split(".")[0]
    if name == "aten::repeat_interleave":
        return not (kwargs or {}).get("output_size")
    if name in {"aten::index", "aten::index_put", "aten::index_put_"}:  # by a bool tensor: the size is its sum
        return any(index is not None and index.dtype in {torch.bool, torch.uint8} for index in args[1])
    return name in WAITING


class Waits(TorchDispatchMode):
    """Counts the operations that would make the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.names: Counter[str] = Counter()
        self.loading = False  # a batch is made on the host

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func.name().split(".")[0]] += 1
        if waits(func, args, kwargs) and not self.loading:
            self.seen[func.name().split(".")[0]] += 1
        return func(*args, **(kwargs or {}))
