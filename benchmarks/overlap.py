"""Overlap: many tickets at once, against float masks stacked and indexed pair by pair."""

import csv
import statistics
import sys
import tempfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import MB, Case, Row, Timing, at_most, in_own_process, interleave, measure_command, memory_of
from benchmarks.mbert import MBERT, TOY, Shapes, random_ticket, shapes_of
from lnsub.analysis.overlap.jaccard import overlap
from lnsub.runs.folder import ticket_filename
from lnsub.tickets.ticket import Ticket, load_all

LANGUAGES = ("ar", "bg", "de", "en", "es", "fr", "hi", "ru", "sw", "ur", "zh")
LEVELS = [round(0.1 * level, 1) for level in range(1, 10)]


def run(quick: bool, repeats: int) -> list[Row]:
    """Times the command on ten tickets, one pair against the paper's code, and a whole study's 99 tickets."""
    shapes = shapes_of(*(TOY if quick else MBERT))
    with tempfile.TemporaryDirectory() as folder:
        files = {
            (language, sparsity): random_ticket(shapes, language, sparsity, seed).save(
                Path(folder) / language / ticket_filename(sparsity)
            )
            for seed, language in enumerate(LANGUAGES)
            for sparsity in LEVELS
        }
        ten = [files[language, 0.5] for language in LANGUAGES[:10]]
        study = [[files[language, sparsity] for language in LANGUAGES] for sparsity in LEVELS]
        return [*command(ten, repeats, Path(folder)), *one_pair(shapes, ten[:2], repeats), *whole_study(study, repeats)]


def command(files: list[Path], repeats: int, folder: Path) -> list[Row]:
    """`lnsub overlap` as a user runs it, including startup and imports."""
    call = [sys.executable, "-m", "lnsub", "overlap", *map(str, files), "--by", "layer", "--format", "csv"]
    measured = [measure_command(call, folder / "overlap.csv") for _ in range(repeats)]
    with (folder / "overlap.csv").open(newline="") as file:
        layers = [row["layer"] for row in csv.DictReader(file)]
    pairs = len(list(combinations(files, 2)))
    assert len(layers) == pairs * len(set(layers)) > pairs  # "" is the row over all layers
    timing, peak = Timing(tuple(seconds for seconds, _ in measured)), max(peak for _, peak in measured) / MB
    claims = [at_most(timing.median, 3, "s"), at_most(peak, 300, "MB")]
    return [
        Row(
            f"`lnsub overlap`, {len(files)} tickets, {pairs} pairs by layer",
            timing,
            values={"MB peak": peak},
            claims=claims,
        )
    ]


def one_pair(shapes: Shapes, files: list[Path], repeats: int) -> list[Row]:
    """One pair in memory, as packed bits and as float masks like in the paper's code; asserts the same overlap."""
    packed = [Ticket.load(path) for path in files]
    floats = [_float_mask(ticket, shapes) for ticket in packed]
    found = {}

    def ours() -> None:
        found["ours"] = overlap(packed)[0]["overlap"]

    def theirs() -> None:
        stacked = torch.stack(floats)
        kept_by = stacked.sum(dim=0)
        found["theirs"] = len(kept_by[kept_by == 2]) / len(kept_by[kept_by > 0])

    name = "lnsub, one pair in memory"
    others = "float masks: stack, sum, boolean index"
    timings = interleave([Case(name, ours), Case(others, theirs, turns=3, warm=False)], repeats)
    assert abs(found["ours"] - found["theirs"]) < 1e-12
    return [Row(name, timings[name]), Row(others, timings[others], name, timings[others].ratio(timings[name]))]


def whole_study(study: list[list[Path]], repeats: int) -> list[Row]:
    """The tickets of 11 languages at 9 sparsities: for each sparsity all pairs, by layer, read from files."""
    timing = in_own_process(_time_study, study, min(repeats, 3))
    peak = memory_of(_prepare_study, study).peak / MB
    tickets, pairs = sum(map(len, study)), sum(len(list(combinations(files, 2))) for files in study)
    values = {"MB peak of the process": peak, "ms a pair": timing.median / pairs * 1e3}
    claims = [at_most(timing.median, 5, "s"), at_most(peak, 500, "MB")]
    return [
        Row(
            f"lnsub, {tickets} tickets, {pairs} pairs by layer, files read and checked",
            timing,
            values=values,
            claims=claims,
        )
    ]


def compare_study(study: list[list[Path]]) -> float:
    """Compares a study's tickets, one sparsity at a time; returns the mean overlap."""
    return statistics.mean(row["overlap"] for files in study for row in overlap(load_all(files), ["layer"]))


def _time_study(study: list[list[Path]], repeats: int) -> Timing:
    return interleave([Case("study", lambda: compare_study(study))], repeats)["study"]


def _prepare_study(study: list[list[Path]]) -> Callable[[], float]:
    return lambda: compare_study(study)


def _float_mask(ticket: Ticket, shapes: Shapes) -> Tensor:
    bits = [np.unpackbits(mask, bitorder="little") for mask in ticket.masks.values()]
    assert sum(map(len, bits)) == sum(int(np.prod(shape)) for shape in shapes.values())
    return torch.from_numpy(np.concatenate(bits)).float()
