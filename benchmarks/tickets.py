"""Tickets: packing against memory speed, files against saved float masks, and all of a run's masks in one file.

The single file is a prototype: IMP's masks are nested, so the number of rounds that keep a weight determines all of
them. For nine masks that is a number from 0 to 9, which takes four bits.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import MB, Case, Row, interleave, row_of
from benchmarks.mbert import MBERT, TOY, Shapes, provenance, random_weights, shapes_of
from lnsub.pruning.masks import Mask
from lnsub.pruning.selection import select
from lnsub.runs.folder import ticket_filename
from lnsub.tickets.ticket import Ticket

LEVELS = [round(0.1 * level, 1) for level in range(1, 10)]
PLANES = 4
Packed = Mapping[str, np.ndarray]


def run(quick: bool, repeats: int) -> list[Row]:
    """Times packing, files, and the prototype of one file for a run."""
    shapes = shapes_of(*(TOY if quick else MBERT))
    masks = _nested_masks(shapes)
    with tempfile.TemporaryDirectory() as folder:
        return [
            *packing(masks[4], repeats),
            *files(masks[4], repeats, Path(folder)),
            *nested(masks, repeats, Path(folder)),
        ]


def packing(mask: Mask, repeats: int) -> list[Row]:
    """Bools to bits and back, against one copy of the bools, the lower bound for any such pass."""
    bools = np.concatenate([bits.flatten().numpy() for bits in mask.values()])
    packed, octets = mask.to_packed(), np.packbits(bools, bitorder="little")
    copy = "one copy of the bools"
    timings = interleave(
        [
            Case(copy, bools.copy),
            Case("Mask.to_packed", mask.to_packed),
            Case("np.packbits of one vector", lambda: np.packbits(bools, bitorder="little")),
            Case("Mask.from_packed", lambda: Mask.from_packed(packed, mask.shapes)),
            Case("np.unpackbits of one vector", lambda: np.unpackbits(octets, bitorder="little")),
        ],
        repeats,
    )
    assert Mask.from_packed(packed, mask.shapes) == mask
    return [row_of(name, timings, copy, {"G weights/s": mask.total / timings[name].median / 1e9}) for name in timings]


def files(mask: Mask, repeats: int, folder: Path) -> list[Row]:
    """One mask to a file and back, as a ticket and as pickled tensors."""
    ticket = Ticket(mask.to_packed(), mask.shapes, provenance("fr", 0.5))
    floats = {name: bits.float() for name, bits in mask.items()}
    paths = {"ticket": folder / "s.safetensors", "floats": folder / "floats.pt", "bools": folder / "bools.pt"}
    save, load = "Ticket.save, with its checksum", "Ticket.load, checked"

    def saving() -> None:
        Ticket(ticket.masks, ticket.shapes, ticket.provenance).save(paths["ticket"])

    timings = interleave(
        [
            Case(save, saving),
            Case("torch.save of float masks", lambda: torch.save(floats, paths["floats"])),
            Case("torch.save of bool masks", lambda: torch.save(dict(mask), paths["bools"])),
            Case(load, lambda: Ticket.load(paths["ticket"])),
            Case("torch.load of float masks", lambda: torch.load(paths["floats"])),
            Case("torch.load of bool masks", lambda: torch.load(paths["bools"])),
            Case("SHA-256 of the packed mask alone", lambda: Ticket.checksum_of(ticket.masks)),
        ],
        repeats,
    )
    assert Mask.from_packed(Ticket.load(paths["ticket"]).masks, mask.shapes) == mask
    made = {save: "ticket", "torch.save of float masks": "floats", "torch.save of bool masks": "bools"}
    sizes = {name: {"MB": paths[file].stat().st_size / MB} for name, file in made.items()}
    return [row_of(name, timings, load if "load" in name else save, sizes.get(name, {})) for name in timings]


def nested(masks: Sequence[Mask], repeats: int, folder: Path) -> list[Row]:
    """Nine rounds' masks as nine tickets, and as one file of four bit planes; asserts that each mask comes back."""
    shapes = masks[0].shapes
    packed = [mask.to_packed() for mask in masks]
    tickets = [Ticket(p, shapes, provenance("fr", level)) for p, level in zip(packed, LEVELS, strict=True)]
    paths = [folder / "run" / ticket_filename(level) for level in LEVELS]
    one = folder / "run.planes"

    def write_tickets(count: int) -> None:
        for ticket, path in zip(tickets[:count], paths, strict=False):
            Ticket(ticket.masks, ticket.shapes, ticket.provenance).save(path)

    def write_one() -> None:
        _write_planes(one, _planes(packed))

    nine, single = "nine tickets, written", "one file of planes, written whole"
    one_read, planes_read = "one ticket of nine, read and checked", "the same mask out of the planes, read and checked"
    timings = interleave(
        [
            Case(nine, lambda: write_tickets(9)),
            Case(single, write_one),
            Case(one_read, lambda: Ticket.load(paths[4])),
            Case(planes_read, lambda: _read_planes(one, shapes, 5)),
        ],
        repeats,
    )
    for round_, expected in enumerate(packed, start=1):
        read = _read_planes(one, shapes, round_)
        assert all(np.array_equal(read[name], expected[name]) for name in shapes), round_
    size = {nine: sum(path.stat().st_size for path in paths), single: one.stat().st_size}
    # A run writes one ticket per round; the single file would have to be rewritten each time to be always complete.
    written = {nine: size[nine], single: 9 * size[single]}
    rows = []
    for name, reference in ((nine, nine), (single, nine), (one_read, one_read), (planes_read, one_read)):
        values = {"MB": size[name] / MB, "MB written in nine rounds": written[name] / MB} if name in size else {}
        rows.append(row_of(name, timings, reference, values))
    return rows


def _nested_masks(shapes: Shapes) -> list[Mask]:
    """The masks of nine rounds, each a subset of the one before."""
    masks, weights = [Mask.dense(shapes)], random_weights(shapes)
    for level in LEVELS:
        masks.append(select(weights, masks[-1], level))
    return masks[1:]


def _planes(masks: Sequence[Packed]) -> list[Packed]:
    """The bit planes, lowest first, of the number of nested masks that keep each weight, by XORs of whole bytes.

    Mask i, counted from 1, keeps a weight exactly if that number is at least i. Bit k of a number changes at every
    multiple of 2**k.
    """
    return [
        {name: reduce(np.bitwise_xor, [mask[name] for mask in masks[(1 << k) - 1 :: 1 << k]]) for name in masks[0]}
        for k in range(PLANES)
    ]


def _write_planes(path: Path, planes: Sequence[Packed]) -> None:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for plane in planes:
            for octets in plane.values():
                digest.update(octets.data)
                file.write(octets.data)
        file.write(digest.digest())


def _read_planes(path: Path, shapes: Mapping[str, tuple[int, ...]], round_: int) -> dict[str, np.ndarray]:
    """Reads and checks the file, and returns the mask of one round: where the number is at least ``round_``."""
    raw = np.fromfile(path, dtype=np.uint8)
    assert hashlib.sha256(raw[:-32].data).digest() == raw[-32:].tobytes()
    sizes = [int(np.prod(shape)) // 8 for shape in shapes.values()]
    masks, start, plane_size = {}, 0, sum(sizes)
    for name, size in zip(shapes, sizes, strict=True):
        planes = [raw[k * plane_size + start :][:size] for k in range(PLANES)]
        greater, equal = np.zeros(size, np.uint8), np.full(size, 255, np.uint8)
        for k in reversed(range(PLANES)):
            if round_ >> k & 1:
                equal &= planes[k]
            else:
                greater |= equal & planes[k]
                equal &= ~planes[k]
        masks[name] = greater | equal
        start += size
    return masks
