"""Which weights make up the units of a model: its heads, its feed-forward neurons, the rows of its matrices.

What belongs together is told from the parameters' names and shapes and from the number of heads in the configuration.
"""

from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from torch import nn

from lnsub.common.errors import UserError
from lnsub.models.prunable import Prunable, base_of, prunable
from lnsub.tickets.parameters import kind_of, layer_of, stack_of
from lnsub.tickets.units import UNITS, Group, Member, Units

_INNER = frozenset({"intermediate", "gate", "up", "gate and up", "expert gate and up"})
"""Kinds of matrices whose output features are neurons."""

_OUTER = frozenset({"output", "down", "expert down"})
"""Kinds of matrices whose input features are neurons."""

_FUSED = "query-key-value"

_BY_HEAD = frozenset({"bloom", "gpt_neox", "gpt_neox_japanese"})
"""Types whose fused matrix has query, key and value of the first head, then those of the second, ..."""

_BY_PART = frozenset({"gpt2", "modernbert", "modernbert-decoder", "nomic_bert", "phi3", "openai-gpt", "imagegpt"})
"""Types whose fused matrix has all queries, then all keys, then all values."""


def units_of(model: nn.Module, granularity: str) -> Units | None:
    """Finds a model's units.

    Args:
        model: a Hugging Face model, with or without a task head.
        granularity: what they are.

    Returns:
        The units; None for single weights.

    Raises:
        UserError: the model has none of this kind, or in a layout that is not known.
    """
    if granularity == "weight":
        return None
    if granularity not in UNITS:
        raise UserError(f"Unknown granularity {granularity!r}: choose one of weight, {', '.join(UNITS)}.")
    found = _Finder(model)
    groups = {"neuron": found.neurons, "head": found.heads, "row": found.rows}[granularity]()
    if not groups:
        raise UserError(f"{found.model_type} has no {granularity}s that lnsub knows: choose another granularity.")
    return Units(granularity, tuple(sorted(groups, key=lambda group: group.name)))


class _Finder:
    """The parameters of a model, sorted by what they do."""

    def __init__(self, model: nn.Module) -> None:
        config: Any = base_of(model).config
        self._config = config.get_text_config() if hasattr(config, "get_text_config") else config
        self.model_type = str(config.model_type)
        self._entries = {name: entry for name, entry in prunable(model).items() if not name.startswith("pooler.")}

    def rows(self) -> list[Group]:
        """Every output feature of every matrix."""
        groups = []
        for name, entry in self._entries.items():
            length = entry.parameter.shape[entry.outputs]
            for expert in self._experts(entry):
                group = name if expert is None else f"{name}.{expert}"
                member = Member(name, entry.outputs, ((0, length, 1),), expert)
                groups.append(Group(group, length, (member,)))
        return groups

    def neurons(self) -> list[Group]:
        """The hidden units of the feed-forward blocks."""
        groups = []
        for outer, inner in self._blocks(_INNER, _OUTER):
            entry = self._entries[outer]
            count = entry.parameter.shape[entry.inputs]
            for expert in self._experts(entry):
                members = [Member(outer, entry.inputs, ((0, count, 1),), expert)]
                for name in inner:
                    length = self._entries[name].parameter.shape[self._entries[name].outputs]
                    if length % count or length // count > 2 or self.model_type == "gpt_oss":
                        raise UserError(f"The neurons of {name} in {self.model_type} lie in a way that is not known.")
                    pieces = tuple((start, count, 1) for start in range(0, length, count))
                    members.append(Member(name, self._entries[name].outputs, pieces, expert))
                place = _common([outer, *inner])
                groups.append(Group(place if expert is None else f"{place}.{expert}", count, tuple(members)))
        return groups

    def heads(self) -> list[Group]:
        """Attention heads; those that share keys and values are one."""
        groups = []
        for output, inner in self._blocks(
            frozenset({"query", "key", "value", _FUSED}), frozenset({"attention output"})
        ):
            heads, shared = self._counts(stack_of(output))
            members = [self._head_member(output, self._entries[output].inputs, shared)]
            for name in inner:
                if kind_of(name) == _FUSED:
                    members.append(self._fused(name, heads, shared))
                else:
                    members.append(self._head_member(name, self._entries[name].outputs, shared))
            groups.append(Group(_common([output, *inner]), shared, tuple(members)))
        return groups

    def _blocks(self, inner: frozenset[str], outer: frozenset[str]) -> Iterable[tuple[str, list[str]]]:
        """Each matrix of a kind in ``outer``, with those in ``inner`` that feed it: the nearest in its layer."""
        by_layer: dict[str, tuple[list[str], list[str]]] = {}
        for name in self._entries:
            kind = kind_of(name)
            if kind in inner or kind in outer:
                by_layer.setdefault(layer_of(name), ([], []))[kind in outer].append(name)
        for layer, (feeding, fed) in by_layer.items():
            served: dict[str, list[str]] = {name: [] for name in fed}
            for name in feeding:
                nearest = sorted(fed, key=lambda other: -len(_common([name, other])))
                if not nearest or (
                    len(nearest) > 1 and len(_common([name, nearest[0]])) == len(_common([name, nearest[1]]))
                ):
                    raise UserError(
                        f"{name} in layer {layer} of {self.model_type} feeds no matrix that lnsub can tell."
                    )
                served[nearest[0]].append(name)
            for name, found in served.items():
                if not found:
                    raise UserError(f"Nothing feeds {name} in layer {layer} of {self.model_type} that lnsub can tell.")
                yield name, found

    def _counts(self, stack: str) -> tuple[int, int]:
        """The number of query heads, and of those that have keys and values of their own."""
        own = getattr(self._config, f"{stack}_attention_heads", None) or getattr(self._config, "num_attention_heads", 0)
        shared = getattr(self._config, "num_key_value_heads", None) or own
        if not isinstance(own, int) or not isinstance(shared, int) or not own or own % shared:
            raise UserError(f"The configuration of {self.model_type} gives no number of heads for all layers.")
        return own, shared

    def _head_member(self, name: str, axis: int, count: int) -> Member:
        length = self._entries[name].parameter.shape[axis]
        if length % count:
            raise UserError(f"{name} in {self.model_type} cannot be split into {count} heads.")
        return Member(name, axis, ((0, length, length // count),))

    def _fused(self, name: str, heads: int, shared: int) -> Member:
        entry = self._entries[name]
        length, axis = entry.parameter.shape[entry.outputs], entry.outputs
        width = length // (heads + 2 * shared)
        if self.model_type in _BY_HEAD and heads == shared:
            return Member(name, axis, ((0, length, 3 * width),))
        if self.model_type in _BY_PART:
            queries, keys = heads * width, shared * width
            pieces = ((0, queries, queries // shared), (queries, keys, width), (queries + keys, keys, width))
            return Member(name, axis, pieces)
        raise UserError(f"The heads of {name} in {self.model_type} lie in a way that is not known.")

    @staticmethod
    def _experts(entry: Prunable) -> Iterable[int | None]:
        return range(entry.parameter.shape[0]) if entry.parameter.dim() == 3 else (None,)


def _common(names: list[str]) -> str:
    """The longest path that names have in common."""
    parts = [name.split(".") for name in names]
    same = takewhile(lambda step: len(set(step)) == 1, zip(*parts, strict=False))
    return ".".join(step[0] for step in same)
