"""Packed masks: eight weights to a byte, little bit order, row-major, the last byte padded with zeros."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lnsub.common.printable import printable


def count_bits(packed: np.ndarray) -> int:
    """Counts the bits that are 1 in a contiguous uint8 array."""
    whole = packed.size // 8 * 8
    words = packed[:whole].view(np.uint64)
    return int(np.bitwise_count(words).sum(dtype=np.int64)) + int(np.bitwise_count(packed[whole:]).sum(dtype=np.int64))


def mask_problem(masks: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]]) -> str:
    """Tells why packed masks do not fit their shapes, both by parameter name; empty where they do."""
    for name, mask in masks.items():
        if mask.dtype != np.uint8 or mask.ndim != 1:
            return f"the mask of {name} is {mask.dtype} of {mask.ndim} dimensions, not a row of packed bytes"
    if problem := size_problem({name: mask.size for name, mask in masks.items()}, shapes):
        return problem
    for name, mask in masks.items():
        n = math.prod(shapes[name])
        if n % 8 and int(mask[-1]) >> n % 8:
            return f"the mask of {name} has bits set after its last weight"
    return ""


def size_problem(sizes: Mapping[str, int], shapes: Mapping[str, Sequence[int]]) -> str:
    """Tells why packed masks of so many bytes do not fit their shapes, both by name; empty where they do."""
    if not sizes:
        return "it has no masks"
    odd = sorted(sizes.keys() ^ shapes.keys())
    if odd:
        return f"{printable(odd[0][:200])} has a {'mask but no shape' if odd[0] in sizes else 'shape but no mask'}"
    for name, size in sizes.items():
        n = math.prod(shapes[name])
        if n < 1:
            return f"{name} has the shape {list(shapes[name])}, which holds no weights"
        if size != -(-n // 8):
            return f"the mask of {name} has {size} bytes, its shape {list(shapes[name])} needs {-(-n // 8)}"
    return ""
