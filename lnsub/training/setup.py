"""How a run is made: trainer, module and data module from a configuration, ready to be fitted or measured."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import Logger

from lnsub.common.errors import UserError
from lnsub.common.signals import Preempted
from lnsub.runs.folder import RunFolder
from lnsub.runs.settings import keep_settings
from lnsub.tasks.task import LanguageDataModule
from lnsub.training.config import RunConfig
from lnsub.training.csv_logger import RunCSVLogger
from lnsub.training.fit import fit
from lnsub.training.module import SubnetModule
from lnsub.training.preemption import requeue_job
from lnsub.training.progress import RoundProgress
from lnsub.training.ranks import claimed_by_run, detecting_lost_ranks, set_up_ranks
from lnsub.training.trainer_settings import make_trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run that is set up.

    Attributes:
        config: its settings.
        folder: its output folder.
        trainer: Lightning's trainer, with the run's loggers and callbacks.
        module: the model.
        data: the data module.
    """

    config: RunConfig
    folder: RunFolder
    trainer: Trainer
    module: SubnetModule
    data: LanguageDataModule

    def fit(self) -> None:
        """Runs all rounds of IMP, or one fine-tuning run, holding the lock of the folder.

        Raises:
            UserError: the folder is in use by another process, or holds a run with other settings; see also
                :func:`lnsub.training.fit.fit`.
            Preempted: a signal stopped the run; under SLURM the job is requeued.
            RunError: another rank is lost.
        """
        with claimed_by_run(self.folder.path) as ours:
            if not ours:
                raise UserError(
                    f"{self.folder.path} is in use by another process: wait until it ends, or choose another --output."
                )
            if self.trainer.is_global_zero:
                self.folder.sweep()
                if not self.folder.started:
                    self.folder.config.unlink(missing_ok=True)  # of a run that failed before it produced anything
                keep_settings(self.folder.config, self.config.settings())
            weights = self.module.subnet.weights.values()
            count = sum(weight.numel() for weight in weights)
            log.info(f"{self.module.base_model}: {len(weights)} prunable matrices, {count:,} weights")
            try:
                with detecting_lost_ranks(self.trainer):
                    fit(
                        self.trainer,
                        self.module,
                        self.data,
                        checkpoint_every_minutes=self.config.checkpoint_every_minutes,
                        checkpoint_every_n_steps=self.config.checkpoint_every_n_steps,
                    )
            except Preempted as stop:
                requeue_job(self.trainer, stop)  # SLURM ends the job at once, so this comes last
                raise


def build(config: RunConfig, *, folder: RunFolder | None = None, fitting: bool = True, progress: bool = True) -> Run:
    """Makes a run, without W&B: :func:`lnsub.tracking.run.set_up` adds that.

    Args:
        config: its settings.
        folder: where it goes; None: OUTPUT/<task>/<language>/seed<k>, and what sets it apart.
        fitting: whether it is to be fitted, with ``metrics.csv``.
        progress: whether a fit shows its own progress, unless the trainer's settings say no.

    Raises:
        UserError: a setting is out of range, or the base model or the ticket cannot be used.
    """
    seed = config.seed_everything
    seed_everything(seed, workers=True, verbose=False)
    given = config.trainer_arguments()
    if given["default_root_dir"] is not None:
        raise UserError("lnsub sets trainer.default_root_dir to the run's folder: use --output instead.")
    data = config.data_module()
    of_parts = {"seed": seed, "head_seed": config.head_seed, "order_seed": config.order_seed}
    module = SubnetModule(data.task, **(config.model | of_parts))
    folder = folder or RunFolder.of(config.output, data.task.name, data.language, seed, config.condition)
    callbacks, loggers = _as_list(given["callbacks"]), []
    if fitting:
        if progress and given["enable_progress_bar"] is not False:
            callbacks.append(RoundProgress())
        if given["logger"] is not False:
            loggers = [RunCSVLogger(folder), *(x for x in _as_list(given["logger"]) if isinstance(x, Logger))]
    if not progress:
        given["enable_progress_bar"] = False
    given |= {"callbacks": callbacks, "logger": loggers or False, "default_root_dir": str(folder.path)}
    trainer = make_trainer(given)
    set_up_ranks(trainer, config.rank_timeout)
    return Run(config, folder, trainer, module, data)


def _as_list(value: Any) -> list[Any]:
    """Wraps a single object in a list; None gives an empty list."""
    if isinstance(value, Sequence):
        return list(value)
    return [] if value is None else [value]
