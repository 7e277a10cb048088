"""The sub-network of a live model: which weights are prunable, the mask on them, and the way back to theta_0.

The only file that touches a live model's weights. A mask lives in the model as one boolean buffer per prunable matrix,
``weight_mask`` beside ``weight``. Parameters keep their own names, so checkpoints stay plain.
"""

import hashlib
from collections.abc import Mapping
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from lnsub.common.errors import UserError
from lnsub.pruning.masks import Mask
from lnsub.pruning.sharding import local, sharded_like, whole

_BUFFER = "weight_mask"
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a weight

Weights = dict[str, Tensor]
"""A model's parameters and buffers by name, detached from the model: what a rewind goes back to.

Of a sharded model, each rank holds its own rows. :meth:`Subnet.prunable_of` picks the prunable weights.
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


def _base_prefix(model: nn.Module) -> str:
    """What precedes a base model's names in the whole model: ``bert.``; nothing where the model is its own base."""
    base = getattr(model, "base_model", model)
    name = next(name for name, module in model.named_modules() if module is base)
    return f"{name}." if name else ""


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks that the model repeats: what is in its outermost lists of modules."""
    found: list[nn.Module] = []
    inside = ""
    for name, module in model.named_modules():  # parents before their children
        if isinstance(module, nn.ModuleList) and not (inside and name.startswith(inside)):
            found += module
            inside = f"{name}."
    return found


class Subnet:
    """A model's prunable weights under a mask.

    Making one puts an all-kept mask buffer beside every prunable weight of ``model``. The buffers are saved in
    checkpoints and follow the model from device to device. Pruned weights are exactly 0 after every method here, and
    after every ``load_state_dict`` of the model or of a module that holds it, which may bring another mask.

    Args:
        model: a Hugging Face model with its task head.

    Raises:
        UserError: the model has nothing to prune.
        ValueError: the model carries masks already.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._base_prefix = _base_prefix(model)
        self._linears = prunable(model)
        self._dense: bool | None = True  # whether all is kept on this rank; None: not known
        self._sharded = False
        for name, linear in self._linears.items():
            if hasattr(linear, _BUFFER):
                raise ValueError(f"{name} carries a mask already; a model can be one Subnet only.")
            linear.register_buffer(_BUFFER, torch.ones_like(linear.weight, dtype=torch.bool), persistent=True)
            linear.register_load_state_dict_post_hook(self._on_load)

    def shard(self, mesh: DeviceMesh, compute: torch.dtype | None = None) -> None:
        """Shards the model over processes: FSDP2, by torch's ``fully_shard``.

        Every rank is left with some rows of each parameter, and with the same rows of its mask, gradient and optimizer
        state. A block's parameters are gathered while the block computes, those outside all blocks while the model
        does. A second call does nothing. Parameters are replaced: make the optimizer afterwards.

        Args:
            mesh: the processes, in one dimension; each holds the whole model, the same as the others.
            compute: the dtype that parameters are gathered and computed with; None: their own. Rows, gradients and
                optimizer state keep their dtype. Autocast instead would hold a copy of the whole model until the
                backward pass.
        """
        if self._sharded:
            return
        policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=compute and torch.float32)
        blocks = _blocks(self._model)
        inside = {module for block in blocks for module in block.modules()}
        # The pooler apart too: what the whole model gathers stays gathered after a forward pass without a backward.
        for module in [*blocks, *(linear for linear in self._linears.values() if linear not in inside)]:
            fully_shard(module, mesh=mesh, mp_policy=policy)
        fully_shard(self._model, mesh=mesh, mp_policy=policy)
        for linear in self._linears.values():
            # fully_shard leaves buffers as they are.
            linear.register_buffer(_BUFFER, sharded_like(self._buffer(linear), linear.weight), persistent=True)
        self._sharded = True

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
        self._copy_to_buffers(mask)
        self._mask_weights()

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Sets the gradients of pruned weights to 0; call it before clipping and the optimizer step.

        With the weights masked once, this equals masking them again in every forward pass: gradients, their norm,
        Adam's moments and decoupled weight decay of a pruned weight all stay 0, and so does the weight.
        """
        if self._all_kept:
            return
        for linear in self._linears.values():
            if linear.weight.grad is not None:
                # A byte converts to a float twice as fast as a bool does, and 0 and 1 are the same in both.
                local(linear.weight.grad).mul_(local(self._buffer(linear)).view(torch.uint8))

    def snapshot(self, held: Mapping[str, Tensor] | None = None) -> Weights:
        """Copies all parameters and buffers of the model to the CPU, except for the masks.

        The whole model is copied, not only what can be pruned: a rewind restores embeddings, norms and biases too. At
        mBERT size this is 711 MB.

        Args:
            held: the same values in any dtype, which need not be copied; see :func:`lnsub.models.theta_0.on_disk`.
        """
        return {
            name: held[name] if held and name in held else tensor.detach().to("cpu", copy=True)
            for name, tensor in self._model.state_dict().items()
            if not name.endswith(f".{_BUFFER}")
        }

    def prunable_of(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Picks the prunable weights from a snapshot, by name and of the dtype that :attr:`weights` has."""
        return {
            name: weights[f"{self._base_prefix}{name}"].to(linear.weight.dtype) for name, linear in self._linears.items()
        }

    @torch.no_grad()
    def rewind(
        self, weights: Mapping[str, Tensor], *, mask: Mask | None = None, base: bool = True, head: bool = True
    ) -> None:
        """Restores ``weights``, under the current mask or a new one.

        Values are copied, never aliased, so that a snapshot serves any number of rewinds.

        Args:
            weights: from :meth:`snapshot`; of a sharded model, also from before it was sharded.
            mask: the mask to set, as :meth:`set_mask` does, but masking only once; None keeps the current one.
            base: restore the base model; with False it keeps its trained values.
            head: restore the task head; likewise.

        Raises:
            ValueError: the names differ from the model's, or the mask does not fit.
        """
        here = {n: t for n, t in self._model.state_dict(keep_vars=True).items() if not n.endswith(f".{_BUFFER}")}
        if here.keys() != weights.keys():
            raise ValueError(f"These weights are another model's: {sorted(here.keys() ^ weights.keys())[:2]} differ.")
        if mask is not None:
            self._copy_to_buffers(mask)
        for name, tensor in here.items():
            if base if self._in_base(name) else head:
                tensor.copy_(sharded_like(weights[name], tensor))
        if base or mask is not None:
            self._mask_weights()

    def fingerprint(self, checkpoint: Mapping[str, Tensor] | None = None) -> str:
        """SHA-256 over the prunable weights inside the blocks, by name, shape and float32 value.

        Two runs that start from one checkpoint agree on it whatever their task and seed. So the pooler is left out:
        some tasks' models have none, and where the checkpoint lacks it, the seed sets its values.

        Args:
            checkpoint: the values of a checkpoint, by name as :attr:`weights` has them, of a model that rounded them.
        """
        digest = hashlib.sha256()
        for name, linear in self._linears.items():
            if not name.startswith("pooler."):
                digest.update(f"{name}{tuple(linear.weight.shape)}".encode())
                stored = linear.weight.detach() if checkpoint is None else checkpoint[name]
                values = whole(stored).to("cpu", torch.float32)
                digest.update(values.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _copy_to_buffers(self, mask: Mask) -> None:
        if mask.shapes != self.shapes:
            odd = sorted(set(mask.shapes.items()) ^ set(self.shapes.items()))[:2]
            raise ValueError(f"The mask does not fit the model: names or shapes differ, for example {odd}.")
        for name, linear in self._linears.items():
            buffer = self._buffer(linear)
            buffer.copy_(sharded_like(mask[name], buffer))
        self._dense = None

    def _on_load(self, linear: nn.Module, incompatible_keys: object) -> None:
        """Takes the mask that was loaded into one layer; strategies for sharded models load layer by layer."""
        self._dense = None
        self._mask_weight(cast(nn.Linear, linear))

    @property
    def _all_kept(self) -> bool:
        """Whether this rank prunes nothing."""
        if self._dense is None:
            kept = torch.stack([local(self._buffer(linear)).all() for linear in self._linears.values()])
            self._dense = bool(kept.all())  # one wait for the device, not one per matrix
        return self._dense

    def _mask_weights(self) -> None:
        if not self._all_kept:
            for linear in self._linears.values():
                self._mask_weight(linear)

    @torch.no_grad()
    def _mask_weight(self, linear: nn.Linear) -> None:
        """Sets every pruned weight of a layer to exactly 0."""
        # The bits of a weight, as an integer, times 0 or 1: NaN and negative weights become plain 0 too, and it takes
        # a fraction of masked_fill_'s time.
        weight = local(linear.weight.detach())
        weight.view(_INTEGERS[weight.itemsize]).mul_(local(self._buffer(linear)).view(torch.uint8))

    def _in_base(self, name: str) -> bool:
        """Whether a name in the whole model belongs to the base model and not to the task head."""
        # A seq2seq model is its own base; what is not in its stacks is the output layer.
        return name.startswith(self._base_prefix) if self._base_prefix else not name.startswith("lm_head.")

    @staticmethod
    def _buffer(linear: nn.Linear) -> Tensor:
        return linear.get_buffer(_BUFFER)


def gathered(weights: Weights) -> Weights:
    """Gathers a sharded model's snapshot, for a file; all ranks call it together.

    Returns:
        The whole weights, on the CPU; on ranks other than 0, which write no files, without those that are sharded.
    """
    found = {}
    for name, tensor in weights.items():
        rows = whole(tensor)
        if rows is tensor or dist.get_rank() == 0:
            found[name] = rows
    return found
