"""Which parameters of a model may be pruned: the weight matrices inside its blocks, and the pooler's.

Never embeddings, norms, biases, routers (which choose experts), the task head, or the towers for images and sound of a
model for more than text, which text does not reach.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import nn
from transformers.pytorch_utils import Conv1D

from lnsub.common.errors import UserError

_ROUTERS = frozenset({"router", "gate", "shared_expert_gate"})
"""Names of modules that choose experts; their few weights are logits for each, not features."""


@dataclass(frozen=True)
class Prunable:
    """A parameter whose weights may be pruned.

    Attributes:
        module: the layer that holds it.
        attribute: its name there: ``weight``, or for example ``gate_up_proj`` of experts that are computed together.
        outputs: the axis of its output features: 0, but 1 in GPT-2's ``Conv1D``, [in, out], and in experts that are
            stacked, [experts, out, in].
        inputs: the axis of its input features.
    """

    module: nn.Module
    attribute: str = "weight"
    outputs: int = 0
    inputs: int = 1

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter, also after it was replaced by one that is sharded."""
        return cast(nn.Parameter, getattr(self.module, self.attribute))


@dataclass(frozen=True)
class Coverage:
    """How many of the weights in a model's blocks may be pruned.

    Attributes:
        prunable: those that may.
        total: all that are in matrices.
        left_out: names of the matrices that may not, in name order.
    """

    prunable: int
    total: int
    left_out: tuple[str, ...]


def prunable(model: nn.Module) -> dict[str, Prunable]:
    """Finds the parameters that may be pruned.

    Linear layers inside the encoder's or decoder's blocks (anything below an ``nn.ModuleList``), the same as GPT-2
    spells them (``Conv1D``), experts stacked in one parameter, and the pooler.

    Args:
        model: a Hugging Face model, with or without a task head.

    Returns:
        The parameters by name in the bare base model (``encoder.layer.0.attention.self.query.weight``), in name order.

    Raises:
        UserError: the model has none.
    """
    base = base_of(model)
    found = {name: entry for name, module in _inside(base) for name, entry in _of_module(name, module, base)}
    found |= {
        f"{name}.weight": Prunable(module)
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] == "pooler"
    }
    if not found:
        raise UserError(
            f"{type(model).__name__} has no linear layer inside repeated blocks, so nothing of it can be pruned; "
            "use a Transformer such as bert-base-multilingual-cased."
        )
    return dict(sorted(found.items()))


def coverage(model: nn.Module) -> Coverage:
    """Counts how many of the weights in a model's blocks :func:`prunable` has; routers and position biases apart."""
    base = base_of(model)
    covered = {id(entry.parameter) for entry in prunable(model).values()}
    total, inside, left_out = 0, 0, {}
    for name, module in _inside(base):
        if isinstance(module, nn.Embedding) or _ROUTERS & set(name.split(".")):
            continue
        for attribute, parameter in module.named_parameters(recurse=False):
            if "bias" in attribute or "embed" in attribute:  # Funnel's, one for each head
                continue
            if parameter.dim() >= 2 and max(parameter.shape) < parameter.numel():
                total += parameter.numel()
                if id(parameter) in covered:
                    inside += parameter.numel()
                else:
                    left_out[f"{name}.{attribute}"] = parameter
    return Coverage(inside, total, tuple(sorted(left_out)))


def input_axes(model: nn.Module) -> dict[str, int]:
    """The axis of the input features of each parameter that may be pruned, by its name in the bare base model."""
    return {name: entry.inputs for name, entry in prunable(model).items()}


def base_of(model: nn.Module) -> nn.Module:
    """A Hugging Face model without its task head; the model itself where it is its own base."""
    return cast(nn.Module, getattr(model, "base_model", model))


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks that a model repeats: what is in its outermost lists of modules."""
    found: list[nn.Module] = []
    inside = ""
    for name, module in model.named_modules():  # parents before their children
        if isinstance(module, nn.ModuleList) and not (inside and name.startswith(inside)):
            found += module
            inside = f"{name}."
    return found


def _inside(base: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules inside the blocks that text passes through, by name in the base model."""
    text = "language_model." if isinstance(getattr(base, "language_model", None), nn.Module) else ""
    blocks = tuple(f"{name}." for name, module in base.named_modules() if isinstance(module, nn.ModuleList))
    for name, module in base.named_modules():
        if name.startswith(blocks) and name.startswith(text):
            yield name, module


def _of_module(name: str, module: nn.Module, base: nn.Module) -> Iterator[tuple[str, Prunable]]:
    """The parameters of one module, not of those inside it, that may be pruned."""
    if _ROUTERS & set(name.split(".")):
        return
    if isinstance(module, nn.Linear):
        yield f"{name}.weight", Prunable(module)
    elif isinstance(module, Conv1D):
        yield f"{name}.weight", Prunable(module, outputs=1, inputs=0)
    elif not isinstance(module, nn.modules.conv._ConvNd):
        for attribute, parameter in module.named_parameters(recurse=False):
            stacked = parameter.dim() == 3 and math.prod(parameter.shape[1:]) > max(parameter.shape[1:])
            if stacked and parameter.shape[0] in _numbers_of_experts(base, parameter.shape[0]):
                outputs = _outputs_of_experts(attribute, tuple(parameter.shape), base)
                yield f"{name}.{attribute}", Prunable(module, attribute, outputs, 3 - outputs)


def _numbers_of_experts(base: nn.Module, default: int) -> set[int]:
    """How many experts a configuration names, by any of the names there are for it; Funnel's matrices by head are none.

    Args:
        base: the base model.
        default: the number for a module without a configuration.
    """
    config = getattr(base, "config", None)
    if config is None:
        return {default}
    entries = config.get_text_config().to_dict()
    return {number for name, number in entries.items() if "experts" in name and isinstance(number, int)}


def _outputs_of_experts(attribute: str, shape: tuple[int, ...], base: nn.Module) -> int:
    """Which axis of stacked experts has the output features: mostly 1, but 2 where they are stored as [in, out]."""
    config = getattr(base, "config", None)
    hidden = getattr(config, "hidden_size", None) or getattr(getattr(config, "text_config", None), "hidden_size", None)
    written = 1 if "down" in attribute else 2  # the axis of the hidden states, where a matrix is [out, in]
    if hidden is None or shape[1] == shape[2] or shape[written] == hidden:
        return 1
    return 2
