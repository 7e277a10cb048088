"""Encoders without padding: the tokens of a batch laid end to end, as one row, through all that works token by token.

``model.attention: packed`` makes a model of this kind. A batch stays as it is, padded [batch, length]. On the way into
the model its tokens are picked out into one row [1, tokens]; embeddings, norms, linear layers and dropout run on that
row alone; attention stays within each sequence; and the last hidden states go back to their places [batch, length],
so that heads, losses and metrics know nothing of it. The logits are those of the padded model, to rounding.

Attention goes through transformers' attention interface, so its layers are used as they are:

- on a GPU in half precision: torch's ``varlen_attn`` (flash attention over sequences end to end);
- on the CPU: scaled dot-product attention over each run of sequences of one length, which needs neither padding nor a
  mask. Batches are sorted by length, so there are few runs;
- elsewhere (a GPU in float32): padded scaled dot-product attention, the rest still without padding.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel

from lnsub.common.errors import UserError
from lnsub.common.torch_internals import flash_attention
from lnsub.models.transformers_internals import attention_of

PACKED = "lnsub_packed"
"""The name under which transformers knows the attention. It has no mask function there, so no mask is made for it."""

SLOTS = "slots"
"""Entry of a batch: where its tokens are in the flattened [batch * length], int64 [tokens], in order."""

BLOCKS = {
    "bert": "encoder",
    "camembert": "encoder",
    "distilbert": "transformer",
    "electra": "encoder",
    "roberta": "encoder",
    "xlm-roberta": "encoder",
    "xlm-roberta-xl": "encoder",
}
"""Types of models that can be packed, each with the name of the base model's part that holds its blocks."""


@dataclass(frozen=True)
class Packing:
    """Where the tokens of a padded batch [rows, longest] are.

    Attributes:
        slots: places of the tokens in the flattened [rows * longest], int64 [tokens].
        mask: True at the tokens, [rows, longest].
        starts: where each sequence begins among the tokens, and where the last ends: int32 [rows + 1].
    """

    slots: Tensor
    mask: Tensor
    starts: Tensor

    @classmethod
    def of(cls, mask: Tensor, slots: Tensor | None = None) -> "Packing":
        """Makes it from a mask; without ``slots``, which tell the number of tokens, this waits for the device."""
        mask = mask.bool()
        slots = mask.flatten().nonzero().squeeze(1) if slots is None else slots
        return cls(slots, mask, F.pad(mask.sum(1).cumsum(0), (1, 0)).to(torch.int32))

    def pack(self, padded: Tensor) -> Tensor:
        """Picks the tokens out: [rows, longest, ...] -> [1, tokens, ...]."""
        flat = padded.flatten(0, 1)
        return (flat if self.full else flat.index_select(0, self.slots)).unsqueeze(0)

    def unpack(self, packed: Tensor) -> Tensor:
        """Puts the tokens back, zeros elsewhere: [1, tokens, ...] -> [rows, longest, ...]."""
        flat = packed[0]
        if not self.full:
            flat = flat.new_zeros(self.mask.numel(), *flat.shape[1:]).index_copy(0, self.slots, flat)
        return flat.unflatten(0, self.mask.shape)

    @property
    def full(self) -> bool:
        """Whether there is no padding."""
        return self.slots.numel() == self.mask.numel()

    @property
    def longest(self) -> int:
        """The batch's padded length, known without looking at the device."""
        return self.mask.shape[1]

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """Neighbouring sequences of one length: (how many, how long). Waits for the device."""
        return [(len(list(run)), length) for length, run in groupby(self.mask.sum(1).tolist())]


def refuse_unpackable(name: str, config: PretrainedConfig) -> None:
    """Raises a :class:`UserError` if a model cannot be packed.

    Args:
        name: the model's folder or name, for the message.
        config: its configuration.
    """
    if config.model_type not in BLOCKS or getattr(config, "is_decoder", False):
        kind = f"of type {config.model_type}" + (" set up as a decoder" if config.model_type in BLOCKS else "")
        raise UserError(
            f"model.attention=packed is for encoders of the types {', '.join(BLOCKS)}, and '{name}' is {kind}: choose"
            " model.attention=sdpa."
        )


def pack(model: PreTrainedModel) -> None:
    """Makes a model run without padding. Its blocks must have been made with the attention :data:`PACKED`.

    Besides the arguments that it takes anyway, the model takes ``slots``, the batch's entry of that name. Without it,
    they are made from the attention mask, which waits for the device.
    """
    base = model.base_model
    base.register_forward_pre_hook(_pack_inputs, with_kwargs=True)
    base.get_submodule(BLOCKS[model.config.model_type]).register_forward_hook(_unpack_outputs, with_kwargs=True)


def is_packed(model: PreTrainedModel) -> bool:
    """Whether a model was made to run without padding."""
    return attention_of(model) == PACKED


def _pack_inputs(base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Lays the inputs of a base model end to end, with the positions that it would give them itself."""
    ids, mask = args[0] if args else kwargs.pop("input_ids"), kwargs.pop("attention_mask", None)
    packing = Packing.of(torch.ones_like(ids) if mask is None else mask, kwargs.pop(SLOTS, None))
    types = kwargs.pop("token_type_ids", None)
    packed = {"input_ids": packing.pack(ids), "position_ids": packing.pack(_positions(base, ids))}
    if types is not None:
        packed["token_type_ids"] = packing.pack(types)
    return (), {**kwargs, **packed, "packing": packing}


def _positions(base: nn.Module, ids: Tensor) -> Tensor:
    """The positions of padded tokens [rows, longest]: those of the RoBERTa family depend on the tokens."""
    embeddings: Any = base.embeddings
    if hasattr(embeddings, "create_position_ids_from_input_ids"):
        return embeddings.create_position_ids_from_input_ids(ids, embeddings.padding_idx)
    return torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)


def _unpack_outputs(blocks: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """Puts the last hidden states back to their places, where the task's head finds them."""
    output.last_hidden_state = kwargs["packing"].unpack(output.last_hidden_state)
    return output


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing,
    scaling: float | None = None,
    dropout: float = 0.0,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attention within each of the sequences that lie end to end, as transformers' attention interface calls it.

    Args:
        module: the layer.
        query: [1, heads, tokens, width of a head].
        key: the same.
        value: the same.
        attention_mask: None.
        packing: where the sequences are.
        scaling: factor of the scores; None: 1 / sqrt(width of a head).
        dropout: share of the attention weights to drop.
        unused: what other implementations take.

    Returns:
        [1, tokens, heads, width of a head], and no weights.
    """
    q, k, v = (states.transpose(1, 2) for states in (query, key, value))
    if q.is_cpu:
        return _by_runs(q, k, v, packing, scaling, dropout), None
    if _has_varlen(q):
        return _end_to_end(q, k, v, packing, scaling, dropout), None
    return _padded(q, k, v, packing, scaling, dropout), None


def _has_varlen(query: Tensor) -> bool:
    """Whether the device has flash attention for this dtype and width: what ``varlen_attn`` runs."""
    return (
        query.is_cuda
        and query.dtype in {torch.float16, torch.bfloat16}
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def _end_to_end(q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float | None, dropout: float) -> Tensor:
    """Flash attention over [1, tokens, heads, width], told where the sequences begin."""
    starts, longest = packing.starts, packing.longest
    if dropout:
        out = flash_attention(q[0], k[0], v[0], starts, longest, dropout, scale)
    else:
        out = cast(Tensor, varlen_attn(q[0], k[0], v[0], starts, starts, longest, longest, scale=scale))
    return out.unsqueeze(0)


def _by_runs(q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float | None, dropout: float) -> Tensor:
    """Attention over each run of sequences of one length, which are a view [sequences, heads, length, width]."""
    runs = packing.runs
    parts = (states[0].split([count * length for count, length in runs]) for states in (q, k, v))
    mixed = []
    for run, *states in zip(runs, *parts, strict=True):
        query, key, value = (part.unflatten(0, run).transpose(1, 2) for part in states)
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scale)
        mixed.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(mixed).unsqueeze(0)


def _padded(q: Tensor, k: Tensor, v: Tensor, packing: Packing, scale: float | None, dropout: float) -> Tensor:
    """Attention over the padded batch."""
    query, key, value = (packing.unpack(states).transpose(1, 2) for states in (q, k, v))
    mask = None if packing.full else packing.mask[:, None, None, :]
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)
    return packing.pack(out.transpose(1, 2))


AttentionInterface.register(PACKED, packed_attention)
