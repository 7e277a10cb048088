"""Selection by sorting, the second implementation that exact selection is held against."""

import numpy as np
import torch

from lnsub.pruning.masks import Mask
from lnsub.tickets.parameters import layer_of, stack_of


def by_sorting(scores, mask, sparsity, scope="global") -> Mask:
    """The definition: Python sorts (|score|, name, position) of the kept weights of each group."""
    if scope == "row":
        rows = Mask({f"{name} {i:05}": row for name, bits in mask.items() for i, row in enumerate(_rows(bits))})
        values = {f"{name} {i:05}": row for name in mask for i, row in enumerate(_rows(scores[name]))}
        kept = by_sorting(values, rows, sparsity, "matrix")
        parts = {name: [kept[row] for row in kept if row.rpartition(" ")[0] == name] for name in mask}
        return Mask({name: torch.stack(parts[name]).view(bits.shape) for name, bits in mask.items()})
    result = {name: bits.clone() for name, bits in mask.items()}
    for group in {GROUP_OF[scope](name) for name in mask}:
        names = [name for name in mask if GROUP_OF[scope](name) == group]
        pruned = sum(int((~mask[name]).sum()) for name in names)
        more = round(sparsity * sum(mask[name].numel() for name in names)) - pruned
        ranked = sorted(
            (abs(value), name, position)
            for name in names
            for position, (value, kept) in enumerate(
                zip(scores[name].double().flatten().tolist(), mask[name].flatten().tolist(), strict=True)
            )
            if kept
        )
        for _, name, position in ranked[:more]:
            result[name].view(-1)[position] = False
    return Mask(result)


def by_stable_argsort(scores, mask, sparsity) -> Mask:
    """The same for scope ``global``, fast enough for large cases."""
    flat = np.concatenate([scores[name].detach().abs().double().flatten().numpy() for name in mask])
    kept = np.concatenate([bits.flatten().numpy() for bits in mask.values()])
    order = np.argsort(np.where(kept, flat, -1.0), kind="stable")
    kept[order[: round(sparsity * len(flat))]] = False
    parts = torch.from_numpy(kept).split([bits.numel() for bits in mask.values()])
    return Mask({name: part.view(bits.shape) for (name, bits), part in zip(mask.items(), parts, strict=True)})


def _rows(tensor):
    return tensor.reshape(-1, tensor.shape[-1])


GROUP_OF = {"global": lambda name: 0, "layer": layer_of, "matrix": lambda name: name, "stack": stack_of}
