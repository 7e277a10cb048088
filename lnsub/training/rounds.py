"""The loop of iterative magnitude pruning: fit, measure, prune, write, rewind, save.

One trainer runs all rounds, so ``global_step`` grows over the whole run, loggers see one run, and the process group
stays up.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lnsub.common.errors import UserError
from lnsub.runs.folder import RunFolder
from lnsub.tasks.task import LanguageDataModule
from lnsub.tickets.ticket import Ticket
from lnsub.training.budget import Budget
from lnsub.training.callbacks import log_row
from lnsub.training.checkpoint_files import explaining, read_checkpoint
from lnsub.training.checkpoints import Checkpoints
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule
from lnsub.training.one_fit import fit_once, measure, measure_parts, records
from lnsub.training.validation import Validation

log = logging.getLogger(__name__)


def run_rounds(
    imp: IMPCallback, trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule, budget: Budget
) -> None:
    """Runs the remaining rounds.

    Args:
        imp: one of the trainer's callbacks: the settings and the current round.
        trainer: with :class:`~lnsub.training.checkpoints.Checkpoints` among its callbacks.
        module: the untrained base model.
        datamodule: data of the same task.
        budget: the length of one round.

    Raises:
        UserError: the settings are incompatible, or the run in the folder cannot be resumed.
    """
    checkpoints = Checkpoints.of(trainer)
    checkpoint = _resume(imp, module, datamodule, checkpoints)
    while imp.round < len(imp.levels):
        part, parts = (0, 1) if imp.rewind_lr else (imp.round, len(imp.levels))
        here, after = replace(budget, part=part, parts=parts), (imp.first_epoch, imp.first_step)
        seconds = fit_once(trainer, module, datamodule, here, checkpoint, after=after)
        measured = measure(trainer, module, datamodule)
        pruned = None if imp.in_last_round else imp.prune(trainer, module, datamodule, measured.metrics)
        checkpoints.wait()  # a round is recorded only where a checkpoint of its start, or a later one, is on disk
        _write(imp, trainer, module, datamodule, measured, seconds, pruned[0] if pruned else None)
        imp.start_next_round(trainer, module, pruned)
        if pruned or imp.keep_checkpoint:
            checkpoints.save(trainer)
        checkpoint = None
    checkpoints.finish(trainer, keep=imp.keep_checkpoint)
    if trainer.is_global_zero and (lacking := _lacking(imp, module, datamodule, checkpoints.folder)):
        raise UserError(
            f"All rounds have run, but {checkpoints.folder.path} lacks {_listed(lacking)}: the same command makes it "
            "again, from the start."
        )


def _resume(
    imp: IMPCallback, module: SubnetModule, datamodule: LanguageDataModule, checkpoints: Checkpoints
) -> Path | None:
    """Restores the current round before the trainer's limits are set; the trainer loads the rest of the checkpoint."""
    folder = checkpoints.folder
    if module.ticket is not None:
        raise UserError(
            "IMP starts dense, so model.ticket and IMPCallback exclude each other: "
            "leave the callback out to fine-tune a ticket, or the ticket to find one."
        )
    checkpoint = checkpoints.newest()
    if checkpoint is not None:
        contents = read_checkpoint(checkpoint, thoroughly=False)
        if imp.state_key not in contents["callbacks"]:
            raise UserError(f"{checkpoint} belongs to a run without IMPCallback; choose another --output.")
        with explaining(checkpoint):
            imp.load_state_dict(contents["callbacks"][imp.state_key])
        if imp.fingerprint != module.fingerprint:
            raise UserError(
                f"{module.base_model} is not the base model that {folder.path} was started from: its weights differ. "
                "Use the same checkpoint, or another --output."
            )
        if imp.round < len(imp.levels):
            step = contents["global_step"] - imp.first_step
            log.info(f"Resuming round {imp.round} at step {step}: {folder.path}")
    elif folder.started:
        imp.round = len(imp.levels)
    lacking = _lacking(imp, module, datamodule, folder)
    if imp.round == len(imp.levels) and not lacking:
        log.info(f"All {len(imp.levels)} rounds are done: {folder.path}")
    elif imp.round == len(imp.levels):
        # Nothing is left to resume from. From the start, a run finds the same again, and keeps what is there.
        log.warning(f"{folder.path} lacks {_listed(lacking)}, so its rounds are run again from the start.")
        checkpoint, imp.round, imp.first_epoch, imp.first_step, imp.checksum = None, 0, 0, 0, None
    elif lacking:
        log.warning(f"{folder.path} lacks {_listed(lacking)}, which its remaining rounds do not make again.")
    imp.fingerprint = module.fingerprint
    return checkpoint


def _lacking(imp: IMPCallback, module: SubnetModule, datamodule: LanguageDataModule, folder: RunFolder) -> list[str]:
    """What a folder lacks of the rounds before the current one: whole tickets, and complete records."""
    metrics = module.task.complete()
    there, parts = folder.measured("imp", metrics), folder.measured("part", metrics)
    rounds = range(min(imp.round, len(imp.levels)))
    lacking = [
        f"round {number} in {folder.results.name}"
        for number in rounds
        if (number, datamodule.language, "validation") not in there
        or any((number, part.language, "validation") not in parts for part in datamodule.parts)
    ]
    for sparsity in imp.levels[1 : imp.round + 1]:
        path = folder.ticket(sparsity)
        try:
            Ticket.load(path)
        except UserError:
            lacking.append(f"{path.parent.name}/{path.name}" if not path.exists() else f"a whole {path.name}")
    return lacking


def _listed(lacking: list[str]) -> str:
    return ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")


def _write(
    imp: IMPCallback,
    trainer: Trainer,
    module: SubnetModule,
    datamodule: LanguageDataModule,
    measured: Validation,
    seconds: float,
    ticket: Ticket | None,
) -> None:
    """Records a round, writes the next round's ticket, and logs the metrics with the sparsity."""
    facts: dict[str, Any] = {
        "split": "validation",
        "source": datamodule.language,
        "sparsity": imp.sparsity,
        "score": imp.ranked_by,
        "round": imp.round,
        "wall_s": seconds,
        "ticket": imp.checksum,
    }
    found = records(module, datamodule, measured, kind="imp", **facts)
    found += measure_parts(trainer, module, datamodule, **facts)
    if trainer.is_global_zero:
        folder = Checkpoints.of(trainer).folder
        folder.record(found)
        if ticket is not None:
            _save_ticket(ticket, folder.ticket(ticket.provenance.sparsity))
    row = {"imp/round": float(imp.round), "imp/sparsity": imp.sparsity}
    row |= {f"imp/val_{name}": value for name, value in measured.metrics.items()}
    log_row(trainer, row)


def _save_ticket(ticket: Ticket, path: Path) -> None:
    """Writes a ticket, unless an interrupted run has already written the same mask."""
    try:
        if Ticket.load(path).checksum == ticket.checksum:
            return
    except UserError:
        pass  # missing or damaged
    ticket.save(path)
