"""The one way to make a run, W&B included: its parts from a configuration, and what it is called on W&B."""

from lnsub.runs.folder import RunFolder
from lnsub.tracking.logger import RunCard, wandb_logger
from lnsub.tracking.rounds import WandbRounds
from lnsub.training.config import RunConfig
from lnsub.training.imp import IMPCallback
from lnsub.training.setup import Run, build


def set_up(
    config: RunConfig,
    *,
    folder: RunFolder | None = None,
    fitting: bool = True,
    progress: bool = True,
    card: RunCard | None = None,
) -> Run:
    """Makes a run from its settings: the one way to, for the command line, transfers, the demo and Python.

    Args:
        config: its settings; where they say so, it is logged to W&B.
        folder: where it goes; None: OUTPUT/<task>/<language>/seed<k>.
        fitting: whether it is to be fitted, with loggers.
        progress: whether a fit shows its own progress, unless the trainer's settings say no.
        card: what it is called on W&B; None: what :func:`card_of` says.

    Raises:
        UserError: a setting is outside its range, or the base model or the ticket cannot be used.
    """
    run = build(config, folder=folder, fitting=fitting, progress=progress)
    if fitting and config.wandb is not None and config.trainer["logger"] is not False:
        logger = wandb_logger(card or card_of(run), config.wandb, run.folder, config.settings())
        run.trainer.loggers = [*run.trainer.loggers, logger]
        run.trainer.callbacks.append(WandbRounds(logger))
    return run


def card_of(run: Run) -> RunCard:
    """What a run of `lnsub fit` is called on W&B, and what it is filtered and grouped by there."""
    task, language, seed = run.data.task.name, run.data.language, run.module.seed
    facts = {"task": task, "language": language, "seed": seed, "task_language": f"{task}/{language}"}
    facts["base_model"] = run.module.base_model
    if apart := run.config.condition.name(seed):
        facts["condition"] = apart
    ending = f"seed{seed}" + (f"-{apart}" if apart else "")
    name, kind = f"{task}/{language}/{ending}", "dense"
    if IMPCallback.of(run.trainer) is not None:
        kind = "imp"
    elif run.module.ticket is not None:
        p, kind = run.module.ticket.provenance, "transfer"
        name = f"{task}/{p.language}->{language}/s{p.sparsity:.2f}/{ending}"
        facts |= {"source": p.language, "target": language, "sparsity": p.sparsity, "source_task": p.task}
    return RunCard(name, kind, task, (task, language, f"seed{seed}"), facts)
