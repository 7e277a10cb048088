"""The rows of the input embeddings that occur in the data: all that a fit has to hold, clip, step and save.

A multilingual model has a row for every token of a hundred languages; a fit on one language reads some of them. The
others get a gradient of 0, and AdamW without weight decay leaves them as they are, bit for bit. So for the time of a
fit, :meth:`Vocabulary.narrow` replaces the embedding matrix [V, width] by a parameter of the rows in use [U, width],
and :meth:`Vocabulary.widen` puts those back among the others.

The embedding module then has two buffers more: ``rows_in_use`` [U], the tokens whose rows these are, in order, which
makes a checkpoint's weights say what they are; and ``row_of`` [V], the row of each token. A token that has none gets
one that does not exist: torch raises IndexError on the CPU, and stops the kernel on a GPU, without a wait in the step.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

_ROWS, _ROW_OF = "rows_in_use", "row_of"


class Vocabulary:
    """A model's input embeddings, whole or narrowed to the rows in use.

    Args:
        model: a Hugging Face model; its embeddings stay as they are until :meth:`narrow`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        embedding = _input_embedding(model)
        self._embedding = embedding
        self._name = next((f"{name}." for name, m in model.named_modules() if m is embedding), "")
        self._whole: nn.Parameter | None = None  # while narrowed: the whole matrix, whose rows in use are out of date
        self._padding: int | None = None  # while narrowed: the padding's token
        self._kept: tuple[nn.Parameter, Tensor, Tensor] | None = None  # of the fit before: the rows, and both buffers
        self._wanted: NDArray[np.int64] = np.empty(0, np.int64)  # tokens whose rows have been, or will be, in use
        self._hooked = False

    @property
    def obstacle(self) -> str | None:
        """What keeps the embeddings from being narrowed, in words; None: nothing."""
        if self._embedding is None:
            return "the model looks up no rows"
        weight = self._embedding.weight
        if isinstance(weight, DTensor):
            return "it is sharded"
        if not weight.requires_grad:
            return "it is not trained"
        # A tied output layer needs all rows, and decoders read tokens that are not in the rows of the data.
        if sum(p is weight for _, p in self._model.named_parameters(remove_duplicate=False)) != 1:
            return "other layers use it too"
        return None

    @property
    def size(self) -> int:
        """Rows of the whole matrix; 0 where there is none."""
        weight = self.weight if self._whole is None else self._whole
        return 0 if weight is None else len(weight)

    @property
    def weight(self) -> nn.Parameter | None:
        """The parameter that the model has now; None where it looks up no rows."""
        return None if self._embedding is None else cast(nn.Parameter, self._embedding.weight)

    @property
    def is_narrow(self) -> bool:
        """Whether the model has the rows in use alone."""
        return self._whole is not None

    @property
    def wanted(self) -> NDArray[np.int64]:
        """Tokens whose rows must be in use in the next fit, beside those of its data; see :meth:`want`."""
        return self._wanted

    def want(self, tokens: Iterable[int] | NDArray[np.int64] | Tensor) -> None:
        """Has the next :meth:`narrow` keep these tokens' rows too.

        Those of earlier fits of the same model are kept by themselves: their values are in no other place, so they
        belong into a checkpoint.
        """
        self._wanted = np.union1d(self._wanted, np.asarray(tokens, dtype=np.int64))

    def want_those_of(self, state: Mapping[str, Tensor], prefix: str = "") -> None:
        """Has the next fit hold the rows that a checkpoint holds, so that it goes on exactly as it was.

        Args:
            state: the checkpoint's weights; of a model of these shapes.
            prefix: what precedes the model's names in ``state``.
        """
        self.want(state.get(f"{prefix}{self._name}{_ROWS}", ()))

    @torch.no_grad()
    def narrow(self, tokens: NDArray[np.int64]) -> None:
        """Leaves only the rows of these tokens, of padding and of :attr:`wanted`; make the optimizer afterwards.

        In every round of a run the parameter and the buffers are the same objects, and where they have not been moved
        in between, at the same addresses, so that nothing is compiled or captured anew.

        Raises:
            ValueError: there is an :attr:`obstacle`, or it is narrow already.
        """
        embedding = self._embedding
        if embedding is None or self.is_narrow or self.obstacle:
            raise ValueError(f"The embeddings cannot be narrowed: {self.obstacle or 'they are narrow'}.")
        whole, self._padding = cast(nn.Parameter, embedding.weight), embedding.padding_idx
        self.want(tokens if self._padding is None else [*tokens, self._padding])
        rows = torch.from_numpy(self._wanted)
        values = whole.index_select(0, rows.to(whole.device))
        if self._kept and self._kept[0].dtype == values.dtype and torch.equal(self._kept[1].cpu(), rows):
            held, rows, row_of = self._kept
            held.copy_(values)
        else:
            held, row_of = nn.Parameter(values), torch.full((len(whole),), len(rows))
            row_of[rows] = torch.arange(len(rows))
            rows, row_of = rows.to(whole.device), row_of.to(whole.device)
        whole.grad = None
        embedding.weight, self._whole = held, whole
        if self._padding is not None:
            embedding.padding_idx = int(row_of[self._padding])
        embedding.register_buffer(_ROWS, rows)
        embedding.register_buffer(_ROW_OF, row_of, persistent=False)
        if not self._hooked:  # and never removed: torch.compile would take another hook for another model
            embedding.register_forward_pre_hook(_look_up)
            self._hooked = True

    @torch.no_grad()
    def widen(self) -> None:
        """Puts the rows in use back into the whole matrix, the same parameter as before; if it is narrow."""
        embedding, whole = self._embedding, self._whole
        if embedding is None or whole is None:
            return
        held = cast(nn.Parameter, embedding.weight)
        held.grad = None
        # The fit may have moved the model, and the precision bf16-true converts its parameters.
        whole.data = whole.data.to(held.device, held.dtype)
        whole.index_copy_(0, embedding.get_buffer(_ROWS).to(held.device), held)
        self._kept = held, embedding.get_buffer(_ROWS), embedding.get_buffer(_ROW_OF)
        self._whole, embedding.weight = None, whole
        embedding.padding_idx = self._padding
        embedding.register_buffer(_ROWS, None)
        embedding.register_buffer(_ROW_OF, None, persistent=False)

    @torch.no_grad()
    def whole(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state of the model as it would be if it were whole; the matrix is then a copy, on its device."""
        found = dict(state)
        if self._whole is not None and self._embedding is not None:
            rows = found.pop(f"{self._name}{_ROWS}").to(self._whole.device)
            values = found[f"{self._name}weight"].to(self._whole.device)
            found[f"{self._name}weight"] = self._whole.to(values.dtype).index_copy(0, rows, values)
        return found

    @torch.no_grad()
    def adapt(self, state: MutableMapping[str, Tensor], moments: MutableMapping[str, Any], prefix: str = "") -> None:
        """Changes what a checkpoint holds to the rows that the model has now.

        A checkpoint between rounds, or of a version before this, has the whole matrix; one of a fit has that fit's
        rows. Rows that either lacks have moments of 0: they never had a gradient.

        Args:
            state: the checkpoint's weights; of a model of these shapes.
            moments: the optimizer's state of this parameter.
            prefix: what precedes the model's names in ``state``.
        """
        if self._embedding is None or f"{prefix}{self._name}weight" not in state:
            return
        name, rows = f"{prefix}{self._name}weight", f"{prefix}{self._name}{_ROWS}"
        there, here = state.pop(rows, None), self._embedding.get_buffer(_ROWS).cpu() if self.is_narrow else None
        if here is not None:
            state[rows] = here
        if there is here or (there is not None and here is not None and torch.equal(there, here)):
            return
        stored = state[name]
        weight = self._whole if self._whole is not None else self._embedding.weight
        base = weight.detach().to(stored.device)
        values = _spread(stored, there, base)
        if self._whole is not None:
            self._whole.copy_(values)
        state[name] = values if here is None else values[here]
        for key, moment in moments.items():
            if isinstance(moment, Tensor) and moment.shape == stored.shape:
                spread = _spread(moment, there, torch.zeros_like(base, dtype=moment.dtype))
                moments[key] = spread if here is None else spread[here]


def rows_in(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Which tokens' rows the weights of a checkpoint are, by the name of the matrix; empty where it is whole.

    Args:
        state: the checkpoint's weights, which may be anything.
        shapes: those of the whole model's weights. What does not go with them is left out.
    """
    found = {}
    for name, rows in state.items():
        stem, _, last = name.rpartition(".")
        weight = f"{stem}.weight"
        if last == _ROWS and name not in shapes and weight in shapes and weight in state:
            size = shapes[weight][0]
            sound = rows.dtype == torch.int64 and rows.dim() == 1 and 0 < len(rows) == state[weight].shape[:1].numel()
            if sound and rows[0] >= 0 and rows[-1] < size and bool((rows.diff() > 0).all()):
                found[weight] = rows
    return found


def unnarrowed(state: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's weights for the whole model: rows that were not in use are the model's own.

    Args:
        state: the checkpoint's weights, which fit the model.
        model: the whole model's weights, before any training.
    """
    found = dict(state)
    for name, rows in rows_in(state, {name: tuple(tensor.shape) for name, tensor in model.items()}).items():
        found[name] = _spread(state[name], rows, model[name].detach().to(state[name].device))
        del found[f"{name.removesuffix('weight')}{_ROWS}"]
    return found


def whole_shapes(state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes that a checkpoint's weights have once they are :func:`unnarrowed`; see :func:`rows_in`."""
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in rows_in(state, shapes):
        found[name] = (shapes[name][0], *found[name][1:])
        del found[f"{name.removesuffix('weight')}{_ROWS}"]
    return found


def _spread(values: Tensor, rows: Tensor | None, base: Tensor) -> Tensor:
    """A whole matrix: ``values`` at ``rows``, ``base`` elsewhere; ``values`` themselves where they are whole."""
    return values if rows is None else base.to(values.dtype).index_copy(0, rows, values)


def _look_up(embedding: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Replaces tokens by their rows, before a narrowed embedding looks these up."""
    row_of: Tensor | None = getattr(embedding, _ROW_OF)
    if row_of is None:
        return None
    ids: Tensor = args[0]
    return (row_of.index_select(0, ids.flatten()).view_as(ids), *args[1:])


def _input_embedding(model: nn.Module) -> nn.Embedding | None:
    """The module that looks up the tokens; None where something else does."""
    try:
        found = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):  # no Hugging Face model; CANINE's, which hashes characters
        return None
    return found if isinstance(found, nn.Embedding) else None
