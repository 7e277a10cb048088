"""Attacks by model folders: configurations, tokenizers and weights that no model has, hostile ones, and FIFOs.

Each case breaks a copy of a good BERT folder in one place, and gives it to one of the commands that take a model.
"""

import itertools
import json
import os
import pickle
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

from tests.attacks.cases import Case, fifo, fit, the_run
from tests.support.trials import World

Break = Callable[[Path], object]
"""Breaks the model's folder that it is given."""

MARK = "ran-code"
"""The file that hostile code makes, in the working directory: a write that the attack's driver finds."""

_CODE = f"import pathlib\npathlib.Path({MARK!r}).touch()\nclass Mine:\n    pass\n"

_SETTINGS: list[tuple[str, Any]] = [
    *(("hidden_size", value) for value in ("64", -1, 0, None, 17, 1.5, [16], {}, 10**9, 2**70)),
    *(("num_hidden_layers", value) for value in (-1, 0, 10**9, "2", None, 1.5, [])),
    *(("num_attention_heads", value) for value in (3, 0, -2, "2", None, 10**9)),
    *(("vocab_size", value) for value in (3, 0, -1, "60", None, 10**12)),
    *(("max_position_embeddings", value) for value in (0, -1, "64", None, 8, 10**12)),
    *(("intermediate_size", value) for value in (0, -1, "32", None, 31)),
    *(("type_vocab_size", value) for value in (0, 1, -1, "2", None)),
    *(("hidden_act", value) for value in ("no such act", "", 5, None, ["gelu"])),
    *(("hidden_dropout_prob", value) for value in (2, -0.1, "0.1", float("nan"))),
    *(("attention_probs_dropout_prob", value) for value in (2, -0.1, float("inf"))),
    *(("layer_norm_eps", value) for value in ("x", -1.0, float("nan"), None, 1e300)),
    *(("initializer_range", value) for value in (-1, "x", float("nan"), float("-inf"))),
    *(("pad_token_id", value) for value in (10**6, -(10**6), "0", 1.5)),
    *(("model_type", value) for value in ("no such type", "", 5, None, [], "t5", "vit", "gpt2", "../bert")),
    *(("num_labels", value) for value in (10**9, "3", -1)),
    ("quantization_config", {"quant_method": "no such method"}),
    ("quantization_config", 5),
    ("id2label", [1]),
    ("deep", json.loads("[" * 400 + "]" * 400)),
]
"""What a case puts into config.json."""

_WHOLE_FILES: list[tuple[str, bytes]] = [
    *(("config.json", text) for text in (b"", b"[]", b"null", b"5", b"{", b"\xff\xfe{}", b"{}", b"[" * 10**5)),
    *(("tokenizer.json", text) for text in (b"", b"{}", b"[]", b"null", b"{", b"[" * 10**5, b"\xff")),
    *(("tokenizer_config.json", text) for text in (b"[]", b"{", b"5", b"\xff\xff", b"[" * 10**5)),
    *(("special_tokens_map.json", text) for text in (b"{", b"[]", b"\xff")),
    *(("added_tokens.json", text) for text in (b"{", b"[]")),
    *(("model.safetensors", data) for data in (b"", b"{}", b"\xff" * 8 + b"{}", b"\0" * 100, bytes(8) + b"x")),
    ("model.safetensors", struct.pack("<Q", 2) + b"{}"),
    ("config.json", b'{"a": "' + b"x" * 2**21 + b'"}'),
]
"""What a case puts in the place of a file."""

_TOKENIZER_SETTINGS: list[tuple[str, Any]] = [
    *(("model_max_length", value) for value in ("64", -1, 0, [64], float("nan"))),
    *(("model_input_names", value) for value in (5, [], ["no such input"], [5])),
    *(("pad_token", value) for value in (5, ["[PAD]"], None, "[NEW]")),
    *(("tokenizer_class", value) for value in (5, ["Fast"])),
    ("truncation_side", "no such side"),
    ("extra_special_tokens", 5),
]

_VOCABULARY: list[tuple[tuple[str, ...], Any]] = [
    (("model",), None),
    (("model",), {}),
    (("model", "type"), "no such type"),
    (("model", "vocab"), {}),
    (("model", "vocab"), 5),
    (("model", "vocab", "cat"), 10**6),
    (("model", "vocab", "cat"), -1),
    (("model", "vocab", "cat"), "1"),
    (("model", "unk_token"), "no such token"),
    (("pre_tokenizer",), {"type": "no such type"}),
    (("post_processor", "special_tokens"), {}),
    (("post_processor", "special_tokens", "[CLS]", "ids"), [10**6]),
    (("added_tokens",), 5),
    (("version",), "9.9"),
    (("normalizer",), {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}),
    (("truncation",), 5),
]
"""What a case puts into tokenizer.json, and where."""


def cases(rng: random.Random) -> Iterator[Case]:
    """Yields what breaks a model's folder: those that someone thought of, then drawn ones without end."""
    breaks = [*_of_settings(), *_of_files(), *_of_tokenizers(), *_of_weights(), *_of_code()]
    commands = itertools.cycle(_COMMANDS)
    for name, broken in breaks:
        command = next(commands)
        yield _case(f"model folders: {name}: {command}", broken, command)
    for number in itertools.count(1):
        name, broken = _drawn(rng)
        yield _case(f"model folders: drawn {number}: {name}", broken, rng.choice(list(_COMMANDS)))


def _fit(folder: Path, world: World, model: Path) -> list[str]:
    return fit(folder, world, {"model.base_model": model}.items())


def _validate(folder: Path, world: World, model: Path) -> list[str]:
    return fit(folder, world, {"model.base_model": model}.items(), "validate")


def _retrieve(folder: Path, world: World, model: Path) -> list[str]:
    return ["retrieve", f"--base-model={model}", "--k=1", "--pairs", str(world.path / "pairs")]


def _export(folder: Path, world: World, model: Path) -> list[str]:
    return ["export", str(the_run(world).ticket), f"--base-model={model}", f"--output={folder / 'out'}"]


_COMMANDS = {"fit": _fit, "validate": _validate, "retrieve": _retrieve, "export": _export}


def _case(name: str, broken: Break, command: str) -> Case:
    def make(folder: Path, world: World) -> list[str]:
        model = folder / "model"
        copytree(world.path / "base", model)
        broken(model)
        return _COMMANDS[command](folder, world, model)

    return Case(name, make)


def _of_settings() -> Iterator[tuple[str, Break]]:
    for key, value in _SETTINGS:
        yield f"{key}: {_short(value)}", lambda model, key=key, value=value: _set(model / "config.json", (key,), value)
    yield "no model_type", lambda model: _rewrite(model / "config.json", lambda found: found.pop("model_type"))
    for key, value in _TOKENIZER_SETTINGS:
        yield (
            f"tokenizer_config.json: {key}: {_short(value)}",
            lambda model, key=key, value=value: _set(model / "tokenizer_config.json", (key,), value),
        )


def _of_files() -> Iterator[tuple[str, Break]]:
    for name, data in _WHOLE_FILES:
        yield f"{name} is {_short(data)}", lambda model, name=name, data=data: (model / name).write_bytes(data)
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
        "generation_config.json",
    ):
        yield f"{name} is a FIFO", lambda model, name=name: fifo(model / name)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        yield f"{name} is missing", lambda model, name=name: (model / name).unlink()
        yield f"{name} is a folder", lambda model, name=name: _replace(model / name, Path.mkdir)
        yield (
            f"{name} is a link to itself",
            lambda model, name=name: _replace(model / name, lambda path: path.symlink_to(path.name)),
        )
        yield f"{name} is cut", lambda model, name=name: os.truncate(model / name, (model / name).stat().st_size // 2)
        yield f"{name} is endless zeros", lambda model, name=name: os.truncate(model / name, 2**29)
    yield (
        "weights are a device",
        lambda model: _replace(model / "model.safetensors", lambda path: path.symlink_to("/dev/zero")),
    )


def _of_tokenizers() -> Iterator[tuple[str, Break]]:
    for place, value in _VOCABULARY:
        yield (
            f"tokenizer.json: {'.'.join(place)}: {_short(value)}",
            lambda model, place=place, value=value: _set(model / "tokenizer.json", place, value),
        )
    yield "more tokens than embeddings", lambda model: _rewrite(model / "tokenizer.json", _more_tokens)
    yield "a type of tokens beyond the model's", lambda model: _token_type(model, 7)


def _of_weights() -> Iterator[tuple[str, Break]]:
    query = "bert.encoder.layer.1.attention.self.query.weight"
    for name, change in {
        "NaN": lambda tensor: tensor.fill_(float("nan")),
        "one infinite": lambda tensor: tensor.view(-1)[3:4].fill_(float("inf")) is None or tensor,
        "of another shape": lambda tensor: tensor[:-1].clone(),
        "of one dimension": lambda tensor: tensor.flatten(),
        "a number": lambda tensor: tensor[0, 0].clone(),
        "integers": lambda tensor: tensor.int(),
        "booleans": lambda tensor: tensor > 0,
        "bytes": lambda tensor: tensor.byte(),
        "complex": lambda tensor: tensor.cfloat(),
        "empty": lambda tensor: tensor[:0].clone(),
        "missing": lambda tensor: None,
    }.items():
        yield f"a weight is {name}", lambda model, change=change: _reweigh(model, query, change)
    yield (
        "embeddings are NaN",
        lambda model: _reweigh(
            model, "bert.embeddings.word_embeddings.weight", lambda tensor: tensor.fill_(float("nan"))
        ),
    )
    yield "a bias is integers", lambda model: _reweigh(model, query.replace("weight", "bias"), lambda t: t.int())
    yield "no tensor at all", lambda model: _save(model, {})
    yield "tensors of nothing known", lambda model: _save(model, {"a": _tensors(model)[query]})
    for name, place in {
        "a missing shard": "model-00001.safetensors",
        "a shard above the folder": "../model-00001.safetensors",
        "a shard of the system": "/etc/passwd",
        "a shard that is the folder": ".",
        "a shard without a name": "",
        "a shard that is a number": 5,
    }.items():
        yield f"the index names {name}", lambda model, place=place: _index(model, {"weight_map": {query: place}})
    for name, index in {
        "a list": [],
        "nothing": {},
        "no shards": {"weight_map": {}},
        "text": {"weight_map": "x"},
    }.items():
        yield f"the index is {name}", lambda model, index=index: _index(model, index)


def _of_code() -> Iterator[tuple[str, Break]]:
    yield "a pickle that runs code", lambda model: _pickle(model, pickle.dumps(_Hostile()))
    yield "a pickle of no tensors", lambda model: _pickle(model, pickle.dumps({"a": 5}))
    yield "a pickle that is cut", lambda model: _pickle(model, pickle.dumps({"a": 5})[:-4])
    yield "a pickle of zeros", lambda model: _pickle(model, bytes(1000))
    for name in ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification", "AutoTokenizer"):
        yield f"auto_map: {name} of its own", lambda model, name=name: _auto_map(model, name, "mine.Mine")
        yield f"auto_map: {name} of elsewhere", lambda model, name=name: _auto_map(model, name, "a/b--mine.Mine")


class _Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(MARK),)


def _auto_map(model: Path, name: str, place: str) -> None:
    """Has the folder ask for code, of a type that nothing else is known for."""
    (model / "mine.py").write_text(_CODE)
    _rewrite(
        model / "config.json",
        lambda found: found.update(auto_map={name: place}, model_type="mine", trust_remote_code=True),
    )


def _drawn(rng: random.Random) -> tuple[str, Break]:
    """A break at a place that is drawn."""
    kind = rng.choice(["setting", "cut", "weight", "vocabulary"])
    if kind == "setting":
        key = rng.choice(["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"])
        value = rng.choice([-rng.randrange(1, 10**9), rng.randrange(10**6, 10**15), "x", [], {}, None, 2.5])
        return f"{key}: {value}", lambda model: _set(model / "config.json", (key,), value)
    share = rng.random()
    if kind == "cut":
        name = rng.choice(["config.json", "tokenizer.json", "model.safetensors"])
        return (
            f"{name} cut at {share:.3f}",
            lambda model: os.truncate(model / name, int((model / name).stat().st_size * share * 0.99)),
        )
    if kind == "weight":
        value = rng.choice([float("nan"), float("inf"), float("-inf")])
        return f"a weight at {share:.3f} is {value}", lambda model: _poison(model, share, value)
    number = rng.randrange(10**3, 2**32)
    return f"a token numbered {number}", lambda model: _rewrite(
        model / "tokenizer.json", lambda found: found["model"]["vocab"].update(cat=number)
    )


def _poison(model: Path, share: float, value: float) -> None:
    """Makes one weight of the encoder something else than a number."""
    names = [name for name in sorted(_tensors(model)) if ".layer." in name]
    name = names[int(share * len(names))]
    _reweigh(model, name, lambda tensor: tensor.view(-1)[:1].fill_(value) is None or tensor)


def _rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")


def _set(path: Path, place: tuple[str, ...], value: Any) -> None:
    def change(found: dict[str, Any]) -> None:
        for key in place[:-1]:
            found = found[key]
        found[place[-1]] = value

    _rewrite(path, change)


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _more_tokens(found: dict[str, Any]) -> None:
    vocabulary = found["model"]["vocab"]
    vocabulary |= {f"new{number}": len(vocabulary) + number for number in range(50)}


def _token_type(model: Path, number: int) -> None:
    def change(found: dict[str, Any]) -> None:
        for piece in found["post_processor"]["pair"]:
            next(iter(piece.values()))["type_id"] = number

    _rewrite(model / "tokenizer.json", change)
    names = ["input_ids", "token_type_ids", "attention_mask"]
    _set(model / "tokenizer_config.json", ("model_input_names",), names)


def _tensors(model: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(model / "model.safetensors")


def _save(model: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def _reweigh(model: Path, name: str, change: Callable[[Any], Any]) -> None:
    tensors = _tensors(model)
    changed = change(tensors.pop(name))
    _save(model, tensors if changed is None else {**tensors, name: changed.contiguous()})


def _index(model: Path, index: object) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def _pickle(model: Path, data: bytes) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(data)


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 30 else f"{text[:20]}... ({len(text)})"
