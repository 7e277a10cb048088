"""`lnsub fit` on a configured trainer: all rounds of IMP, or one fine-tuning run."""

import logging
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lnsub.common.errors import UserError
from lnsub.common.signals import deferred_signals
from lnsub.runs.folder import RunFolder
from lnsub.tasks.task import LanguageDataModule
from lnsub.training.budget import Budget
from lnsub.training.callbacks import notifying_run_end
from lnsub.training.checkpoints import EVERY_MINUTES, Checkpoints
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule
from lnsub.training.one_fit import fit_once, measure, measure_parts, records
from lnsub.training.rounds import run_rounds

log = logging.getLogger(__name__)


def fit(
    trainer: Trainer,
    module: SubnetModule,
    datamodule: LanguageDataModule,
    *,
    checkpoint_every_minutes: float | None = EVERY_MINUTES,
    checkpoint_every_n_steps: int | None = None,
) -> None:
    """Runs all rounds of IMP, or one fine-tuning run.

    With an :class:`IMPCallback` among ``trainer.callbacks`` it runs the remaining rounds. Without one, it calls
    ``trainer.fit`` once and records the result: dense, or of the module's ticket (a transfer).

    Args:
        trainer: ``max_epochs`` and ``max_steps`` are the length of one round; ``default_root_dir`` is the run's folder.
        module: the untrained base model.
        datamodule: data of the same task.
        checkpoint_every_minutes: minutes between checkpoints; None: not by time.
        checkpoint_every_n_steps: optimizer steps between checkpoints; None: not by steps. With both, whichever is due
            first; with neither, only between rounds. The results of an interrupted run depend on neither.

    Raises:
        UserError: the settings cannot work together, or the folder's run cannot be resumed.
        Preempted: a signal asked the run to stop (:mod:`lnsub.common.signals`); everything is saved.
    """
    budget = Budget.of(trainer)
    if trainer.limit_val_batches == 0:
        raise UserError("A fit records its validation metrics: trainer.limit_val_batches must not be 0.")
    folder = RunFolder(Path(trainer.default_root_dir))
    Checkpoints(folder, checkpoint_every_minutes, checkpoint_every_n_steps).attach(trainer, module)
    imp = IMPCallback.of(trainer)
    with deferred_signals(), notifying_run_end(trainer), module.staying():
        if imp is not None:
            run_rounds(imp, trainer, module, datamodule, budget)
        else:
            _fine_tune(trainer, module, datamodule, budget)


def _fine_tune(trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule, budget: Budget) -> None:
    """Fine-tunes once and records the result, unless the folder has it already."""
    checkpoints = Checkpoints.of(trainer)
    folder = checkpoints.folder
    kind = "transfer" if module.ticket else "dense"
    metrics, wanted = module.task.complete(), (None, datamodule.language, "validation")
    parts = {(None, part.language, "validation") for part in datamodule.parts}
    if wanted in folder.measured(kind, metrics) and parts <= folder.measured("part", metrics):
        log.info(f"This run is already done: {folder.path}")
        checkpoints.finish(trainer, keep=True)
        return
    seconds = fit_once(trainer, module, datamodule, budget, checkpoints.newest())
    checkpoints.save(trainer, weights_only=True, wait=True)
    facts: dict[str, Any] = {"split": "validation", "wall_s": seconds}
    found = records(module, datamodule, measure(trainer, module, datamodule), kind=kind, **facts)
    found += measure_parts(trainer, module, datamodule, **facts)
    if trainer.is_global_zero:
        folder.record(found)
    checkpoints.finish(trainer, keep=True)
    if trainer.is_global_zero and wanted not in folder.measured(kind, metrics):
        raise UserError(f"{folder.results} does not hold what was just recorded: run the same command again.")
