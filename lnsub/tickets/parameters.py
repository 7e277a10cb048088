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

_INDEX = re.compile(r"\.(\d+)\.(?:(\d+)\.)?")

# The last name before ``.weight``, in the architectures of Hugging Face. Three names are used for two matrices of a
# block, and told apart by their path: see :func:`kind_of`.
_KINDS: dict[str, str] = {
    **dict.fromkeys(("query", "q", "q_lin", "q_proj", "query_proj", "q_head", "q_attn"), "query"),
    **dict.fromkeys(("w2e_query", "e2w_query", "e2e_query"), "query"),  # LUKE's, between words and entities
    **dict.fromkeys(("key", "k", "k_lin", "k_proj", "key_proj", "k_head"), "key"),
    **dict.fromkeys(("value", "v", "v_lin", "v_proj", "value_proj", "v_head"), "value"),
    **dict.fromkeys(("Wqkv", "qkv_proj", "query_key_value", "c_attn", "in_proj"), "query-key-value"),
    # DeBERTa's, of relative positions
    **dict.fromkeys(("pos_proj", "pos_q_proj", "pos_key_proj", "pos_query_proj"), "position"),
    **dict.fromkeys(("o", "out_lin", "out_proj", "o_proj", "post_proj"), "attention output"),
    **dict.fromkeys(("wi", "wi_0", "wi_1", "lin1", "fc1", "Wi", "ffn", "c_fc", "fc_in"), "intermediate"),
    **dict.fromkeys(("dense_h_to_4h", "linear_1"), "intermediate"),
    "gate_proj": "gate",
    "up_proj": "up",
    "gate_up_proj": "gate and up",
    **dict.fromkeys(("wo", "lin2", "fc2", "ffn_output", "fc_out", "dense_4h_to_h", "linear_2"), "output"),
    "down_proj": "down",
}
_OF_EXPERTS = {"gate_up_proj": "expert gate and up", "down_proj": "expert down"}  # those of all experts, in one tensor

_ATTENTION = frozenset({"attention", "self_attention", "attn"})
_OWN_STACKS = {
    **{f"{stack}.{blocks}": stack for stack in ("encoder", "decoder") for blocks in ("block", "layers", "blocks")},
    "initial_char_encoder.layer": "initial",
    "final_char_encoder.layer": "final",
}
"""Stacks of blocks that a layer's name starts with; those of a model that has but one need no name."""

_STACKS = ("initial", "encoder", "decoder", "final")

KINDS: tuple[str, ...] = (
    "query",
    "key",
    "value",
    "query-key-value",
    "position",
    "attention output",
    "intermediate",
    "gate",
    "up",
    "gate and up",
    "expert gate and up",
    "output",
    "down",
    "expert down",
    "bottleneck",
    "adapter",
    "pooler",
    "other",
)
"""Matrix kinds in the order in which tables and figures show them. Of a block's feed-forward part, ``intermediate`` and
``output`` are the matrices without a gate (and all of T5's and ModernBERT's), ``gate``, ``up`` and ``down`` those with
one; ``expert`` ones hold all experts of a mixture."""


def layer_of(name: str) -> str:
    """Names the layer of a parameter.

    Args:
        name: a parameter's name in the bare base model.

    Returns:
        ``"3"`` for the fourth block of a model with one stack; ``"encoder.3"`` or ``"decoder.3"`` where it has both
        (T5's blocks say so by ``block``); ``"initial.0"`` and ``"final.0"`` for CANINE's two stacks over characters;
        ``"encoder.1.0"`` for the first layer of Funnel's second block; ``"pooler"``, or ``"other"``.
    """
    if name.startswith("pooler."):
        return "pooler"
    match = _INDEX.search(name)
    if match is None:
        return "other"
    stack = _OWN_STACKS.get(name[: match.start()])
    return ".".join(filter(None, (stack, *match.groups())))


def stack_of(name: str) -> str:
    """Names the stack of a parameter.

    Returns:
        ``"encoder"``, ``"decoder"``, or CANINE's ``"initial"`` and ``"final"``; ``"blocks"`` where a model has but one
        stack without a name, as decoders do. The pooler counts with the encoder.
    """
    match = _INDEX.search(name)
    head = name[: match.start()] if match else ""
    if head in _OWN_STACKS:
        return _OWN_STACKS[head]
    if name.startswith("decoder."):
        return "decoder"
    return "blocks" if head in {"layers", "h", "language_model.layers"} else "encoder"


def kind_of(name: str) -> str:
    """Returns which of :data:`KINDS` a parameter is."""
    if name.startswith("pooler."):
        return "pooler"
    parts = name.removesuffix(".weight").split(".")
    leaf, above = parts[-1], parts[-2] if len(parts) > 1 else ""
    attention = not _ATTENTION.isdisjoint(parts)
    if above == "experts" and leaf in _OF_EXPERTS:
        return _OF_EXPERTS[leaf]
    if "bottleneck" in parts:  # MobileBERT's, around its narrow blocks
        return "bottleneck"
    if "adapter_modules" in parts:  # X-MOD's, one for each language
        return "adapter"
    if leaf in {"Wo", "c_proj"}:  # ModernBERT's and GPT-2's
        return "attention output" if attention else "output"
    if leaf == "dense":
        if above == "intermediate":
            return "intermediate"
        if above == "output":
            return "attention output" if attention else "output"
        return "attention output" if above in _ATTENTION else "other"
    return _KINDS.get(leaf, "other")


def layer_key(layer: str) -> tuple[int, tuple[int, ...], str]:
    """A sort key: by stack in the order that data flows, then by number; then the pooler, then the rest."""
    stack, _, indices = layer.partition(".") if not layer[:1].isdigit() else ("encoder", "", layer)
    numbers = indices.split(".")
    if stack in _STACKS and all(number.isdigit() for number in numbers):
        return (_STACKS.index(stack), tuple(map(int, numbers)), layer)
    return (len(_STACKS) + (layer != "pooler"), (), layer)


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
