"""Transfers: every ticket fine-tuned on every language, each cell exactly once despite interruptions.

Cells are independent, except for one-shot masks, which are made from dense cells. They can run in one process, one
after another, or in several: every cell has its own folder, and shared files are written atomically under a lock. A
cell's records are written together at its end; an interrupted cell is resumed from its last checkpoint.
"""

import gc
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch import Trainer
from rich.console import Console

from lnsub.common.bounds import Seed, out_of_bounds, shown
from lnsub.common.error_messages import user_message
from lnsub.common.errors import RunError, UserError
from lnsub.common.launcher import is_first_process
from lnsub.common.locks import claimed
from lnsub.common.signals import Preempted
from lnsub.runs.records import Record, read
from lnsub.runs.settings import keep_settings
from lnsub.tickets.finding import FoundTicket
from lnsub.training.checkpoints import Checkpoints
from lnsub.training.config import RunConfig
from lnsub.training.preemption import requeue_job
from lnsub.training.ranks import claimed_by_run, detecting_lost_ranks
from lnsub.transfer.baseline_masks import baseline_ticket
from lnsub.transfer.cell_fit import CellFit, left_out
from lnsub.transfer.cell_folder import CellFolder
from lnsub.transfer.cell_progress import CellProgress
from lnsub.transfer.cells import Cell, plan
from lnsub.transfer.many_cells import frozen_heap, quiet_logging


@dataclass(frozen=True)
class Outcome:
    """The result of running cells.

    Attributes:
        failed: numbers of the cells that failed.
        in_use: numbers of the cells that another process was running.
    """

    failed: tuple[int, ...]
    in_use: tuple[int, ...]


class Transfer:
    """The cells of one `lnsub transfer`.

    Args:
        output: the output folder; see :mod:`lnsub.transfer.cell_folder`.
        config: the settings of all cells; those that differ between cells are replaced, and IMP is removed.
        tickets: from :func:`lnsub.tickets.finding.find_tickets`.
        languages: the targets.
        seeds: seeds of each cell; None: the configuration's.
        baselines: see :func:`lnsub.transfer.baselines.parse_baseline`.
        baselines_on: see :func:`lnsub.transfer.cells.plan`.
        zero_shot: fine-tune only on each ticket's own language, and evaluate on all targets.
        test: also evaluate on test splits where they exist.
        keep_checkpoints: keep each cell's trained weights in ``checkpoints/last.ckpt``.

    Raises:
        UserError: the folder was used with another configuration; see also :func:`lnsub.transfer.cells.plan`.
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
        baselines_on: Sequence[str] | None = None,
        zero_shot: bool = False,
        test: bool = False,
        keep_checkpoints: bool = False,
    ) -> None:
        if not languages:
            raise UserError("Name at least one language: --languages fr,ur.")
        for seed in seeds or ():
            if expected := out_of_bounds(seed, Seed):
                raise UserError(f"A cell's seed is {shown(seed)}: it must {expected}.")
        self.output = output
        self.languages = tuple(dict.fromkeys(languages))
        self.fit = CellFit(config)
        self.cells = plan(
            tickets,
            self.fit.task.name,
            self.languages,
            seeds or [self.fit.seed],
            baselines,
            baselines_on=baselines_on,
            zero_shot=zero_shot,
        )
        self._splits = ("validation", "test") if test else ("validation",)
        self._keep_checkpoints = keep_checkpoints
        self._failed_here: dict[str, str] = {}
        self._trainer: Trainer | None = None  # of the current cell
        if self._settings_file.exists():
            keep_settings(self._settings_file, self.fit.shared_settings())

    # State of the cells ---------------------------------------------------------------------------------------------

    def folder(self, cell: Cell) -> CellFolder:
        """A cell's folder."""
        return CellFolder(self.output / "cells" / cell.id)

    def state(self, cell: Cell) -> str:
        """``done``, ``failed`` (and to be retried) or ``missing``."""
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
        """The targets and splits that a cell has no records for."""
        there = {(target, split) for _, target, split in self.folder(cell).measured(cell.kind, self.fit.metrics)}
        wanted = [(target, split) for target in cell.targets for split in self._splits]
        return [
            (target, split)
            for target, split in wanted
            if (target, split) not in there
            and (split == "validation" or (target, "validation") not in there or self._has_test(target))
        ]

    def _has_test(self, language: str) -> bool:
        return "test" in self.fit.data(language).splits()

    def _to_prune(self, cell: Cell) -> bool:
        names = [one_shot.mask_name(cell.task, cell.language, cell.seed) for one_shot in cell.prunes]
        return any(not (self._masks / name).exists() for name in names)

    def check(self, *, thoroughly: Sequence[Cell] = ()) -> None:
        """Validates languages, data and base model before any cell runs.

        Args:
            thoroughly: cells about to run: their data is opened and the base model compared with their tickets', which
                may download both from the Hub.

        Raises:
            UserError: a language is unknown; the base model cannot be loaded or is not that of the tickets.
        """
        for language in self.languages:
            self.fit.data(language).check()
        for language in sorted({name for cell in thoroughly for name in (cell.language, *cell.targets)}):
            self.fit.data(language).splits()
        found = next((cell.found for cell in thoroughly if cell.found), None)
        if found is not None:
            self.fit.check_base(found.load())

    # Running --------------------------------------------------------------------------------------------------------

    def run(self, numbers: Sequence[int] | None = None, console: Console | None = None) -> Outcome:
        """Runs the cells that are not done; a failed cell is recorded and does not stop the others.

        Several processes may run the same cells concurrently: each takes cells that are not in use. If each cell itself
        runs on several processes (DDP), run only one such job over all cells at a time, or assign numbers.

        Args:
            numbers: numbers of the cells to run, from 1; None: all.
            console: for the progress display; default: standard error.

        Raises:
            UserError: a number is out of range; see also :meth:`check`.
        """
        for number in numbers or ():
            if not 1 <= number <= len(self.cells):
                raise UserError(f"There is no cell {number}: cells are 1 to {len(self.cells)}; --list shows them.")
        chosen = list(dict.fromkeys(numbers)) if numbers is not None else range(1, len(self.cells) + 1)
        pending = [number for number in chosen if self.state(self.cells[number - 1]) != "done"]
        if not pending:
            return Outcome((), ())
        self.check(thoroughly=[self.cells[number - 1] for number in pending])
        if is_first_process():
            keep_settings(self._settings_file, self.fit.shared_settings())
        self._failed_here = {}
        in_use = []
        progress = CellProgress(len(pending), console, enabled=is_first_process())
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
        """Runs a cell unless another process is running it or has finished it; returns False if it is in use."""
        progress.start(cell.title)
        folder = self.folder(cell)
        with claimed_by_run(folder.path) as ours:
            if not ours:
                progress.finish("in use by another process", run=False)
            elif is_first_process() and self.state(cell) == "done":
                progress.finish("done by another process", run=False)
            else:
                progress.finish(self._attempt(cell, folder, progress))
            return ours

    def _attempt(self, cell: Cell, folder: CellFolder, progress: CellProgress) -> str:
        """Runs a cell and records its results, or why it failed; returns a short summary."""
        trace = None
        try:
            reason, summary = self._run(cell, folder, progress)
        except RunError:
            raise
        except Exception as error:
            line = user_message(error)
            trace = None if line else traceback.format_exc()
            reason = line or f"{type(error).__name__}: {' '.join(str(error).split())}"
            summary = f"failed: {reason}"
        # Outside the handler, whose exception keeps the cell's tensors alive.
        self._trainer = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if reason:
            self._failed_here[cell.id] = reason
            if is_first_process():
                folder.fail(reason, trace)
        elif is_first_process():
            folder.failure.unlink(missing_ok=True)
        return summary

    def _run(self, cell: Cell, folder: CellFolder, progress: CellProgress) -> tuple[str, str]:
        """Runs a cell; returns the reason for a partial failure, or "", and a short summary."""
        ticket = self._ticket(cell, progress)
        if Checkpoints(folder).newest() is None and is_first_process():
            folder.clear()
        run = self.fit.set_up(cell, folder, ticket)
        self._trainer = run.trainer
        with detecting_lost_ranks(run.trainer):
            found, unusable = self.fit.fit_and_measure(run, cell, self._to_measure(cell), [progress])
        checkpoints = Checkpoints.of(run.trainer)
        if self._keep_checkpoints:
            checkpoints.save(run.trainer, weights_only=True, wait=True)
        self.fit.prune_once(run, cell, self._masks)
        if is_first_process():
            folder.record(found)
        checkpoints.finish(run.trainer, keep=self._keep_checkpoints)
        metric = self.fit.task.metric
        shown = [f"{r.target} {r.split} {metric} {r.value:.4f}" for r in found if r.metric == metric]
        reason = " ".join(f"{target}: {text}" for target, text in unusable.items())
        return reason, " · ".join([*shown, *left_out(run.module), *([f"failed: {reason}"] if reason else [])])

    def _ticket(self, cell: Cell, progress: CellProgress) -> Path | None:
        """The ticket file that a cell trains under, which is made here for baselines."""
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
                    baseline_ticket(cell, self.fit.config.model["base_model"]).save(path)
        return path

    def _prune_once(self, cell: Cell, path: Path, progress: CellProgress) -> None:
        """Makes a one-shot mask: runs its dense cell, or waits for the process that is running it."""
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
            raise UserError(f"its mask is made from cell {dense.id}, which failed: {self._failed_here.get(dense.id)}")
