"""What a mask keeps of each part of the model."""

from collections.abc import Iterable, Mapping
from typing import Any

from lnsub.tickets.parameters import group_columns


def density_by(
    kept: Mapping[str, int], weights: Mapping[str, int], by: Iterable[str] = ("layer", "kind")
) -> list[dict[str, Any]]:
    """The density of each group of parameters.

    Args:
        kept: how many weights of each parameter are kept.
        weights: how many weights each of the same parameters has.
        by: some of :data:`lnsub.tickets.parameters.GROUPS`; none makes one group of all parameters.

    Returns:
        A row a group: the columns of ``by``, ``density``, ``kept`` and ``weights``.

    Raises:
        UserError: ``by`` holds something else.
    """
    by, names = tuple(by), list(weights)
    rows = []
    for group, columns in group_columns(names, by).items():
        some, all_ = (sum(counts[names[column]] for column in columns) for counts in (kept, weights))
        rows.append(dict(zip(by, group, strict=True)) | {"density": some / all_, "kept": some, "weights": all_})
    return rows
