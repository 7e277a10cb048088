"""Transfers: every ticket fine-tuned on every language, each cell once, whatever happens in between.

Cells do not depend on one another, except for the one-shot masks, which are made of dense cells. So they can run in one
process, one after another, or each in a process of its own: every cell has its own folder, and what several share is
written by one at a time, whole or not at all. A cell's records are written together at its end; an
interrupted cell is resumed from its last checkpoint.
"""

import gc
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from rich.console import Console

from lnsub.common.error_messages import user_message
from lnsub.common.errors import RunError, UserError
from lnsub.common.locks import claimed
from lnsub.common.signals import Preempted
from lnsub.runs.records import Record, read
from lnsub.runs.settings import keep_settings
from lnsub.tickets.finding import FoundTicket
from lnsub.tickets.ticket import Ticket
from lnsub.training.checkpoints import Checkpoints
from lnsub.training.config import RunConfig
from lnsub.training.preemption import requeue_job
from lnsub.training.ranks import claimed_by_run, detecting_lost_ranks
from lnsub.transfer.baseline_masks import random_ticket
from lnsub.transfer.cell_fit import CellFit, left_out
from lnsub.transfer.cell_folder import CellFolder
from lnsub.transfer.cell_progress import CellProgress
from lnsub.transfer.cells import Cell, plan
from lnsub.transfer.many_cells import frozen_heap, quiet_logging


@dataclass(frozen=True)
class Outcome:
    """What came of a run over cells.

    Attributes:
        failed: the numbers of the cells that failed.
        in_use: the numbers of the cells that another process was running.
    """

    failed: tuple[int, ...]
    in_use: tuple[int, ...]


class Transfer:
    """The cells of one `lnsub transfer`.

    Args:
        output: the folder for all of it; see :mod:`lnsub.transfer.cell_folder`.
        config: the settings of all cells; what differs from cell to cell is replaced, and IMP left out.
        tickets: from :func:`lnsub.tickets.finding.find_tickets`.
        languages: the targets.
        seeds: of the fine-tunings; None: the configuration's.
        baselines: some of :data:`lnsub.transfer.baselines.BASELINES`.
        zero_shot: fine-tune on each ticket's own language only and measure on all targets.
        test: measure on the test split too, where there is one.
        keep_checkpoints: keep each cell's trained weights in ``checkpoints/last.ckpt``.

    Raises:
        UserError: another configuration was used in this folder; see also
            :func:`lnsub.transfer.cells.plan`.
    """

    def __init__(
        self,
        output: Path,
        config: RunConfig,
        tickets: Sequence[FoundTicket],
        languages: Sequence[str],
        *,
        seeds: Sequence[int] | None = None,
        baselines: Iterable[str] = (),
        zero_shot: bool = False,
        test: bool = False,
        keep_checkpoints: bool = False,
    ) -> None:
        if not languages:
            raise UserError("Name at least one language: --languages fr,ur.")
        self.output = output
        self.languages = tuple(dict.fromkeys(languages))
        self.fit = CellFit(config)
        self.cells = plan(
            tickets, self.fit.task.name, self.languages, seeds or [self.fit.seed], baselines, zero_shot=zero_shot
        )
        self._splits = ("validation", "test") if test else ("validation",)
        self._keep_checkpoints = keep_checkpoints
        self._failed_here: dict[str, str] = {}
        self._trainer: Trainer | None = None  # of the cell at hand
        if self._settings_file.exists():
            keep_settings(self._settings_file, self.fit.shared_settings())

    # What there is --------------------------------------------------------------------------------------------------

    def folder(self, cell: Cell) -> CellFolder:
        """A cell's folder."""
        return CellFolder(self.output / "cells" / cell.id)

    def state(self, cell: Cell) -> str:
        """``done``, ``failed`` (last time; it is tried again) or ``missing``."""
        if not self._to_measure(cell) and not self._to_prune(cell):
            return "done"
        return "failed" if self.folder(cell).reason() else "missing"

    def records(self, cell: Cell) -> list[Record]:
        """A cell's records so far."""
        return [record for record in read(self.folder(cell).results) if record.kind == cell.kind]

    @property
    def _masks(self) -> Path:
        return self.output / "masks"

    @property
    def _settings_file(self) -> Path:
        return self.output / f"{self.fit.task.name}.yaml"

    def _to_measure(self, cell: Cell) -> list[tuple[str, str]]:
        """The targets and splits that a cell has no records of yet."""
        there = self.folder(cell).measured(cell.kind, self.fit.metrics)
        wanted = [(target, split) for target in cell.targets for split in self._splits]
        return [
            (target, split)
            for target, split in wanted
            if (target, split) not in there
            and (split == "validation" or (target, "validation") not in there or self._has_test(target))
        ]

    def _has_test(self, language: str) -> bool:
        return "test" in self.fit.data(language).source.splits()

    def _to_prune(self, cell: Cell) -> bool:
        names = [one_shot.mask_name(cell.task, cell.language, cell.seed) for one_shot in cell.prunes]
        return any(not (self._masks / name).exists() for name in names)

    def check(self, *, thoroughly: Sequence[Cell] = ()) -> None:
        """Refuses what no cell could be run with, before any is.

        Args:
            thoroughly: cells that are to run now: their data is opened and the base model compared with their
                tickets', which may fetch both from the Hub.

        Raises:
            UserError: there is no such language; the base model cannot be loaded or is not that of the tickets.
        """
        for language in self.languages:
            self.fit.data(language).open()
        for language in sorted({name for cell in thoroughly for name in (cell.language, *cell.targets)}):
            self.fit.data(language).source.splits()
        found = next((cell.found for cell in thoroughly if cell.found), None)
        if found is not None:
            self.fit.check_base(Ticket.load(found.path))

    # Running --------------------------------------------------------------------------------------------------------

    def run(self, numbers: Sequence[int] | None = None, console: Console | None = None) -> Outcome:
        """Runs the cells that are not done; one that fails is noted and does not stop the others.

        Several processes may run the same cells at once: each takes what no other has. Where a cell itself runs on
        several processes (DDP), let one such run at a time go over all cells, or name their numbers.

        Args:
            numbers: of the cells to run, from 1; None: all.
            console: where the progress goes; standard error by default.

        Raises:
            UserError: see :meth:`check`; there is no cell of such a number.
        """
        for number in numbers or ():
            if not 1 <= number <= len(self.cells):
                raise UserError(f"There is no cell {number}: there are 1 to {len(self.cells)}; --list shows them.")
        chosen = list(dict.fromkeys(numbers)) if numbers is not None else range(1, len(self.cells) + 1)
        pending = [number for number in chosen if self.state(self.cells[number - 1]) != "done"]
        if not pending:
            return Outcome((), ())
        self.check(thoroughly=[self.cells[number - 1] for number in pending])
        if rank_zero_only.rank == 0:
            keep_settings(self._settings_file, self.fit.shared_settings())
        self._failed_here = {}
        in_use = []
        progress = CellProgress(len(pending), console, enabled=rank_zero_only.rank == 0)
        with quiet_logging(), frozen_heap():
            try:
                for number in pending:
                    if not self._take(self.cells[number - 1], progress):
                        in_use.append(number)
            except Preempted as stop:
                requeue_job(self._trainer, stop)
                raise
            finally:
                progress.close()
        failed = [number for number in pending if self.cells[number - 1].id in self._failed_here]
        return Outcome(tuple(failed), tuple(in_use))

    def _take(self, cell: Cell, progress: CellProgress) -> bool:
        """Runs a cell if no other process has it or has done it meanwhile; tells whether it was free."""
        progress.start(cell.title)
        folder = self.folder(cell)
        with claimed_by_run(folder.path) as ours:
            if not ours:
                progress.finish("in use by another process", run=False)
            elif rank_zero_only.rank == 0 and self.state(cell) == "done":
                progress.finish("done by another process", run=False)
            else:
                progress.finish(self._attempt(cell, folder, progress))
            return ours

    def _attempt(self, cell: Cell, folder: CellFolder, progress: CellProgress) -> str:
        """Runs a cell and records it, or why it failed; returns what came of it in a few words."""
        trace = None
        try:
            reason, said = self._run(cell, folder, progress)
        except RunError:
            raise
        except Exception as error:
            line = user_message(error)
            trace = None if line else traceback.format_exc()
            reason = line or f"{type(error).__name__}: {' '.join(str(error).split())}"
            said = f"failed: {reason}"
        # Outside of the handler, whose exception keeps the cell's tensors alive.
        self._trainer = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if reason:
            self._failed_here[cell.id] = reason
            if rank_zero_only.rank == 0:
                folder.fail(reason, trace)
        elif rank_zero_only.rank == 0:
            folder.failure.unlink(missing_ok=True)
        return said

    def _run(self, cell: Cell, folder: CellFolder, progress: CellProgress) -> tuple[str, str]:
        """Runs a cell; returns why it failed in part, or nothing, and what came of it in a few words."""
        ticket = self._ticket(cell, progress)
        if Checkpoints(folder).newest() is None and rank_zero_only.rank == 0:
            folder.clear()
        run = self.fit.set_up(cell, folder, ticket)
        self._trainer = run.trainer
        with detecting_lost_ranks(run.trainer):
            found, unusable = self.fit.fit_and_measure(run, cell, self._to_measure(cell), [progress])
        checkpoints = Checkpoints.of(run.trainer)
        if self._keep_checkpoints:
            checkpoints.save(run.trainer, weights_only=True)
        self.fit.prune_once(run, cell, self._masks)
        if rank_zero_only.rank == 0:
            folder.record(found)
        checkpoints.finish(run.trainer, keep=self._keep_checkpoints)
        metric = self.fit.task.metric
        shown = [f"{r.target} {r.split} {metric} {r.value:.4f}" for r in found if r.metric == metric]
        reason = " ".join(f"{target}: {text}" for target, text in unusable.items())
        return reason, " · ".join([*shown, *left_out(run.module), *([f"failed: {reason}"] if reason else [])])

    def _ticket(self, cell: Cell, progress: CellProgress) -> Path | None:
        """The ticket file that a cell trains under, made first where it is a baseline's."""
        if cell.found is None:
            return None
        if cell.mask_name is None:
            return cell.found.path
        path = self._masks / cell.mask_name
        if cell.variant == "oneshot":
            self._prune_once(cell, path, progress)
        elif not path.exists():
            with claimed(self._masks, wait=True):
                if not path.exists():
                    random_ticket(cell).save(path)
        return path

    def _prune_once(self, cell: Cell, path: Path, progress: CellProgress) -> None:
        """Sees to it that a one-shot mask is there: runs its dense cell, or waits for the process that runs it."""
        assert cell.found is not None
        language = cell.found.provenance.language
        dense = next(c for c in self.cells if c.prunes and c.language == language and c.seed == cell.seed)
        if not path.exists() and dense.id not in self._failed_here:
            with claimed_by_run(self.folder(dense).path, wait=True):
                if not path.exists():
                    progress.start(dense.title)
                    self._attempt(dense, self.folder(dense), progress)
                    progress.start(cell.title)
        if not path.exists():
            raise UserError(f"its mask is made of cell {dense.id}, which failed: {self._failed_here.get(dense.id)}")
