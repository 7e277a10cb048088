"""Masks that other programs wrote: safetensors files of masks, and checkpoints whose zeros are the mask.

No pickle is read: reading one may run any code, and a file of masks can be converted where it is trusted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lnsub.common.errors import UserError
from lnsub.tickets.hub import local_file

_PICKLES = frozenset({".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".npy", ".npz"})
_PICKLED = (
    b"PK\x03\x04",
    b"\x80",
)  # torch's files are ZIP archives with a pickle in them; bare pickles start with 0x80
_CONVERT = (
    "import sys, torch; from safetensors.torch import save_file; save_file({k: v.clone().contiguous() for k, v in "
    "torch.load(sys.argv[1], weights_only=True).items()}, sys.argv[2])"
)
_MASK = re.compile(r"(\.weight)?(_mask|\.mask)$")  # torch.nn.utils.prune writes weight_mask
_MOST_LISTED = 3


@dataclass(frozen=True)
class ForeignMasks:
    """Masks by the base model's own names.

    Attributes:
        bits: boolean tensors; True keeps a weight.
        from_weights: whether they are the zeros of a checkpoint, and not masks as such.
        left_out: masks in the source of what is not prunable, such as embeddings.
    """

    bits: dict[str, Tensor]
    from_weights: bool
    left_out: tuple[str, ...]


def read_foreign(source: str | Path, shapes: Mapping[str, Sequence[int]]) -> ForeignMasks:
    """Reads masks that another program wrote.

    Masks may be boolean, or numbers that are all 0 or 1. Their names are those of the base model's parameters, with any
    prefix (``bert.``, ``module.``), and may end in ``_mask`` or ``.mask``. Other floating-point tensors are the weights
    of a pruned checkpoint, where 0 is pruned.

    Args:
        source: a safetensors file, here or on the Hugging Face Hub (``hf://``), or a folder of such.
        shapes: the shapes of the prunable weights by their names in the bare base model.

    Raises:
        UserError: it is no such file or folder, or a pickle; a prunable weight inside the model's blocks has no mask
            (a pooler's may be missing), two, or one of another shape; a mask has other values than 0 and 1; weights
            are NaN or infinite.
    """
    files = _files(local_file(source))
    names: dict[str, list[tuple[Path, str]]] = {}
    others: list[str] = []
    every = [(path, key) for path in files for key in _keys(path)]
    explicit = [(path, key) for path, key in every if _MASK.search(key)]
    for path, key in explicit or every:
        found = _matching(key, shapes)
        if found is None:
            others.append(key)
        else:
            names.setdefault(found, []).append((path, key))
    _check_names(source, names, shapes)
    bits, kinds = {}, {}
    for name, [(path, key)] in sorted(names.items()):
        bits[name], kinds[name] = _bits(f"{key} in {path}", _tensor(path, key), tuple(shapes[name]))
    from_weights = not explicit and "weights" in kinds.values()
    if not from_weights and (odd := next((n for n, kind in kinds.items() if kind not in ("mask", "binary")), None)):
        raise UserError(f"{names[odd][0][1]} in {names[odd][0][0]} is not a mask: it has values other than 0 and 1")
    if from_weights and "mask" in kinds.values():
        odd = next(name for name, kind in kinds.items() if kind == "mask")
        raise UserError(f"{source} mixes masks (such as {names[odd][0][1]}) with weights: give a file of one kind")
    return ForeignMasks(bits, from_weights, () if from_weights else tuple(sorted(others)))


def _files(source: Path) -> list[Path]:
    """The safetensors files of a source."""
    if source.is_dir():
        inside = sorted(path for path in source.iterdir() if path.is_file())
        files = [path for path in inside if path.suffix == ".safetensors"]
        if not files:
            for path in inside:
                _refuse_pickle(path, f"{source} holds no safetensors file, and {path.name} in it")
            raise UserError(f"{source} holds no safetensors file to read masks or weights from: check the folder")
        return files
    if not source.is_file():
        what = "is not a regular file" if source.exists() else "is not there"
        raise UserError(f"{source} {what}: give a safetensors file of masks, or a pruned checkpoint")
    _refuse_pickle(source, str(source))
    return [source]


def _refuse_pickle(path: Path, where: str) -> None:
    with path.open("rb") as file:
        start = file.read(4)
    if path.suffix.lower() in _PICKLES or start.startswith(_PICKLED):
        raise UserError(
            f"{where} may be a pickle, which can run any code when it is read, so lnsub reads none: where you trust "
            f"it, convert it with `python -c '{_CONVERT}' {path.name} masks.safetensors`, and import that file"
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} cannot be read as a safetensors file: {str(error).splitlines()[0][:200]}") from error


def _keys(path: Path) -> list[str]:
    with _reading(path), safe_open(path, framework="pt") as file:
        if (file.metadata() or {}).get("format", "").startswith("lnsub-ticket/"):
            raise UserError(f"{path} is a ticket already: use it as it is")
        return sorted(file.keys())


def _tensor(path: Path, key: str) -> Tensor:
    with _reading(path), safe_open(path, framework="pt") as file:
        return file.get_tensor(key)


def _matching(key: str, shapes: Mapping[str, Sequence[int]]) -> str | None:
    """The prunable weight that a tensor's name means: what is left without a suffix of masks and some prefix."""
    plain = _MASK.sub("", key)
    plain = plain if plain.endswith(".weight") else f"{plain}.weight" if plain != key else plain
    parts = plain.split(".")
    return next((name for at in range(len(parts)) if (name := ".".join(parts[at:])) in shapes), None)


def _check_names(
    source: str | Path, names: Mapping[str, list[tuple[Path, str]]], shapes: Mapping[str, Sequence[int]]
) -> None:
    needed = [name for name in shapes if not name.startswith("pooler.")]
    if missing := [name for name in needed if name not in names]:
        listed = ", ".join(missing[:_MOST_LISTED]) + (", ..." if len(missing) > _MOST_LISTED else "")
        raise UserError(
            f"{source} has nothing for {len(missing):,} of the {len(needed):,} prunable weights in the base model's "
            f"blocks ({listed}): give all masks in one file or folder, and the base model that they are of"
        )
    if twice := next((found for found in names.values() if len(found) > 1), None):
        (path, key), (other_path, other) = twice[:2]
        raise UserError(
            f"{source} has two tensors for one weight: {key} in {path.name} and {other} in {other_path.name}"
        )


def _bits(where: str, tensor: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, str]:
    """What a tensor keeps, and what it may be: a mask by its type, ``binary`` numbers, ``weights``, or neither."""
    if tuple(tensor.shape) != shape:
        raise UserError(
            f"{where} has the shape {tuple(tensor.shape)}, but the base model's weight {shape}: give this model's masks"
        )
    if tensor.dtype == torch.bool:
        return tensor, "mask"
    if tensor.is_complex():
        raise UserError(f"{where} has complex numbers, which are neither masks nor weights")
    whole = not tensor.is_floating_point()
    tensor = tensor.to(torch.float32)
    if not tensor.isfinite().all():
        raise UserError(f"{where} has values that are NaN or infinite: export it again")
    kept = tensor != 0
    if bool((~kept | (tensor == 1)).all()):
        return kept, "mask" if whole else "binary"
    if whole or bool(((tensor >= 0) & (tensor <= 1)).all()):
        return kept, "neither"
    return kept, "weights"
