"""What jobs leave behind, and whether it is there and whole. A job whose leaves are whole is done.

Only headers and records are read, and torch is not needed: a study's state is asked for often.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from lnsub.common.errors import UserError
from lnsub.data.receipts import read_receipt, receipt_path
from lnsub.runs.folder import RunFolder
from lnsub.tickets.file_format import read_header
from lnsub.tickets.finding import find_tickets
from lnsub.transfer.cell_folder import CellFolder
from lnsub.transfer.cells import plan


class Leaves(Protocol):
    """What a job leaves."""

    @property
    def shown(self) -> str:
        """Where it is, for people."""

    def whole(self) -> bool:
        """Whether all of it is there."""


@dataclass(frozen=True)
class ReceiptLeft:
    """Receipts of prepared data, and the tables that they name.

    Attributes:
        paths: the receipts.
    """

    paths: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The receipts."""
        return " ".join(self.paths)

    def whole(self) -> bool:
        """Whether each receipt is there, and the files that it names."""
        return all((receipt := read_receipt(Path(path))) is not None and receipt.whole for path in self.paths)


@dataclass(frozen=True)
class RunLeft:
    """A run of `lnsub fit`: its records and tickets.

    Attributes:
        folder: the run's folder.
        language: what it is measured on.
        sparsities: of the rounds, 0 first; one 0 alone for a fit without pruning.
        metrics: of a complete measurement.
    """

    folder: str
    language: str
    sparsities: tuple[float, ...]
    metrics: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The folder, and how many tickets."""
        return f"{self.folder}/" + (f" ({len(self.sparsities) - 1} tickets)" if len(self.sparsities) > 1 else "")

    def whole(self) -> bool:
        """Whether every round is recorded and every ticket is a whole file."""
        folder, pruned = RunFolder(Path(self.folder)), len(self.sparsities) > 1
        measured = folder.measured("imp" if pruned else "dense", self.metrics)
        rounds = range(len(self.sparsities)) if pruned else [None]
        if any((number, self.language, "validation") not in measured for number in rounds):
            return False
        try:
            for sparsity in self.sparsities[1:]:
                read_header(folder.ticket(sparsity))
        except (UserError, OSError):
            return False
        return True


@dataclass(frozen=True)
class CellsLeft:
    """The cells of one `lnsub transfer`.

    Attributes:
        output: its folder.
        task: the task that is fine-tuned.
        tickets: the ticket files.
        languages: the targets.
        seed: of the cells.
        baselines: as on the command line.
        baselines_on: as on the command line.
        zero_shot: whether tickets are fine-tuned on their own language alone.
        metrics: of a complete measurement.
        test_by: the folder of receipts that tell which languages have a test split; None: it is not asked for.
    """

    output: str
    task: str
    tickets: tuple[str, ...]
    languages: tuple[str, ...]
    seed: int
    baselines: tuple[str, ...]
    baselines_on: tuple[str, ...]
    zero_shot: bool
    metrics: tuple[str, ...]
    test_by: str | None = None

    @property
    def shown(self) -> str:
        """The folder, and how many cells there are at least."""
        kinds = len(self.tickets)
        return f"{self.output}/cells/ ({kinds * (1 if self.zero_shot else len(self.languages))} cells and baselines)"

    def whole(self) -> bool:
        """Whether every cell is measured on all its targets."""
        try:
            cells = plan(
                find_tickets(self.tickets),
                self.task,
                self.languages,
                [self.seed],
                self.baselines,
                baselines_on=self.baselines_on,
                zero_shot=self.zero_shot,
            )
        except (UserError, OSError):
            return False
        for cell in cells:
            measured = CellFolder(Path(self.output) / "cells" / cell.id).measured(cell.kind, self.metrics)
            there = {(target, split) for _, target, split in measured}
            for target in cell.targets:
                splits = ("validation", "test") if self._has_test(target) else ("validation",)
                if any((target, split) not in there for split in splits):
                    return False
        return True

    def _has_test(self, language: str) -> bool:
        if self.test_by is None:
            return False
        receipt = read_receipt(receipt_path(Path(self.test_by), self.task, language, self.seed))
        return receipt is not None and "test" in receipt.rows


@dataclass(frozen=True)
class FileLeft:
    """A file that is written whole or not at all, at the end of its job.

    Attributes:
        path: the file.
    """

    path: str

    @property
    def shown(self) -> str:
        """The file."""
        return self.path

    def whole(self) -> bool:
        """Whether it is there."""
        return Path(self.path).is_file()


_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (ReceiptLeft, RunLeft, CellsLeft, FileLeft)}


def to_plain(leaves: Any) -> dict[str, Any]:
    """What a job leaves, JSON-able."""
    return {"kind": type(leaves).__name__, **asdict(leaves)}


def from_plain(found: Mapping[str, Any]) -> Leaves:
    """The inverse of :func:`to_plain`.

    Raises:
        KeyError, TypeError: it is not what that wrote.
    """
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items() if key != "kind"}
    leaves: Leaves = _KINDS[found["kind"]](**values)
    return leaves
