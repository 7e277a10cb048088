"""What a parameter's name tells: its stack, its layer, and the kind of matrix it is.

Names are those of the bare base model, without a task prefix such as ``bert.``:
``encoder.layer.3.attention.self.query.weight`` (BERT, XLM-R) or ``decoder.block.0.layer.1.EncDecAttention.q.weight``
(mT5). Everything that groups weights (pruning scopes, overlap by layer, figures) asks here, so that groups mean the
same everywhere.
"""

import re

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
