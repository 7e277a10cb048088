"""What a parameter's name says: its stack, its layer, and which kind of matrix it is.

Names are those of the bare base model, without a task prefix such as ``bert.``:
``encoder.layer.3.attention.self.query.weight`` (BERT, XLM-R) or ``decoder.block.0.layer.1.EncDecAttention.q.weight``
(mT5). Everything that groups weights (pruning scopes, overlap by layer, figures) uses this, so that groups mean the
same everywhere.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from lnsub.common.errors import UserError

_INDEX = re.compile(r"\.(\d+)\.")

# The last name before ``.weight``, in the architectures of Hugging Face encoders and encoder-decoders. BERT calls
# both output matrices ``output.dense``: the one below ``attention`` is told apart by its path.
_KINDS: dict[str, str] = {
    **dict.fromkeys(("query", "q", "q_lin", "q_proj", "query_proj"), "query"),
    **dict.fromkeys(("key", "k", "k_lin", "k_proj", "key_proj"), "key"),
    **dict.fromkeys(("value", "v", "v_lin", "v_proj", "value_proj"), "value"),
    **dict.fromkeys(("o", "out_lin", "out_proj", "o_proj"), "attention output"),
    **dict.fromkeys(("wi", "wi_0", "wi_1", "lin1", "fc1", "Wi"), "intermediate"),
    **dict.fromkeys(("wo", "lin2", "fc2"), "output"),
}

KINDS: tuple[str, ...] = ("query", "key", "value", "attention output", "intermediate", "output", "pooler", "other")
"""Matrix kinds in the order in which tables and figures show them."""


def layer_of(name: str) -> str:
    """Names the layer of a parameter.

    Args:
        name: a parameter's name in the bare base model.

    Returns:
        ``"3"`` for an encoder-only model's fourth block, ``"encoder.3"`` or ``"decoder.3"`` where the model has both
        stacks (T5's blocks say so by ``block``), ``"pooler"``, or ``"other"``.
    """
    if name.startswith("pooler."):
        return "pooler"
    match = _INDEX.search(name)
    if match is None:
        return "other"
    head = name[: match.start()]
    index = match.group(1)
    if head in {"encoder.block", "decoder.block", "encoder.layers", "decoder.layers"}:
        return f"{head.split('.')[0]}.{index}"
    return index


def stack_of(name: str) -> str:
    """Returns ``"decoder"`` for a decoder's weight, else ``"encoder"`` (the pooler counts with the encoder)."""
    return "decoder" if name.startswith("decoder.") else "encoder"


def kind_of(name: str) -> str:
    """Returns which of :data:`KINDS` a parameter is."""
    if name.startswith("pooler."):
        return "pooler"
    parts = name.removesuffix(".weight").split(".")
    leaf = parts[-1]
    if leaf in _KINDS:
        return _KINDS[leaf]
    if leaf == "dense" and len(parts) > 1:
        if parts[-2] == "intermediate":
            return "intermediate"
        if parts[-2] == "output":
            return "attention output" if "attention" in parts else "output"
    return "other"


def layer_key(layer: str) -> tuple[int, int, str]:
    """A sort key: encoder layers, then decoder layers, each by number, then the pooler, then the rest."""
    stack, _, index = layer.rpartition(".")
    if index.isdigit():
        return (1 if stack == "decoder" else 0, int(index), layer)
    return (2 if layer == "pooler" else 3, 0, layer)


GROUPS: tuple[str, ...] = ("layer", "kind", "matrix", "stack")
"""What overlap can be taken by. ``kind`` is query, key, ...; ``matrix`` is one parameter, under its own name."""


def group_columns(names: Sequence[str], by: Iterable[str]) -> dict[tuple[str, ...], list[int]]:
    """Sorts parameters into groups.

    Args:
        names: parameters.
        by: some of :data:`GROUPS`; none of them makes one group of all parameters.

    Returns:
        For each group, its values of ``by`` and the positions of its parameters in ``names``; layers by number, kinds
        in the order of :data:`lnsub.tickets.parameters.KINDS`.

    Raises:
        UserError: ``by`` holds something else.
    """
    by = tuple(by)
    for b in by:
        if b not in GROUPS:
            raise UserError(f"overlap cannot be taken by {b!r}: choose from {', '.join(GROUPS)}")

    def key_of(name: str) -> tuple[tuple[Any, str], ...]:
        """For each of ``by``, how its value sorts and the value."""
        layer, kind, stack = layer_of(name), kind_of(name), stack_of(name)
        keys = {"layer": layer_key(layer), "kind": KINDS.index(kind), "matrix": name, "stack": stack}
        values = {"layer": layer, "kind": kind, "matrix": name, "stack": stack}
        return tuple((keys[b], values[b]) for b in by)

    keys = [key_of(name) for name in names]
    order = sorted(range(len(names)), key=keys.__getitem__)
    return {tuple(value for _, value in key): list(m) for key, m in groupby(order, key=keys.__getitem__)}
