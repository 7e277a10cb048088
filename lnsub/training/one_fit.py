"""One fit, and what is measured after it: the two steps that rounds, fine-tunings and transfers are made of."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lnsub.runs.records import Record, records_of
from lnsub.tasks.task import LanguageDataModule
from lnsub.training.budget import Budget
from lnsub.training.checkpoints import Checkpoints
from lnsub.training.module import SubnetModule


def fit_once(
    trainer: Trainer,
    module: SubnetModule,
    datamodule: LanguageDataModule,
    budget: Budget,
    checkpoint: Path | None = None,
    *,
    after: tuple[int, int] = (0, 0),
) -> float:
    """Fits once, or the rest of a fit that was interrupted.

    Args:
        trainer: with :class:`~lnsub.training.checkpoints.Checkpoints` among its callbacks.
        module: what is trained.
        datamodule: what it is trained on.
        budget: of the whole fit.
        checkpoint: what to resume from.
        after: the epochs and optimizer steps of the run's earlier fits, which the trainer's limits count too.

    Returns:
        Seconds that the fit took, before interruptions too.
    """
    if budget.epochs != -1:
        trainer.fit_loop.max_epochs = after[0] + budget.epochs
    if budget.steps != -1:
        trainer.fit_loop.epoch_loop.max_steps = after[1] + budget.steps
    module.budget = budget
    if checkpoint is None:
        trainer.fit(module, datamodule=datamodule)
    else:
        with Checkpoints.of(trainer).resuming(checkpoint, module):
            # Absolute, as Lightning takes what begins with "http" for a URL.
            trainer.fit(module, datamodule=datamodule, ckpt_path=str(checkpoint.absolute()), weights_only=True)
    return round(Checkpoints.of(trainer).seconds, 3)


def measure(
    trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule, split: str = "validation"
) -> dict[str, float]:
    """The metrics of the weights as they are now.

    Args:
        trainer: the run's.
        module: what is measured.
        datamodule: what it is measured on.
        split: ``validation`` or ``test``.

    Returns:
        Values by name. A validation that came at the end of the fit is not repeated.
    """
    done = module.validation
    if split == "validation" and done and done.of is datamodule and done.step == trainer.global_step:
        return done.metrics
    evaluate = trainer.validate if split == "validation" else trainer.test
    (logged,) = evaluate(module, datamodule=datamodule, verbose=False)
    return {name.split("_", 1)[1]: float(value) for name, value in logged.items()}


def records(
    module: SubnetModule, datamodule: LanguageDataModule, metrics: dict[str, float], *, split: str, **facts: Any
) -> list[Record]:
    """What :func:`measure` gave, for the disk.

    Args:
        module: what was measured.
        datamodule: what it was measured on.
        metrics: the values.
        split: the split.
        facts: the fields of a :class:`~lnsub.runs.records.Record` that depend on what was done. By default they are
            those of the module's ticket.
    """
    ticket = module.ticket
    found = ticket.provenance if ticket else None
    shared: dict[str, Any] = {
        "task": module.task.name,
        "model": module.base_model,
        "source": found.language if found else None,
        "target": datamodule.language,
        "sparsity": found.sparsity if found else 0.0,
        "score": found.score if found else None,
        "init": module.init,
        "seed": module.seed,
        "round": None,
        "split": split,
        "n": len(datamodule.table(split)),
        "ticket": ticket.checksum if ticket else None,
        "source_task": found.task if found else None,
        "source_seed": found.seed if found else None,
    }
    return records_of(metrics, **{**shared, **facts})
