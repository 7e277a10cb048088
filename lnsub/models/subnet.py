"""The sub-network of a live model: which weights are prunable, the mask on them, and the way back to theta_0.

The only file that touches a live model's weights. A mask lives in the model as one boolean buffer per prunable matrix,
``weight_mask`` beside ``weight``; parameters keep their own names, so checkpoints stay plain.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from lnsub.common.errors import UserError
from lnsub.pruning.masks import Mask
from lnsub.pruning.sharding import local, shared_like, whole

_BUFFER = "weight_mask"
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a weight

Weights = dict[str, Tensor]
"""A model's parameters and buffers by name, detached from the model: what a rewind goes back to.

Of a model that is shared out among processes, each rank holds its own rows.
"""


def prunable(model: nn.Module) -> dict[str, nn.Linear]:
    """Finds the linear layers whose weights may be pruned.

    Those inside the encoder's or decoder's blocks (anything below an ``nn.ModuleList``), and the pooler's; never
    embeddings, norms, biases or the task head, which lies outside the base model or outside its blocks.

    Args:
        model: a Hugging Face model, with or without a task head.

    Returns:
        The layers by the name of their weight in the bare base model (``encoder.layer.0.attention.self.query.weight``),
        in name order.

    Raises:
        UserError: the model has no such layer.
    """
    base = getattr(model, "base_model", model)
    blocks = [name for name, module in base.named_modules() if isinstance(module, nn.ModuleList)]
    found = {
        f"{name}.weight": module
        for name, module in base.named_modules()
        if isinstance(module, nn.Linear)
        and (name.startswith("pooler.") or any(name.startswith(f"{block}.") for block in blocks))
    }
    if not found:
        raise UserError(
            f"{type(model).__name__} has no linear layer inside repeated blocks, so nothing of it can be pruned; "
            "use a Transformer encoder or encoder-decoder such as bert-base-multilingual-cased."
        )
    return dict(sorted(found.items()))


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks that the model repeats: what is in its outermost lists of modules."""
    found: list[nn.Module] = []
    inside = ""
    for name, module in model.named_modules():  # parents before their children
        if isinstance(module, nn.ModuleList) and not (inside and name.startswith(inside)):
            found += module
            inside = f"{name}."
    return found


@dataclass(frozen=True)
class Fit:
    """How far a ticket's parameters and a model's agree.

    Attributes:
        shared: parameters that both have; the mask is applied to these.
        only_ticket: in the ticket, not in the model (XNLI's pooler in a tagger, say); left out.
        only_model: in the model, not in the ticket; left dense.
    """

    shared: tuple[str, ...]
    only_ticket: tuple[str, ...]
    only_model: tuple[str, ...]


class Subnet:
    """A model's prunable weights under a mask.

    Making one puts an all-kept mask buffer beside every prunable weight of ``model``. The buffers are saved in
    checkpoints and follow the model from device to device.

    Args:
        model: a Hugging Face model with its task head.

    Raises:
        UserError: the model has nothing to prune.
        ValueError: the model carries masks already.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._linears = prunable(model)
        self._dense = True
        self._shared = False
        for name, linear in self._linears.items():
            if hasattr(linear, _BUFFER):
                raise ValueError(f"{name} carries a mask already; a model can be one Subnet only.")
            linear.register_buffer(_BUFFER, torch.ones_like(linear.weight, dtype=torch.bool), persistent=True)

    def shard(self, mesh: DeviceMesh, compute: torch.dtype | None = None) -> None:
        """Shares the model out among processes: FSDP2, by torch's ``fully_shard``.

        Every rank is left with some rows of each parameter, and with the same rows of its mask, gradient and optimizer
        state. A block's parameters are gathered while the block computes, those outside of all blocks while the model
        does. A second call does nothing. Parameters are replaced by others: make the optimizer afterwards.

        Args:
            mesh: the processes, in one dimension; each holds the whole model, the same as the others.
            compute: the dtype that parameters are gathered and computed with; None: their own. Rows, gradients and
                optimizer state keep their dtype. Autocast instead would hold a copy of the whole model until the
                backward pass.
        """
        if self._shared:
            return
        policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=compute and torch.float32)
        blocks = _blocks(self._model)
        inside = {module for block in blocks for module in block.modules()}
        # The pooler apart too: what is left to the whole model stays gathered after a forward pass without a backward.
        for module in [*blocks, *(linear for linear in self._linears.values() if linear not in inside)]:
            fully_shard(module, mesh=mesh, mp_policy=policy)
        fully_shard(self._model, mesh=mesh, mp_policy=policy)
        for linear in self._linears.values():
            # fully_shard leaves buffers as they are.
            linear.register_buffer(_BUFFER, shared_like(self._buffer(linear), linear.weight), persistent=True)
        self._shared = True

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The prunable weights by name in the bare base model; each ``[out_features, in_features]``."""
        return {name: cast(nn.Parameter, linear.weight) for name, linear in self._linears.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the prunable weights by name."""
        return {name: tuple(linear.weight.shape) for name, linear in self._linears.items()}

    @property
    def mask(self) -> Mask:
        """A copy of the current mask."""
        return Mask({name: self._buffer(linear).clone() for name, linear in self._linears.items()})

    def set_mask(self, mask: Mask) -> None:
        """Puts ``mask`` on the model and zeroes the weights that it prunes.

        Args:
            mask: the same names and shapes as :attr:`shapes`.

        Raises:
            ValueError: the names or shapes differ.
        """
        if mask.shapes != self.shapes:
            odd = sorted(set(mask.shapes.items()) ^ set(self.shapes.items()))[:2]
            raise ValueError(f"The mask does not fit the model: names or shapes differ, for example {odd}.")
        for name, linear in self._linears.items():
            buffer = self._buffer(linear)
            buffer.copy_(shared_like(mask[name], buffer))
        self.sync()
        self.apply()

    def fit(self, names: Collection[str]) -> Fit:
        """Tells which of a ticket's parameter ``names`` the model has."""
        here, there = set(self._linears), set(names)
        return Fit(tuple(sorted(here & there)), tuple(sorted(there - here)), tuple(sorted(here - there)))

    def sync(self) -> None:
        """Looks at the mask buffers again after they were filled from outside, by a checkpoint say."""
        self._dense = all(bool(local(self._buffer(linear)).all()) for linear in self._linears.values())

    @torch.no_grad()
    def apply(self) -> None:
        """Sets every pruned weight to exactly 0."""
        for linear in self._linears.values():
            # The bits of a weight, as an integer, times 0 or 1: NaN and negative weights become plain 0 too, and it
            # takes a fraction of masked_fill_'s time.
            weight = local(linear.weight.detach())
            weight.view(_INTEGERS[weight.itemsize]).mul_(local(self._buffer(linear)).view(torch.uint8))

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Sets the gradients of pruned weights to 0; call it before clipping and the optimizer step.

        With the weights masked once, this equals masking them again in every forward pass: gradients, their norm,
        Adam's moments and decoupled weight decay of a pruned weight all stay 0, and so does the weight.
        """
        if self._dense:
            return
        for linear in self._linears.values():
            if linear.weight.grad is not None:
                # A byte converts to a float twice as fast as a bool does, and 0 and 1 are the same in both.
                local(linear.weight.grad).mul_(local(self._buffer(linear)).view(torch.uint8))

    def snapshot(self) -> Weights:
        """Copies all parameters and buffers of the model to the CPU, masks left out.

        What is taken is the whole model, not only what can be pruned: a rewind puts embeddings, norms and biases back
        too. At mBERT size this is 711 MB.
        """
        return {
            name: tensor.detach().to("cpu", copy=True)
            for name, tensor in self._model.state_dict().items()
            if not name.endswith(f".{_BUFFER}")
        }

    @torch.no_grad()
    def rewind(self, weights: Mapping[str, Tensor], *, base: bool = True, head: bool = True) -> None:
        """Puts the model back to ``weights`` under its current mask.

        Values are copied, never aliased, so that a snapshot serves any number of rewinds.

        Args:
            weights: from :meth:`snapshot`; of a model that is shared out, also from before that.
            base: put the base model back; with False it keeps its trained values.
            head: put the task head back, likewise.

        Raises:
            ValueError: the names differ from the model's.
        """
        here = {n: t for n, t in self._model.state_dict(keep_vars=True).items() if not n.endswith(f".{_BUFFER}")}
        if here.keys() != weights.keys():
            raise ValueError(f"These weights are another model's: {sorted(here.keys() ^ weights.keys())[:2]} differ.")
        in_base = self._base_names()
        for name, tensor in here.items():
            if base if name in in_base else head:
                tensor.copy_(shared_like(weights[name], tensor))
        self.apply()

    def fingerprint(self) -> str:
        """SHA-256 over the prunable weights inside the blocks, by name, shape and float32 value.

        Two runs that start from one checkpoint agree on it whatever their task and seed. So the pooler is left out:
        some tasks' models have none, and some checkpoints lack it, in which case the seed sets its values.
        """
        digest = hashlib.sha256()
        for name, linear in self._linears.items():
            if not name.startswith("pooler."):
                digest.update(f"{name}{tuple(linear.weight.shape)}".encode())
                values = whole(linear.weight.detach()).to("cpu", torch.float32)
                digest.update(values.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _base_names(self) -> set[str]:
        """Names, in the whole model, of what belongs to the base model and not to the task head."""
        base = getattr(self._model, "base_model", self._model)
        if base is self._model:  # a seq2seq model is its own base; what is not in its stacks is the output layer
            return {n for n in self._model.state_dict() if not n.startswith("lm_head.")}
        prefix = next(name for name, module in self._model.named_modules() if module is base)
        return {name for name in self._model.state_dict() if name.startswith(f"{prefix}.")}

    @staticmethod
    def _buffer(linear: nn.Linear) -> Tensor:
        return linear.get_buffer(_BUFFER)


def gathered(weights: Weights) -> Weights:
    """Makes a snapshot of a model that is shared out among processes whole, for a file; all ranks call it together.

    Returns:
        The weights, on the CPU; on ranks other than 0, which write no files, without those that were shared out.
    """
    found = {}
    for name, tensor in weights.items():
        rows = whole(tensor)
        if rows is tensor or dist.get_rank() == 0:
            found[name] = rows
    return found
