"""The sub-network of a live model: which weights are prunable, the mask on them, and the way back to theta_0.

The only file that touches a live model's weights. A mask lives in the model as one boolean buffer per prunable matrix,
``weight_mask`` beside ``weight``. Parameters keep their own names, so checkpoints stay plain. Which matrices are
prunable is up to :mod:`lnsub.models.prunable`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from lnsub.models.gradient_masks import GradientMasks
from lnsub.models.prunable import Prunable, base_of, blocks_of, prunable
from lnsub.models.vocabulary import Vocabulary
from lnsub.pruning.masks import Mask
from lnsub.pruning.sharding import local, sharded_like, whole

_SUFFIX = "_mask"
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a weight

Weights = dict[str, Tensor]
"""A model's parameters and buffers by name, detached from the model: what a rewind goes back to.

Of a sharded model, each rank holds its own rows. :meth:`Subnet.prunable_of` picks the prunable weights.
"""


class Subnet:
    """A model's prunable weights under a mask.

    Making one puts an all-kept mask buffer beside every prunable weight of ``model``. The buffers are saved in
    checkpoints and follow the model from device to device. Pruned weights are exactly 0 after every method here, and
    after every ``load_state_dict`` of the model or of a module that holds it, which may bring another mask.

    Args:
        model: a Hugging Face model with its task head.

    Attributes:
        vocabulary: the model's input embeddings, which a fit may narrow.

    Raises:
        UserError: the model has nothing to prune.
        ValueError: the model carries masks already.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.vocabulary = Vocabulary(model)
        self._base = base_of(model)
        self._base_prefix = _prefix(model, self._base)
        self._prunable = prunable(model)
        self._gradient_masks = GradientMasks()
        self._dense: bool | None = True  # whether all is kept on this rank; None: not known
        self._sharded = False
        held: dict[nn.Module, list[Prunable]] = {}
        for name, entry in self._prunable.items():
            buffer = f"{entry.attribute}{_SUFFIX}"
            if hasattr(entry.module, buffer):
                raise ValueError(f"{name} carries a mask already; a model can be one Subnet only.")
            entry.module.register_buffer(buffer, torch.ones_like(entry.parameter, dtype=torch.bool), persistent=True)
            held.setdefault(entry.module, []).append(entry)
        for module, entries in held.items():
            module.register_load_state_dict_post_hook(partial(self._on_load, entries))
        self._buffers = frozenset(f"{self._base_prefix}{name}{_SUFFIX}" for name in self._prunable)

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
        blocks = blocks_of(self._model)
        inside = {module for block in blocks for module in block.modules()}
        # The pooler apart too: what the whole model gathers stays gathered after a forward pass without a backward.
        apart = (entry.module for entry in self._prunable.values() if entry.module not in inside)
        for module in [*blocks, *apart]:
            fully_shard(module, mesh=mesh, mp_policy=policy)
        fully_shard(self._model, mesh=mesh, mp_policy=policy)
        for entry in self._prunable.values():
            # fully_shard leaves buffers as they are.
            buffer = sharded_like(self._buffer(entry), entry.parameter)
            entry.module.register_buffer(f"{entry.attribute}{_SUFFIX}", buffer, persistent=True)
        self._sharded = True

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The prunable weights by name in the bare base model; ``[out_features, in_features]`` where they are linear.

        Other layouts: :class:`~lnsub.models.prunable.Prunable`.
        """
        return {name: entry.parameter for name, entry in self._prunable.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the prunable weights by name."""
        return {name: tuple(entry.parameter.shape) for name, entry in self._prunable.items()}

    @property
    def mask(self) -> Mask:
        """A copy of the current mask."""
        return Mask({name: self._buffer(entry).clone() for name, entry in self._prunable.items()})

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
        gradients = {n: local(e.parameter.grad) for n, e in self._prunable.items() if e.parameter.grad is not None}
        self._gradient_masks.apply(gradients, lambda name: local(self._buffer(self._prunable[name])))

    def snapshot(self, held: Mapping[str, Tensor] | None = None) -> Weights:
        """Copies all parameters and buffers of the model to the CPU, except for the masks.

        The whole model is copied, not only what can be pruned: a rewind restores embeddings, norms and biases too. At
        mBERT size this is 711 MB.

        Args:
            held: the same values in any dtype, which need not be copied; see :func:`lnsub.models.theta_0.on_disk`.
        """
        return {
            name: held[name] if held and name in held else tensor.detach().to("cpu", copy=True)
            for name, tensor in self.state().items()
        }

    def state(self, *, keep_vars: bool = False) -> dict[str, Tensor]:
        """The model's ``state_dict``, as tensors of the live model, without the masks.

        Of a narrowed vocabulary, the whole matrix, as a copy.
        """
        state = self.vocabulary.whole(self._model.state_dict(keep_vars=keep_vars))
        return {name: tensor for name, tensor in state.items() if name not in self._buffers}

    def prunable_of(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Picks the prunable weights from a snapshot, by name and of the dtype that :attr:`weights` has."""
        named = self._prunable.items()
        return {name: weights[f"{self._base_prefix}{name}"].to(entry.parameter.dtype) for name, entry in named}

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
            ValueError: the names differ from the model's, the mask does not fit, or the vocabulary is narrow.
        """
        if self.vocabulary.is_narrow:
            raise ValueError("A model is rewound between fits, while its vocabulary is whole.")
        here = self.state(keep_vars=True)
        if here.keys() != weights.keys():
            raise ValueError(f"These weights are another model's: {sorted(here.keys() ^ weights.keys())[:2]} differ.")
        if mask is not None:
            self._copy_to_buffers(mask)
        in_base = self._of_base(here)
        for name, tensor in here.items():
            if base if id(tensor) in in_base else head:
                tensor.copy_(sharded_like(weights[name], tensor))
        if base or mask is not None:
            self._mask_weights()

    @contextmanager
    def removing(self, removed: Mapping[str, Tensor]) -> Iterator[None]:
        """Zeroes weights of a model that is not sharded within the context, and puts them back bit for bit.

        Args:
            removed: True at the weights to zero, by name: bool of the weights' shapes, on any device.
        """
        held = []
        try:
            for name, on in removed.items():
                weight = self._prunable[name].parameter.detach()
                bits = on.to(weight.device)
                held.append((weight, bits, weight.masked_select(bits)))
                weight.masked_fill_(bits, 0)
            yield
        finally:
            for weight, bits, values in held:
                weight.masked_scatter_(bits, values)

    def fingerprint(self, checkpoint: Mapping[str, Tensor] | None = None) -> str:
        """SHA-256 over the prunable weights inside the blocks, by name, shape and float32 value.

        Two runs that start from one checkpoint agree on it whatever their task and seed. So the pooler is left out:
        some tasks' models have none, and where the checkpoint lacks it, the seed sets its values.

        Args:
            checkpoint: the values of a checkpoint, by name as :attr:`weights` has them, of a model that rounded them.
        """
        digest = hashlib.sha256()
        for name, entry in self._prunable.items():
            if not name.startswith("pooler."):
                digest.update(f"{name}{tuple(entry.parameter.shape)}".encode())
                stored = entry.parameter.detach() if checkpoint is None else checkpoint[name]
                values = whole(stored).to("cpu", torch.float32)
                digest.update(values.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def release(self) -> None:
        """Frees what is kept on a GPU beside the model; it is made again when it is needed."""
        self._gradient_masks.clear()

    def _copy_to_buffers(self, mask: Mask) -> None:
        if mask.shapes != self.shapes:
            odd = sorted(set(mask.shapes.items()) ^ set(self.shapes.items()))[:2]
            raise ValueError(f"The mask does not fit the model: names or shapes differ, for example {odd}.")
        for name, entry in self._prunable.items():
            buffer = self._buffer(entry)
            buffer.copy_(sharded_like(mask[name], buffer))
        self._mask_changed()

    def _on_load(self, entries: Sequence[Prunable], module: nn.Module, incompatible_keys: object) -> None:
        """Takes the masks that were loaded into one layer; strategies for sharded models load layer by layer."""
        self._mask_changed()
        for entry in entries:
            self._mask_weight(entry)

    def _mask_changed(self) -> None:
        self._dense = None
        self._gradient_masks.clear()

    @property
    def _all_kept(self) -> bool:
        """Whether this rank prunes nothing."""
        if self._dense is None:
            kept = torch.stack([local(self._buffer(entry)).all() for entry in self._prunable.values()])
            self._dense = bool(kept.all())  # one wait for the device, not one per matrix
        return self._dense

    def _mask_weights(self) -> None:
        if not self._all_kept:
            for entry in self._prunable.values():
                self._mask_weight(entry)

    @torch.no_grad()
    def _mask_weight(self, entry: Prunable) -> None:
        """Sets every pruned weight of a matrix to exactly 0."""
        # The bits of a weight, as an integer, times 0 or 1: NaN and negative weights become plain 0 too, and it takes
        # a fraction of masked_fill_'s time.
        weight = local(entry.parameter.detach())
        weight.view(_INTEGERS[weight.itemsize]).mul_(local(self._buffer(entry)).view(torch.uint8))

    def _of_base(self, tensors: Mapping[str, Tensor]) -> set[int]:
        """The identities of the tensors that belong to the base model and not to the task head alone.

        An output layer that is tied to the word embeddings is the embeddings, whatever its name.
        """
        if self._base is not self._model:
            return {id(tensor) for tensor in self._base.state_dict(keep_vars=True).values()}
        # A seq2seq model is its own base; what is not in its stacks is the output layer.
        return {id(tensor) for name, tensor in tensors.items() if not name.startswith("lm_head.")}

    @staticmethod
    def _buffer(entry: Prunable) -> Tensor:
        return entry.module.get_buffer(f"{entry.attribute}{_SUFFIX}")


def _prefix(model: nn.Module, base: nn.Module) -> str:
    """What precedes a base model's names in the whole model: ``bert.``; nothing where the model is its own base."""
    name = next(name for name, module in model.named_modules() if module is base)
    return f"{name}." if name else ""
