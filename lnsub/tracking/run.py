"""A run on W&B: what it is called there, and the logger and callback that it gets."""

from lnsub.tracking.logger import RunCard, wandb_logger
from lnsub.tracking.rounds import WandbRounds
from lnsub.training.imp import IMPCallback
from lnsub.training.setup import Run


def track(run: Run, card: RunCard | None = None) -> None:
    """Has a run logged to W&B, where its settings say so.

    Args:
        run: a run that has not begun to train.
        card: what it is called; None: what :func:`card_of` says.
    """
    settings = run.config.wandb
    if settings is None or run.config.trainer["logger"] is False:
        return
    logger = wandb_logger(card or card_of(run), settings, run.folder, run.config.settings())
    run.trainer.loggers = [*run.trainer.loggers, logger]
    run.trainer.callbacks.append(WandbRounds(logger))


def card_of(run: Run) -> RunCard:
    """What a run of `lnsub fit` is called on W&B, and what it is filtered and grouped by there."""
    task, language, seed = run.data.task.name, run.data.language, run.module.seed
    facts = {"task": task, "language": language, "seed": seed, "task_language": f"{task}/{language}"}
    facts["base_model"] = run.module.base_model
    name, kind = f"{task}/{language}/seed{seed}", "dense"
    if any(isinstance(callback, IMPCallback) for callback in run.trainer.callbacks):
        kind = "imp"
    elif run.module.ticket is not None:
        p, kind = run.module.ticket.provenance, "transfer"
        name = f"{task}/{p.language}->{language}/s{p.sparsity:.2f}/seed{seed}"
        facts |= {"source": p.language, "target": language, "sparsity": p.sparsity, "source_task": p.task}
    return RunCard(name, kind, task, (task, language, f"seed{seed}"), facts)
