"""One cell: fine-tuning from theta_0 as in `lnsub fit`, without IMP, and the evaluation after it."""

import dataclasses
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from lnsub.common.errors import UserError
from lnsub.common.files import replacing
from lnsub.models.apply import check_fit
from lnsub.models.subnet import Subnet
from lnsub.runs.records import Record
from lnsub.tasks.task import LanguageDataModule, Task
from lnsub.tickets.provenance import INHERITED
from lnsub.tickets.ticket import Ticket
from lnsub.tracking.logger import RunCard
from lnsub.tracking.run import set_up
from lnsub.training.budget import Budget
from lnsub.training.callbacks import log_row, notifying_run_end
from lnsub.training.checkpoints import Checkpoints
from lnsub.training.config import RunConfig, Settings
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule
from lnsub.training.one_fit import fit_once, measure, measure_parts, records
from lnsub.training.setup import Run
from lnsub.transfer.baseline_masks import pruned_once
from lnsub.transfer.cell_folder import CellFolder
from lnsub.transfer.cells import Cell


class CellFit:
    """Fine-tunes cells with the settings of a configuration.

    Args:
        config: the settings; those that differ between cells are replaced, and IMP is removed.

    Raises:
        UserError: the configuration has a ticket, or no length of a fine-tuning.
    """

    def __init__(self, config: RunConfig) -> None:
        if config.model["ticket"] is not None:
            raise UserError("The configuration has a model.ticket; the tickets are named by --tickets: take it out.")
        Budget.of_settings(config.trainer["max_epochs"], config.trainer["max_steps"])
        callbacks = config.trainer["callbacks"] or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        others = [c for c in callbacks if not issubclass(pkgutil.resolve_name(c["class_path"]), IMPCallback)]
        self.config = dataclasses.replace(config, trainer={**config.trainer, "callbacks": others})
        self.task: Task = config.data_module(config.data["init_args"]["language"]).task
        self.metrics = self.task.complete()

    @property
    def seed(self) -> int:
        """The configuration's seed."""
        return self.config.seed_everything

    def shared_settings(self) -> Settings:
        """The settings that must be the same for all cells of a folder."""
        settings = self.config.settings()
        del settings["data"]["init_args"]["language"]
        return {key: value for key, value in settings.items() if key not in {"seed_everything", "output", "wandb"}}

    def data(self, language: str) -> LanguageDataModule:
        """Builds the data module of one language with the configuration's settings."""
        return self.config.data_module(language)

    def check_base(self, ticket: Ticket) -> None:
        """Raises UserError if a ticket has another base model than the configuration."""
        model = self.config.model
        if model["init"] == "pretrained":
            built, _ = self.task.build(model["base_model"], attention=model["attention"])
            ticket.check_base(Subnet(built).fingerprint(), model["base_model"])

    def set_up(self, cell: Cell, folder: CellFolder, ticket: Path | None) -> Run:
        """Builds the run of a cell and writes its configuration.

        Args:
            cell: the cell.
            folder: its folder.
            ticket: the mask to train under; None: dense.

        Raises:
            UserError: the ticket cannot be used.
        """
        changes = {
            "seed_everything": cell.seed,
            **{f"data.init_args.{key}": value for key, value in self.config.language_arguments(cell.language).items()},
            "model.ticket": str(ticket) if ticket else None,
            "model.init": "random" if cell.variant == "reinit" else self.config.model["init"],
        }
        shown = card(cell, self.config.model["base_model"])
        run = set_up(self.config.changed(changes), folder=folder, progress=False, card=shown)
        if run.trainer.is_global_zero:
            with replacing(folder.config) as file:
                file.write(run.config.to_yaml().encode())
        return run

    def fit_and_measure(
        self, run: Run, cell: Cell, wanted: Sequence[tuple[str, str]], callbacks: Sequence[Callback] = ()
    ) -> tuple[list[Record], dict[str, str]]:
        """Trains and evaluates a cell.

        Args:
            run: the cell's run.
            cell: the cell.
            wanted: pairs of target and split to evaluate on. Missing test splits are skipped.
            callbacks: additional callbacks of the trainer.

        Returns:
            The records, and the reason for each target whose data cannot be used.
        """
        data, unusable = self._targets(run, cell, wanted)
        trainer = run.trainer
        trainer.callbacks.extend(callbacks)
        every = (self.config.checkpoint_every_minutes, self.config.checkpoint_every_n_steps)
        checkpoints = Checkpoints(CellFolder(run.folder.path), *every).attach(trainer, run.module)
        found: list[Record] = []
        with notifying_run_end(trainer), run.module.staying():
            seconds = fit_once(trainer, run.module, run.data, Budget.of(trainer), checkpoints.newest())
            for target, split in wanted:
                if target in unusable or (split == "test" and split not in data[target].splits()):
                    continue
                measured = measure(trainer, run.module, data[target], split)
                facts: dict[str, Any] = _facts(cell) | {"wall_s": seconds, "split": split}
                found += records(run.module, data[target], measured, **facts)
                if cell.kind == "transfer":
                    found += measure_parts(trainer, run.module, data[target], **facts)
            _log(trainer, found)
        return found, unusable

    def _targets(
        self, run: Run, cell: Cell, wanted: Sequence[tuple[str, str]]
    ) -> tuple[dict[str, LanguageDataModule], dict[str, str]]:
        """Loads the targets' data before training, so that bad data fails early."""
        data, unusable = {cell.language: run.data}, {}
        for target, split in wanted:
            try:
                if target not in data:
                    data[target] = self.data(target)
                if split == "validation" or split in data[target].splits():
                    data[target].table(split)
            except UserError as error:
                if target == cell.language or len(cell.targets) == 1:
                    raise
                unusable[target] = str(error)
        return data, unusable

    def prune_once(self, run: Run, cell: Cell, masks: Path) -> None:
        """Makes one-shot tickets of the trained weights.

        Args:
            run: the cell's run, trained.
            cell: the dense cell.
            masks: the folder to write them to.
        """
        for one_shot in cell.prunes if run.trainer.is_global_zero else ():
            ticket = pruned_once(run.module, cell, one_shot)
            ticket.save(masks / one_shot.mask_name(cell.task, cell.language, cell.seed))
        run.trainer.strategy.barrier()


def card(cell: Cell, base_model: str) -> RunCard:
    """A cell's name on W&B, and the values to filter and group it by."""
    where = "zero-shot" if cell.kind == "zero_shot" else cell.language
    level = f"/s{cell.sparsity:.2f}" if cell.found else ""
    facts = {
        "task": cell.task,
        "language": cell.language,
        "seed": cell.seed,
        "task_language": f"{cell.task}/{cell.language}",
        "base_model": base_model,
        "source": cell.source,
        "target": ",".join(cell.targets),
        "sparsity": cell.sparsity,
        "variant": cell.variant,
    }
    if cell.mask_of:
        facts |= {"source_task": cell.mask_of.provenance.task, "source_seed": cell.mask_of.provenance.seed}
    if cell.start:
        facts |= {"start_sparsity": cell.start.provenance.sparsity}
    tags = (cell.task, cell.kind, cell.row, *cell.targets, f"seed{cell.seed}")
    name = f"{cell.task}/{cell.row}->{where}{level}/seed{cell.seed}"
    return RunCard(name, cell.kind, f"{cell.kind}-{cell.task}", tags, facts)


def left_out(module: SubnetModule) -> list[str]:
    """Counts the matrices that only the ticket or only the model has, as short phrases; empty if there are none."""
    if module.ticket is None:
        return []
    fit = check_fit(module.ticket, module.subnet, module.base_model)
    parts = ((fit.only_ticket, "of the ticket left out"), (fit.only_model, "of the model left dense"))
    return [f"{len(names)} matrices {what}" for names, what in parts if names]


def _facts(cell: Cell) -> dict[str, object]:
    """The fields of a cell's records that differ from those of its ticket."""
    # A random or an inherited mask has no source, whatever ticket it is compared with.
    found = cell.mask_of
    task = INHERITED if cell.variant == "inherited" else None
    return {
        "kind": cell.kind,
        "source": cell.source,
        "sparsity": cell.sparsity,
        "source_task": found.provenance.task if found else task,
        "source_seed": found.provenance.seed if found else None,
        # Of a transfer's cells all have the same settings, so that these tell none apart.
        "condition": None,
        "source_condition": (found.provenance.condition or None) if found else None,
    }


def _log(trainer: Trainer, found: Sequence[Record]) -> None:
    """Sends the measurements to the loggers, with the sparsity."""
    if not found:
        return
    # A transfer has one target, which is in its configuration; a zero-shot transfer has several.
    row = {f"{found[0].kind}/sparsity": found[0].sparsity}
    of = {r: f"{r.kind}/{f'{r.target}_' if r.kind == 'zero_shot' else ''}" for r in found if r.kind != "part"}
    row |= {f"{kind}{r.split}_{r.metric}": r.value for r, kind in of.items()}
    log_row(trainer, row)
