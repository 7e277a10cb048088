"""What a model's files must be before anything is made of them.

Anybody may have written a model's folder. transformers trusts it: it waits for a FIFO, builds a thousand million layers
where the configuration says so, and takes integers for weights. Each function here raises :class:`UnreadableError`,
whose message is the reason as the end of a sentence, before memory or time is spent.
"""

import math
import pickle
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor
from transformers import CONFIG_MAPPING
from transformers.modeling_utils import load_state_dict

from lnsub.common.plain_data import UnreadableError, parse_json, read_text

OBJECTS = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
"""The JSON files that have one object each; a megabyte is plenty for any."""

_LONG_NUMBER = re.compile(r"\b1000000000000000019884624838656\b")

MOST_TOKENIZER_BYTES = 2**28
"""The largest ``tokenizer.json``; that of Gemma's 262,144 pieces has 33 MB."""

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where the weights are: transformers takes the first that is there."""

_BOUNDS = (
    # Python makes a list of these, in the configuration already, so a large one is a hang; 126 layers are the most yet.
    (re.compile(r"^(num|n)_.*(layers?|heads?|labels|blocks|experts)$|^n_(layer|head)$|_layers$"), 0, 10_000),
    (re.compile(r"(^|_)(eps|epsilon)$"), 0, 1),
    (re.compile(r"(^|_)(dropout|dropout_prob|dropout_rate|pdrop|layerdrop)$"), 0, 1),
    (re.compile(r"^(initializer_range|initializer_factor|init_std)$"), 0, math.inf),
)
"""What a number in a configuration may be, by its name: the least and the most.

All other sizes are those of parameters, which are counted on a model without memory (:mod:`lnsub.models.skeleton`).
"""


def check_files(folder: Path) -> None:
    """Refuses a folder with what cannot be read, or not within bounds.

    Raises:
        UnreadableError: a FIFO or a device is in it; a JSON file is no object, too large or nested too deeply; a shard
            of the weights is missing, or outside of the folder.
        OSError: a file cannot be read.
    """
    for path in sorted(folder.iterdir()):
        # What opens a FIFO waits for its writer. A link that leads nowhere is, for transformers, no file.
        if path.exists() and not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise UnreadableError(f"{path.name} is a FIFO, a device or a socket, not a file")
    for name in OBJECTS:
        if (folder / name).is_file():
            _read_object(folder / name)
    vocabulary = folder / "tokenizer.json"
    if vocabulary.is_file() and vocabulary.stat().st_size > MOST_TOKENIZER_BYTES:
        raise UnreadableError(f"tokenizer.json has more than {MOST_TOKENIZER_BYTES:,} bytes")
    list(_weight_files(folder))


def check_config(config: Mapping[str, Any]) -> None:
    """Refuses a configuration, as it was read, with code or with numbers that no model has.

    Raises:
        UnreadableError: the model needs code of its own, or is quantised; or a number is NaN, infinite or out of its
            bounds.
    """
    if "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING:
        raise UnreadableError("it needs code of its own (auto_map in config.json), which lnsub does not run")
    if config.get("quantization_config") is not None:
        raise UnreadableError("its weights are quantised (quantization_config in config.json): use the model as it was")
    for name, value in _numbers(config):
        if not math.isfinite(value):
            raise UnreadableError(f"{name} is {value} in config.json")
        for names, least, most in _BOUNDS:
            if names.search(name) and not least <= value <= most:
                raise UnreadableError(f"{name} is {value} in config.json, not from {least} to {most:,}")


def check_weights(folder: Path, parameters: int) -> None:
    """Refuses weights that cannot be those of a model, from the files' headers alone.

    Args:
        folder: the model's folder.
        parameters: how many the configuration asks for.

    Raises:
        UnreadableError: there are no weights; they are integers; they are less than half of the parameters, so that
            most of the model would be drawn at random, in memory of any size.
        Exception: whatever torch and safetensors raise for a damaged file.
    """
    stored = 0
    for path in _weight_files(folder):
        for name, tensor in _shapes(path).items():
            if not isinstance(tensor, Tensor):
                raise UnreadableError(f"{path.name} holds {name}, which is no tensor")
            if name.endswith((".weight", ".bias", ".gamma", ".beta")) and not tensor.is_floating_point():
                kind = str(tensor.dtype).removeprefix("torch.")
                raise UnreadableError(f"the weights {name} in {path.name} are of type {kind}, not floating point")
            stored += tensor.numel()
    if not stored:
        raise UnreadableError(f"it holds no weights: none of {', '.join(WEIGHTS)} has any")
    # A head that the file lacks is much smaller than the rest, except an output layer, which is as large as the
    # embeddings that the file must have.
    if parameters > 2 * stored:
        raise UnreadableError(
            f"config.json describes a model of {parameters:,} parameters, but its files hold only {stored:,}"
        )


def _shapes(path: Path) -> dict[str, Any]:
    """The tensors of a file with weights, without their values; a pickle's code does not run."""
    try:
        return load_state_dict(path, map_location="meta")
    except pickle.UnpicklingError as error:  # torch's message is a page on how to run it all the same
        raise UnreadableError(f"{path.name} is damaged, or holds other things than tensors") from error


def _weight_files(folder: Path) -> Iterator[Path]:
    """The files with the weights; all shards of the first kind that is there."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None or not found.name.endswith(".index.json"):
        yield from [found] if found else []
        return
    shards = _read_object(found, most=2**26).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise UnreadableError(f"{found.name} has no weight_map from weights to files")
    for name in sorted({str(name) for name in shards.values()}):
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise UnreadableError(f"{found.name} names {name!r}, which is outside of the folder")
        if not (folder / name).is_file():
            raise UnreadableError(f"{found.name} names {name!r}, which is not there")
        yield folder / name


def _read_object(path: Path, most: int = 2**20) -> dict[str, Any]:
    try:
        text = read_text(path, most)
        # transformers writes "no longest input" as a whole number of 100 bits, which is no plain value.
        found = parse_json(_LONG_NUMBER.sub("0", text) if path.name == "tokenizer_config.json" else text)
    except UnreadableError as error:
        raise UnreadableError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise UnreadableError(f"{path.name} is not a JSON object")
    return found


def _numbers(config: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """All numbers of a configuration and of those inside of it, with their names."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield str(name), value
