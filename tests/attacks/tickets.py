"""Bad tickets: cut off, changed, too large or of another kind in every way, for every command that reads them."""

import itertools
import json
import os
import pickle
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.attacks.cases import Case, fifo, fit, the_run
from tests.support.trials import World

Bytes = Callable[[bytes], bytes]
Command = Callable[[Path, World, str], list[str]]


def _whole(_: Path, world: World) -> str:
    """An unspoiled ticket of the same run."""
    return str(the_run(world).other_ticket)


def _transfer(folder: Path, world: World, bad: str) -> list[str]:
    config = the_run(world).config
    return ["transfer", f"--config={config}", "--tickets", bad, _whole(folder, world), "--languages=en", "--output=out"]


def _ablate(folder: Path, world: World, bad: str) -> list[str]:
    there = the_run(world)
    named = ["--tickets", bad, _whole(folder, world), "--languages=en", "--output=out", "--draws=1", "--examples=2"]
    return ["ablate", f"--config={there.config}", f"--checkpoint={there.run / 'checkpoints' / 'last.ckpt'}", *named]


COMMANDS: dict[str, Command] = {
    "ticket info": lambda folder, world, bad: ["ticket", "info", _whole(folder, world), bad],
    "ticket verify": lambda folder, world, bad: ["ticket", "verify", bad, _whole(folder, world)],
    "overlap": lambda folder, world, bad: ["overlap", _whole(folder, world), bad],
    "combine": lambda folder, world, bad: [
        "combine",
        "union",
        bad,
        _whole(folder, world),
        "--output=out/u",
    ],
    "export": lambda folder, world, bad: ["export", bad, "--output=out/model"],
    "retrieve": lambda folder, world, bad: [
        *("retrieve", f"--base-model={world.path / 'base'}", f"--pairs={world.path / 'pairs'}", "--tickets", bad),
        *("--output=out/table", "--k=1"),
    ],
    "transfer": _transfer,
    "ablate": _ablate,
    "fit": lambda folder, world, bad: fit(
        folder, world, [("model.ticket", bad), ("trainer.callbacks", None), ("trainer.max_epochs", 1)]
    ),
}


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the masks of a ticket file."""
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def joined(header: Any, masks: bytes) -> bytes:
    """A file of a header, which may be any JSON or text, and masks."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + masks


def _header(change: Callable[[dict[str, Any]], object]) -> Bytes:
    """A ticket whose header was changed."""

    def spoil(content: bytes) -> bytes:
        header, masks = parts(content)
        replaced = change(header)
        return joined(header if replaced is None or not isinstance(replaced, dict) else replaced, masks)

    return spoil


def _metadata(**changes: Any) -> Bytes:
    """A ticket whose metadata was changed, and has no checksum, as an earlier version wrote it; None takes one away."""

    def change(header: dict[str, Any]) -> None:
        metadata = header["__metadata__"] | {"metadata_checksum": None, **changes}
        header["__metadata__"] = {key: value for key, value in metadata.items() if value is not None}

    return _header(change)


def _entry(**changes: Any) -> Bytes:
    """A ticket the header of whose first mask was changed."""

    def change(header: dict[str, Any]) -> None:
        name = next(name for name in header if name != "__metadata__")
        header[name] = {key: value for key, value in (header[name] | changes).items() if value is not None}

    return _header(change)


def _entries(count: int, size: int) -> Bytes:
    """A ticket of very many masks, whose shapes and checksum are right."""

    def spoil(content: bytes) -> bytes:
        import hashlib

        header, _ = parts(content)
        names = [f"encoder.layer.{number}.output.dense.weight" for number in range(count)]
        masks = bytes(size * count)
        metadata = header["__metadata__"] | {
            "shapes": json.dumps({name: [8 * size] for name in names}),
            "checksum": hashlib.sha256(masks).hexdigest(),
        }
        metadata.pop("metadata_checksum")
        made: dict[str, Any] = {"__metadata__": metadata}
        for place, name in enumerate(names):
            made[name] = {"dtype": "U8", "shape": [size], "data_offsets": [place * size, place * size + size]}
        return joined(made, masks)

    return spoil


def _renamed(to: str) -> Bytes:
    def change(header: dict[str, Any]) -> None:
        name = next(name for name in header if name != "__metadata__")
        header[to] = header.pop(name)

    return _header(change)


def _flipped(place: float) -> Bytes:
    """A flipped bit at a share of the file's length."""

    def spoil(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[min(int(place * len(changed)), len(changed) - 1)] ^= 1
        return bytes(changed)

    return spoil


def _saved(**tensors: Any) -> bytes:
    from safetensors.numpy import save

    return save(tensors)


ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e"
SPOILED: dict[str, Bytes] = {
    "nothing": lambda content: b"",
    "seven bytes": lambda content: content[:7],
    "its length alone": lambda content: content[:8],
    "half its header": lambda content: content[:500],
    "its header alone": lambda content: joined(parts(content)[0], b""),
    "half of it": lambda content: content[: len(content) // 2],
    "all but a byte": lambda content: content[:-1],
    "a byte too many": lambda content: content + b"\0",
    "itself twice": lambda content: content * 2,
    "zeros": lambda content: bytes(len(content)),
    "noise": lambda content: random.Random(1).randbytes(len(content)),
    "text": lambda content: b"a ticket, honestly\n" * 20,
    "a pickle": lambda content: pickle.dumps({"mask": [1, 0]}),
    "a pickle that runs": lambda content: b"cos\nsystem\n(S'touch pwned'\ntR.",
    "a zip": lambda content: b"PK\x03\x04" + content,
    "a pointer of Git LFS": lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
    "a header of 2**64 bytes": lambda content: b"\xff" * 8 + content[8:],
    "a header of 2**63 bytes": lambda content: struct.pack("<Q", 2**63) + content[8:],
    "a header of 2**40 bytes": lambda content: struct.pack("<Q", 2**40) + content[8:],
    "a header of 100 MB": lambda content: struct.pack("<Q", 10**8) + content[8:],
    "a header of 100 MB of blanks": lambda content: struct.pack("<Q", 10**8) + b"{" + b" " * (10**8 - 1),
    "a header of 60 MB of brackets": lambda content: joined(b'{"a":[' + b"[]," * 20_000_000, b""),
    "a header of no bytes": lambda content: bytes(8) + content[8:],
    "a header of text": lambda content: joined(b"hello", b""),
    "a header of a list": lambda content: joined([1, 2], b""),
    "a header of null": lambda content: joined(None, b""),
    "a header of 100,000 levels": lambda content: joined(b"[" * 100_000, b""),
    "a header of 100,000 objects": lambda content: joined(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b""),
    "a header of Latin-1": lambda content: joined(b'{"\xe9": 1}', b""),
    "an empty header": lambda content: joined({}, b""),
    "a model": lambda content: _saved(weight=_floats()),
    "metadata of a list": _header(lambda header: header | {"__metadata__": ["a"]}),
    "metadata of numbers": _header(lambda header: header | {"__metadata__": {"format": 1}}),
    "metadata of levels": _header(lambda header: header | {"__metadata__": {"format": {"a": {}}}}),
    "no metadata": _header(lambda header: {name: value for name, value in header.items() if name != "__metadata__"}),
    "no format": _metadata(format=None),
    "a newer format": _metadata(format="lnsub-ticket/2"),
    "a format of escapes": _metadata(format=f"lnsub-ticket/{ESCAPES}"),
    "another format": _metadata(format="pt"),
    "no masks": _header(lambda header: {"__metadata__": header["__metadata__"]}),
    "a mask of floats": _entry(dtype="F32"),
    "a mask of booleans": _entry(dtype="BOOL"),
    "a mask of bfloat16": _entry(dtype="BF16"),
    "a mask of no type": _entry(dtype=None),
    "a mask of an unknown type": _entry(dtype=ESCAPES),
    "a mask of two dimensions": _entry(shape=[16, 2]),
    "a mask of no dimensions": _entry(shape=[]),
    "a mask of another size": _entry(shape=[31]),
    "a mask of a negative size": _entry(shape=[-32]),
    "a mask of a size of 2**70": _entry(shape=[2**70]),
    "a mask of a size that is text": _entry(shape=["32"]),
    "a mask without a size": _entry(shape=None),
    "a mask at no place": _entry(data_offsets=None),
    "a mask at one place": _entry(data_offsets=[0]),
    "a mask at a place beyond": _entry(data_offsets=[10**9, 10**9 + 32]),
    "a mask at a place before": _entry(data_offsets=[-32, 0]),
    "a mask that ends before it begins": _entry(data_offsets=[32, 0]),
    "a mask at a place of 2**70": _entry(data_offsets=[0, 2**70]),
    "a mask at a place that is text": _entry(data_offsets="ab"),
    "a mask that is a number": _header(lambda header: header | {"a.weight": 7}),
    "masks that overlap": _entry(data_offsets=[8, 40]),
    "a mask of another name": _renamed("encoder.weight"),
    "a mask of a name of escapes": _renamed(ESCAPES),
    "a mask of an empty name": _renamed(""),
    "a mask of a name of 100,000 letters": _renamed("x" * 100_000),
    "a mask of a path": _renamed("../../x"),
    "200,000 masks": _entries(200_000, 1),
    "100,000 masks": _entries(100_000, 1),
    "no shapes": _metadata(shapes=None),
    "shapes of a list": _metadata(shapes="[]"),
    "shapes of null": _metadata(shapes="null"),
    "shapes of NaN": _metadata(shapes="NaN"),
    "shapes that are cut off": _metadata(shapes='{"a": [1'),
    "shapes of 100,000 levels": _metadata(shapes="[" * 100_000),
    "shapes of 100,000 levels, closed": _metadata(shapes="[" * 100_000 + "]" * 100_000),
    "shapes of 100,000 objects": _metadata(shapes='{"a":' * 100_000 + "1" + "}" * 100_000),
    "shapes of 990 levels": _metadata(shapes="[" * 990 + "]" * 990),
    "shapes of 5,000 digits": _metadata(shapes='{"pooler.dense.weight": [' + "9" * 5000 + "]}"),
    "shapes of 4,000 digits": _metadata(shapes='{"pooler.dense.weight": [' + "9" * 4000 + "]}"),
    "shapes of 50,000 dimensions": _metadata(shapes='{"pooler.dense.weight": [' + ",".join("1" * 50_000) + "]}"),
    "shapes of 1,000,000 names": _metadata(shapes=json.dumps({str(number): [1] for number in range(1_000_000)})),
    "shapes of other names": _metadata(shapes='{"a": [8]}'),
    "shapes of a name of escapes": _metadata(shapes=json.dumps({ESCAPES: [8]})),
    "shapes of zeros": _metadata(shapes='{"pooler.dense.weight": [0, 8]}'),
    "shapes of negative numbers": _metadata(shapes='{"pooler.dense.weight": [-8, -8]}'),
    "no checksum": _metadata(checksum=None),
    "another checksum": _metadata(checksum="0" * 64),
    "a checksum of escapes": _metadata(checksum=ESCAPES),
    "an empty checksum": _metadata(checksum=""),
    "a language that its checksum does not fit": _header(lambda header: header["__metadata__"].update(language="de")),
    "a key that its checksum does not fit": _header(lambda header: header["__metadata__"].update(new="x")),
    "no language": _metadata(language=None),
    "an empty language": _metadata(language=""),
    "a language of a path": _metadata(language="../../x"),
    "a language of escapes": _metadata(language=ESCAPES),
    "a language of 10 MB": _metadata(language="x" * 10_000_000),
    "a mixture with a path": _metadata(language="en+../x"),
    "a task of a path": _metadata(task="/etc"),
    "a task of escapes": _metadata(task=ESCAPES),
    "a task of a formula": _metadata(task="=cmd/x"),
    "a seed of 5,000 digits": _metadata(seed="9" * 5000),
    "a seed of 4,000 digits": _metadata(seed="9" * 4000),
    "a seed of a word": _metadata(seed=ESCAPES),
    "a seed of a half": _metadata(seed="1.5"),
    "a negative seed": _metadata(seed="-2"),
    "no round": _metadata(round=None),
    "a round of nothing": _metadata(round=""),
    "a sparsity of nan": _metadata(sparsity="nan"),
    "a sparsity of inf": _metadata(sparsity="inf"),
    "a sparsity above 1": _metadata(sparsity="1.5"),
    "a sparsity of escapes": _metadata(sparsity=ESCAPES),
    "a sparsity of 1 MB": _metadata(sparsity="9" * 1_000_000),
    "another base model of escapes": _metadata(base_fingerprint="00" * 32, base_model=ESCAPES),
}
OWN = {  # what some commands may read: as it is no flaw of the file, or as a cell of a transfer that fails is not all
    "another base model of escapes": {"ticket info", "ticket verify"},
    "another checksum": {"transfer"},
}
PLACES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a FIFO": lambda path: fifo(path),
    "a folder": lambda path: path.mkdir(),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to the disk of memory": lambda path: path.symlink_to("/proc/self/mem"),
    "a gigabyte of nothing": lambda path: _sparse(path),
}


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        os.truncate(file.fileno(), 2**30)


def _floats() -> Any:
    import numpy as np

    return np.ones((3, 4), np.float32)


def cases(rng: random.Random) -> Iterator[Case]:
    """Bad tickets without end: each listed one for a few commands, which are drawn, then bits and bytes at random."""
    listed = []
    for what, spoil in SPOILED.items():
        fitting = [name for name in COMMANDS if name not in OWN.get(what, ())]
        for name in rng.sample(fitting, 3):
            listed.append(Case(f"tickets: {name} of {what}", _spoiled(name, spoil)))
    for what, put in PLACES.items():
        listed += [Case(f"tickets: {name} where {what} is", _placed(name, put)) for name in COMMANDS]
    rng.shuffle(listed)
    yield from listed
    for number in itertools.count(1):
        name, seed = rng.choice(list(COMMANDS)), rng.randrange(2**32)
        how = rng.choice([how for how in RANDOM if (name, how) != ("transfer", "flipped bits")])
        yield Case(f"tickets: {number}: {name}, {how}", _spoiled(name, _drawn(how, seed)))


def _placed(name: str, put: Callable[[Path], object]) -> Callable[[Path, World], list[str]]:
    def make(folder: Path, world: World) -> list[str]:
        put(folder / "bad.safetensors")
        return COMMANDS[name](folder, world, "bad.safetensors")

    return make


def _spoiled(name: str, spoil: Bytes) -> Callable[[Path, World], list[str]]:
    def make(folder: Path, world: World) -> list[str]:
        content = spoil(the_run(world).ticket.read_bytes())
        (folder / "bad.safetensors").write_bytes(content)
        return COMMANDS[name](folder, world, "bad.safetensors")

    return make


def _bits(content: bytes, rng: random.Random) -> bytes:
    """Flips a few bits of the masks, which the checksum covers to the last."""
    changed = bytearray(content)
    start = len(content) - len(parts(content)[1])
    for place in rng.sample(range(start, len(content)), rng.randint(1, 5)):
        changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _gone(content: bytes, rng: random.Random) -> bytes:
    """Takes some bytes out."""
    place = rng.randrange(8, len(content) - 1)
    return content[:place] + content[place + rng.randint(1, 50) :]


def _more(content: bytes, rng: random.Random) -> bytes:
    """Puts some bytes in."""
    place = rng.randrange(8, len(content))
    return content[:place] + rng.randbytes(rng.randint(1, 50)) + content[place:]


def _value(content: bytes, rng: random.Random) -> bytes:
    """Gives a field of the metadata another value, which the checksum over it finds."""
    header, masks = parts(content)
    metadata = header["__metadata__"]
    name = rng.choice(sorted(metadata))
    junk = "".join(map(chr, rng.choices([*range(1, 128), 0x202E, 0x2028, 0xD800, 0x1F600], k=rng.randint(1, 30))))
    metadata[name] = junk
    return joined(header, masks)


def _number(content: bytes, rng: random.Random) -> bytes:
    """Gives a mask's entry another number."""
    header, masks = parts(content)
    name = rng.choice([name for name in header if name != "__metadata__"])
    numbers = header[name][rng.choice(["shape", "data_offsets"])]
    numbers[rng.randrange(len(numbers))] += rng.choice([-1, 1, -8, 8, 2**31, 2**63, -(2**63), 10**30])
    return joined(header, masks)


RANDOM: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flipped bits": _bits,
    "bytes gone": _gone,
    "bytes more": _more,
    "another value": _value,
    "another number": _number,
}


def _drawn(how: str, seed: int) -> Bytes:
    return lambda content: RANDOM[how](content, random.Random(seed))
