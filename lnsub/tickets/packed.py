"""Packed masks: eight weights to a byte, little bit order, row-major, the last byte padded with zeros."""

import math
from collections.abc import Mapping, Sequence

import numpy as np


def count_bits(packed: np.ndarray) -> int:
    """Counts the bits that are 1 in a contiguous uint8 array."""
    whole = packed.size // 8 * 8
    words = packed[:whole].view(np.uint64)
    return int(np.bitwise_count(words).sum(dtype=np.int64)) + int(np.bitwise_count(packed[whole:]).sum(dtype=np.int64))


def mask_problem(masks: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]]) -> str:
    """Tells why packed masks do not fit their shapes, both by parameter name; empty where they do."""
    if not masks:
        return "it has no masks"
    odd = sorted(masks.keys() ^ shapes.keys())
    if odd:
        return f"{odd[0]} has a {'mask but no shape' if odd[0] in masks else 'shape but no mask'}"
    for name, mask in masks.items():
        n = math.prod(shapes[name])
        if n < 1:
            return f"{name} has the shape {list(shapes[name])}, which holds no weights"
        if mask.dtype != np.uint8 or mask.ndim != 1:
            return f"the mask of {name} is {mask.dtype} of {mask.ndim} dimensions, not a row of packed bytes"
        if mask.size != -(-n // 8):
            return f"the mask of {name} has {mask.size} bytes, its shape {list(shapes[name])} needs {-(-n // 8)}"
        if n % 8 and int(mask[-1]) >> n % 8:
            return f"the mask of {name} has bits set after its last weight"
    return ""
