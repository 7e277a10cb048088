"""What `lnsub fit` does with a trainer: all rounds of IMP, or one fine-tuning."""

import logging
from pathlib import Path

from lightning.pytorch import Trainer

from lnsub.data.module import LanguageDataModule
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import records_of
from lnsub.training.checkpoints import EVERY_N_STEPS, Checkpoints
from lnsub.training.imp import IMPCallback, length_of_a_round
from lnsub.training.module import SubnetModule

log = logging.getLogger(__name__)


def fit(
    trainer: Trainer,
    module: SubnetModule,
    datamodule: LanguageDataModule,
    *,
    checkpoint_every_n_steps: int | None = EVERY_N_STEPS,
) -> None:
    """Runs what the trainer is set up for: all rounds of IMP, or one fine-tuning.

    With an :class:`IMPCallback` among ``trainer.callbacks`` it runs the rounds that are not done yet; without one it is
    one ``trainer.fit`` and one record: dense, or of the module's ticket (a transfer).

    Args:
        trainer: ``max_epochs`` and ``max_steps`` are the length of one round; ``default_root_dir`` is the run's folder.
        module: from the base model, untrained.
        datamodule: of the same task.
        checkpoint_every_n_steps: optimizer steps from one checkpoint to the next; None: only between rounds. Whatever
            it is, an interrupted run ends with the same tickets, results and weights.

    Raises:
        UserError: the settings cannot work together, or the folder's run cannot be gone on with.
    """
    Checkpoints(RunFolder(Path(trainer.default_root_dir)), checkpoint_every_n_steps).attach(trainer)
    imp = next((c for c in trainer.callbacks if isinstance(c, IMPCallback)), None)
    if imp is not None:
        imp.run(trainer, module, datamodule)
    else:
        fine_tune(trainer, module, datamodule)


def fine_tune(trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule) -> None:
    """One fine-tuning and its records; done once in a folder. See :func:`fit`."""
    folder = RunFolder(Path(trainer.default_root_dir))
    length_of_a_round(trainer)
    ticket = module.ticket
    kind = "transfer" if ticket else "dense"
    if folder.records(kind):
        log.info(f"This fit is done: {folder.path}")
        return
    checkpoints = Checkpoints.of(trainer)
    trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoints.newest())
    wall_s = checkpoints.seconds
    checkpoints.save(trainer, weights_only=True)
    found = trainer.validate(module, datamodule=datamodule, verbose=False)[0]
    if trainer.is_global_zero:
        folder.record(
            records_of(
                {name.removeprefix("val_"): value for name, value in found.items()},
                kind=kind,
                task=module.task.name,
                model=module.base_model,
                source=ticket.provenance.language if ticket else None,
                target=datamodule.language,
                sparsity=ticket.provenance.sparsity if ticket else 0.0,
                score=ticket.provenance.score if ticket else None,
                init=module.init,
                seed=module.seed,
                round=None,
                split="validation",
                n=len(datamodule.table("validation")),
                wall_s=round(wall_s, 3),
                ticket=ticket.checksum if ticket else None,
                source_task=ticket.provenance.task if ticket else None,
                source_seed=ticket.provenance.seed if ticket else None,
            )
        )
    checkpoints.finish(trainer, keep=True)
