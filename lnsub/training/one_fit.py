"""One fit and its evaluation: the building blocks of rounds, fine-tuning runs and transfers."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lnsub.common.errors import UserError
from lnsub.runs.records import Record, records_of
from lnsub.tasks.task import LanguageDataModule
from lnsub.training.budget import Budget
from lnsub.training.checkpoints import Checkpoints
from lnsub.training.module import SubnetModule
from lnsub.training.origin import condition_of
from lnsub.training.validation import Validation


def fit_once(
    trainer: Trainer,
    module: SubnetModule,
    datamodule: LanguageDataModule,
    budget: Budget,
    checkpoint: Path | None = None,
    *,
    after: tuple[int, int] = (0, 0),
) -> float:
    """Fits once, or completes an interrupted fit.

    Args:
        trainer: with :class:`~lnsub.training.checkpoints.Checkpoints` among its callbacks.
        module: the model to train.
        datamodule: the data to train on.
        budget: the length of the whole fit.
        checkpoint: the checkpoint to resume from.
        after: epochs and optimizer steps of the run's earlier fits, which the trainer's limits include.

    Returns:
        Duration of the fit in seconds, including the time before interruptions.
    """
    if budget.epochs != -1:
        trainer.fit_loop.max_epochs = after[0] + budget.epochs
    if budget.steps != -1:
        trainer.fit_loop.epoch_loop.max_steps = after[1] + budget.steps
    module.budget = budget
    try:
        with _naming_settings():
            if checkpoint is None:
                trainer.fit(module, datamodule=datamodule)
            else:
                with Checkpoints.of(trainer).resuming(checkpoint, module):
                    # Absolute, as Lightning takes what begins with "http" for a URL.
                    trainer.fit(module, datamodule=datamodule, ckpt_path=str(checkpoint.absolute()), weights_only=True)
    finally:
        module.subnet.vocabulary.widen()  # Lightning tears down no fit that raises
    return round(Checkpoints.of(trainer).seconds, 3)


@contextmanager
def _naming_settings() -> Iterator[None]:
    """Turns Lightning's complaint of a setting that the data does not suit into a :class:`UserError`."""
    try:
        yield
    except ValueError as error:
        named = re.search(r"`(val_check_interval|limit_\w+_batches|check_val_every_n_epoch)`", str(error))
        if isinstance(error, UserError) or not named:
            raise
        raise UserError(f"trainer.{named.group(1)}: {str(error).splitlines()[0]}") from error


def measure(
    trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule, split: str = "validation"
) -> Validation:
    """Evaluates the current weights.

    Args:
        trainer: the run's trainer.
        module: the model to evaluate.
        datamodule: the data to evaluate on.
        split: ``validation`` or ``test``.

    Returns:
        Metric values by name, and what was counted of each example. A validation at the end of the fit is not repeated.
    """
    done = module.validation
    if split == "validation" and done and done.of is datamodule and done.step == trainer.global_step:
        return done
    evaluate = trainer.validate if split == "validation" else trainer.test
    (logged,) = evaluate(module, datamodule=datamodule, verbose=False)
    prefix = "val_" if split == "validation" else "test_"
    found = {name.removeprefix(prefix): float(value) for name, value in logged.items() if name.startswith(prefix)}
    metrics = {name.removesuffix(datamodule.metric_suffix): value for name, value in found.items()}
    return Validation(datamodule, trainer.global_step, metrics, module.examples)


def measure_parts(
    trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule, *, split: str, **facts: Any
) -> list[Record]:
    """Evaluates the current weights on each language of a mixture.

    Args:
        trainer: the run's trainer.
        module: the model to evaluate.
        datamodule: the data that was trained on; for a single language there is nothing to do.
        split: the split.
        facts: see :func:`records`.

    Returns:
        Records of kind ``part``.
    """
    shared = {**facts, "kind": "part", "trained_on": datamodule.language}
    return [
        record
        for part in datamodule.parts
        for record in records(module, part, measure(trainer, module, part, split), split=split, **shared)
    ]


def records(
    module: SubnetModule, datamodule: LanguageDataModule, found: Validation, *, split: str, **facts: Any
) -> list[Record]:
    """Converts the result of :func:`measure` into records, and keeps what was counted of each example beside them.

    Args:
        module: the evaluated model.
        datamodule: the data that it was evaluated on.
        found: the result.
        split: the split.
        facts: fields of a :class:`~lnsub.runs.records.Record` to override. The defaults come from the module's ticket.
    """
    ticket = module.ticket
    source = ticket.provenance if ticket else None
    shared: dict[str, Any] = {
        "task": module.task.name,
        "model": module.base_model,
        "source": source.language if source else None,
        "target": datamodule.language,
        "sparsity": source.sparsity if source else 0.0,
        "score": source.ranked_by if source else None,
        "init": module.init,
        "seed": module.seed,
        "round": None,
        "split": split,
        "n": len(found.examples) if found.examples else len(datamodule.table(split)),
        "ticket": ticket.checksum if ticket else None,
        "source_task": source.task if source else None,
        "source_seed": source.seed if source else None,
        "condition": condition_of(module, datamodule),
        "source_condition": (source.condition or None) if source else None,
    }
    made = records_of(found.metrics, **{**shared, **facts})
    if found.examples is None:
        return made
    if not datamodule.parts and module.trainer.is_global_zero:  # a mixture's are kept language by language
        found.examples.save(Checkpoints.of(module.trainer).folder.examples(made[0]))
    columns = module.task.denominators
    totals = {metric: found.examples.total(column) for metric, column in columns.items()}
    return [replace(record, n=totals.get(record.metric, record.n)) for record in made]
