"""theta_0 where it is on disk already: the checkpoint's own tensors, mapped into memory instead of copied.

A run goes back to theta_0 in every round, so it would hold a second model. The pages of a mapped file are the system's
to drop and to read again, and all processes of a machine share them.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lnsub.common.names import looks_local
from lnsub.common.plain_data import parse_json, read_text

_FILE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PIECE = 2**18
"""Values that are compared together: 1 MB in float32."""


def on_disk(model: nn.Module, base_model: str) -> dict[str, Tensor]:
    """Finds the tensors of a freshly loaded model that its checkpoint holds with the same values.

    Each is compared once, value by value. What the checkpoint lacks, what was converted on loading, and what is not in
    safetensors, is missing from the answer: copy that.

    The mapping stays valid where the file is removed or replaced by another, as it holds on to the old one; over NFS
    that is so only where this machine does it. A file that is written over in place changes theta_0, or ends the
    process where it becomes shorter: put a new checkpoint beside the old one and rename it.

    Args:
        model: as it was loaded, on the CPU, not sharded.
        base_model: folder or name on the Hub.

    Returns:
        Tensors by name in the model's state dictionary, with the model's shapes, in the file's own dtype: converted to
        the model's they equal the model's values. Do not write to them.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    stored = _stored(base_model)
    found: dict[str, Tensor] = {}
    same_memory: dict[tuple[int, torch.Size], Tensor] = {}  # a tied output layer is in the file under one name
    tensors = {name: tensor.detach() for name, tensor in model.state_dict().items() if _is_plain(tensor)}
    for name, tensor in tensors.items():
        # A checkpoint of the bare model lacks the prefix that a model with a head has, and the other way around.
        for candidate in dict.fromkeys((name, name.removeprefix(prefix), f"{prefix}{name}")):
            if candidate in stored and _same(tensor, stored[candidate]):
                found[name] = same_memory[tensor.data_ptr(), tensor.shape] = stored[candidate]
                break
    tied = {name: same_memory.get((tensor.data_ptr(), tensor.shape)) for name, tensor in tensors.items()}
    return found | {name: mapped for name, mapped in tied.items() if mapped is not None}


def unrounded(
    model: nn.Module,
    base_model: str,
    weights: Mapping[str, Tensor],
    exact: Callable[[], tuple[nn.Module, frozenset[str]]],
) -> dict[str, Tensor]:
    """The values in the checkpoint of weights that a model rounded when it was loaded, such as to bfloat16.

    Args:
        model: the model as it was loaded.
        base_model: folder or name on the Hub.
        weights: parameters of the model, by any names.
        exact: loads the model in float32, with the names of the parameters that the checkpoint lacks. It is asked only
            where a weight is not in safetensors, or was converted on loading.

    Returns:
        The values by the same names.
    """
    names = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    places = {name: names[id(weight)] for name, weight in weights.items()}
    found = on_disk(model, base_model)
    if any(place not in found for name, place in places.items() if not name.startswith("pooler.")):
        with torch.random.fork_rng(devices=[]):
            found = dict(exact()[0].state_dict())
    return {name: found.get(place, weights[name].detach()) for name, place in places.items()}


def _is_plain(tensor: Tensor) -> bool:
    return not isinstance(tensor, DTensor) and tensor.device.type == "cpu" and tensor.numel() > 0


def _same(loaded: Tensor, mapped: Tensor) -> bool:
    """Whether a mapped tensor converts to the values that were loaded."""
    if loaded.shape != mapped.shape or not (loaded.is_contiguous() and mapped.is_contiguous()):
        return False
    pairs = zip(loaded.view(-1).split(_PIECE), mapped.view(-1).split(_PIECE), strict=True)
    return all(torch.equal(here, there.to(here.dtype)) for here, there in pairs)


def _stored(base_model: str) -> dict[str, Tensor]:
    """All tensors of a checkpoint in safetensors, mapped; none where it is in another format."""
    try:
        return {name: tensor for path in _files(base_model) for name, tensor in _mapped(path)}
    except (OSError, SafetensorError, ValueError):  # another format, or not there any more: theta_0 is copied
        return {}


def _mapped(path: Path) -> Iterator[tuple[str, Tensor]]:
    with safe_open(path, framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118 (no dictionary)
            yield name, file.get_tensor(name)


def _files(base_model: str) -> list[Path]:
    """The files with the weights; nothing is fetched."""
    if file := _file(base_model, _FILE):
        return [file]
    if index := _file(base_model, _INDEX):
        shards = sorted(set(parse_json(read_text(index, 2**26))["weight_map"].values()))
        return [path for shard in shards if (path := _file(base_model, shard))]
    return []


def _file(base_model: str, name: str) -> Path | None:
    if looks_local(base_model):
        path = Path(base_model).expanduser() / name
        return path if path.is_file() else None
    cached = try_to_load_from_cache(base_model, name)
    return Path(cached) if isinstance(cached, str) else None
