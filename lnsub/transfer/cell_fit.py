"""One cell: a fine-tuning from theta_0 as `lnsub fit` would do it, without IMP, and what is measured after it."""

import copy
import gc
import pkgutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer

from lnsub.cli.training import TrainingCLI
from lnsub.common.error_messages import one_line
from lnsub.common.errors import UserError
from lnsub.models.subnet import Subnet
from lnsub.runs.records import Record
from lnsub.tasks.task import LanguageDataModule
from lnsub.tickets.ticket import Ticket
from lnsub.tracking.rounds import WandbRounds
from lnsub.tracking.settings import RunCard
from lnsub.training.checkpoints import Checkpoints
from lnsub.training.imp import IMPCallback
from lnsub.transfer.baseline_masks import pruned_once
from lnsub.transfer.cell_folder import CellFolder
from lnsub.transfer.cells import Cell

_SET_BY_CELLS = ("--seed_everything", "--output", "--model.ticket", "--data.init_args.language", "--data.language")


class CellFit(TrainingCLI):
    """Fine-tunes one cell after another with the settings of a configuration; the parser is made once.

    Args:
        args: ``--config`` options and settings, as `lnsub fit` takes them.
        language: any of the languages, as the configuration need not name one.

    Raises:
        UserError: the configuration does not parse, or has a setting that the cells set.
    """

    def __init__(self, args: Sequence[str], language: str) -> None:
        self._folder = CellFolder(Path())
        self._cell: Cell
        for arg in args:
            if arg.split("=")[0] in _SET_BY_CELLS:
                raise UserError(
                    f"{arg.split('=')[0]} differs from cell to cell, so it cannot be given for all of them."
                )
        try:
            super().__init__("fit", ["fit", *args, f"--data.init_args.language={language}"], run=False)
        except Exception as error:
            if isinstance(error, UserError) or (line := one_line(error, ["fit"])) is None:
                raise
            raise UserError(line) from error
        self.settings = self._parsed_settings()
        self.task = self.data(language).task
        self.metrics = tuple(self.task.metrics())

    # Settings -------------------------------------------------------------------------------------------------------

    def _parsed_settings(self) -> dict[str, Any]:
        """The settings of all cells, as parsed: without IMP, and without what a cell sets."""
        settings = self.resolved_config()
        if settings["model"]["ticket"] is not None:
            raise UserError("The configuration has a model.ticket; the tickets are named by --tickets: take it out.")
        trainer = settings["trainer"]
        if (trainer["max_epochs"] or -1) < 1 and trainer["max_steps"] < 1:
            raise UserError("Say how long a fine-tuning is: set trainer.max_epochs or trainer.max_steps.")
        callbacks = trainer["callbacks"] or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        trainer["callbacks"] = [
            c for c in callbacks if not issubclass(pkgutil.resolve_name(c["class_path"]), IMPCallback)
        ]
        del settings["data"]["init_args"]["language"]
        return settings

    @property
    def seed(self) -> int:
        """The configuration's seed."""
        return int(self.settings["seed_everything"])

    def shared_settings(self) -> dict[str, Any]:
        """What must not differ between the cells of a folder."""
        return {key: value for key, value in self.settings.items() if key not in {"seed_everything", "output", "wandb"}}

    def data(self, language: str) -> LanguageDataModule:
        """Makes the data module of one language, with the configuration's settings."""
        given = self._get(self.config, "data").as_dict()
        given["init_args"]["language"] = language
        parser = self._data_parser
        return parser.instantiate_classes(parser.parse_object({"data": given})).data

    @cached_property
    def _data_parser(self) -> ArgumentParser:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(LanguageDataModule, "data")
        return parser

    def check_base(self, ticket: Ticket) -> None:
        """Refuses a ticket of another base model than the configuration's; raises UserError."""
        model = self.settings["model"]
        if model["init"] == "pretrained":
            built, _ = self.task.build(model["base_model"], attention=model["attention"])
            ticket.check_base(Subnet(built).fingerprint(), model["base_model"])

    # One cell -------------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> CellFolder:
        """The folder of the cell at hand."""
        return self._folder

    def instantiate_classes(self) -> None:
        """Makes nothing: not before there is a cell."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer as `lnsub fit` does, but the progress display is that of all cells."""
        self._get(self.config_init, "trainer")["enable_progress_bar"] = False
        return super().instantiate_trainer(**kwargs)

    def card(self, callbacks: Sequence[Callback]) -> RunCard:
        """What the cell is called on W&B, and what it is filtered and grouped by there."""
        cell = self._cell
        where = "zero-shot" if cell.kind == "zero_shot" else cell.language
        level = f"/s{cell.sparsity:.2f}" if cell.found else ""
        facts = {
            "task": cell.task,
            "language": cell.language,
            "seed": cell.seed,
            "task_language": f"{cell.task}/{cell.language}",
            "base_model": self.model.base_model,
            "source": cell.source,
            "target": ",".join(cell.targets),
            "sparsity": cell.sparsity,
            "variant": cell.variant,
        }
        if cell.found and cell.variant != "random":
            facts |= {"source_task": cell.found.provenance.task, "source_seed": cell.found.provenance.seed}
        tags = (cell.task, cell.kind, cell.row, *cell.targets, f"seed{cell.seed}")
        name = f"{cell.task}/{cell.row}->{where}{level}/seed{cell.seed}"
        return RunCard(name, cell.kind, f"{cell.kind}-{cell.task}", tags, facts)

    def build(self, cell: Cell, folder: CellFolder, ticket: Path | None) -> None:
        """Makes the model, the data module and the trainer of a cell.

        Args:
            cell: the cell.
            folder: its folder, where its configuration is written to.
            ticket: the mask to train under; None: dense.

        Raises:
            UserError: the ticket cannot be used.
        """
        settings = copy.deepcopy(self.settings)
        settings["seed_everything"] = cell.seed
        settings["data"]["init_args"]["language"] = cell.language
        settings["model"]["ticket"] = str(ticket) if ticket else None
        if cell.variant == "reinit":
            settings["model"]["init"] = "random"
        self._folder, self._cell = folder, cell
        self.config = self.parser.parse_object({"subcommand": "fit", "fit": settings})
        self._set_seed()
        super().instantiate_classes()
        if self.trainer.is_global_zero:
            folder.path.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(self.resolved_config(), sort_keys=False, allow_unicode=True)
            folder.config.write_text(text, encoding="utf-8")

    def fit_and_measure(
        self, cell: Cell, wanted: Sequence[tuple[str, str]], callbacks: Sequence[Callback] = ()
    ) -> tuple[list[Record], dict[str, str]]:
        """Trains the cell that was built, and measures it.

        Args:
            cell: the same cell.
            wanted: what to measure on: pairs of a target and a split. A test split that is not there is left out.
            callbacks: further callbacks of the trainer.

        Returns:
            The records, and for each target whose data cannot be used the reason.
        """
        # What is wrong with a target's data is better known before the training than after it.
        data, unusable = {cell.language: self.datamodule}, {}
        for target, split in wanted:
            try:
                if target not in data:
                    data[target] = self.data(target)
                if split == "validation" or split in data[target].source.splits():
                    data[target].table(split)
            except UserError as error:
                if target == cell.language or len(cell.targets) == 1:
                    raise
                unusable[target] = str(error)
        last = _LastValidation()
        self.trainer.callbacks.extend([last, *callbacks])
        checkpoints = Checkpoints(self.folder, self._get(self.config_init, "checkpoint_every_n_steps"))
        checkpoints.attach(self.trainer)
        self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=checkpoints.newest())
        wall_s = round(checkpoints.seconds, 3)
        records = []
        for target, split in wanted:
            if target in unusable or (split == "test" and split not in data[target].source.splits()):
                continue
            if (target, split) == (cell.language, "validation") and last.step == self.trainer.global_step:
                values = last.values
            else:
                evaluate = self.trainer.validate if split == "validation" else self.trainer.test
                values = _metrics(evaluate(self.model, datamodule=data[target], verbose=False)[0])
            records += self._records(cell, target, split, values, len(data[target].table(split)), wall_s)
        self._log(records)
        return records, unusable

    def _records(
        self, cell: Cell, target: str, split: str, values: dict[str, float], n: int, wall_s: float
    ) -> list[Record]:
        ticket = self.model.ticket
        # A random mask was found on nothing, whatever ticket its cell stands beside.
        found = cell.found if cell.variant != "random" else None
        return [
            Record(
                kind=cell.kind,
                task=self.task.name,
                model=self.model.base_model,
                source=cell.source,
                target=target,
                sparsity=cell.sparsity,
                score=ticket.provenance.score if ticket else None,
                init=self.model.init,
                seed=cell.seed,
                round=None,
                split=split,
                metric=name,
                value=value,
                n=n,
                wall_s=wall_s,
                ticket=ticket.checksum if ticket else None,
                source_task=found.provenance.task if found else None,
                source_seed=found.provenance.seed if found else None,
            )
            for name, value in values.items()
        ]

    def _log(self, records: Sequence[Record]) -> None:
        """Sends the measurements to the loggers, beside the sparsity."""
        # The target of a transfer is in its configuration; a zero-shot transfer has several.
        row = {
            f"{r.kind}/{f'{r.target}_' if r.kind == 'zero_shot' else ''}{r.split}_{r.metric}": r.value for r in records
        }
        for logger in self.trainer.loggers if records else ():
            logger.log_metrics(
                {f"{records[0].kind}/sparsity": records[0].sparsity, **row}, step=self.trainer.global_step
            )
            logger.save()

    def left_out(self) -> list[str]:
        """Says, in a few words if at all, which matrices the ticket and the model do not share."""
        if self.model.ticket is None:
            return []
        fit = self.model.subnet.fit(self.model.ticket.shapes)
        parts = ((fit.only_ticket, "of the ticket left out"), (fit.only_model, "of the model left dense"))
        return [f"{len(names)} matrices {what}" for names, what in parts if names]

    def prune_once(self, cell: Cell, masks: Path) -> None:
        """Makes one-shot tickets of the trained weights.

        Args:
            cell: the dense cell that was trained.
            masks: the folder for them.
        """
        for one_shot in cell.prunes if self.trainer.is_global_zero else ():
            ticket = pruned_once(self.model, cell, one_shot)
            ticket.save(masks / one_shot.mask_name(cell.task, cell.language, cell.seed))
        self.trainer.strategy.barrier()

    def release(self) -> None:
        """Ends the W&B run and lets go of the model, so that the next cell finds the memory free."""
        trainer = self.__dict__.get("trainer")
        for callback in trainer.callbacks if trainer else ():
            if isinstance(callback, WandbRounds):
                callback.close(trainer)
        for name in ("config_init", "trainer", "model", "datamodule"):
            self.__dict__.pop(name, None)
        del trainer
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class _LastValidation(Callback):
    """Keeps the last validation's metrics, and the step that they belong to: the fit's own may be the one wanted."""

    def __init__(self) -> None:
        self.step = -1
        self.values: dict[str, float] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.step = trainer.global_step
        self.values = _metrics(trainer.callback_metrics)


def _metrics(logged: Any) -> dict[str, float]:
    """The metrics of an evaluation, without the split's prefix."""
    return {name.split("_", 1)[1]: float(value) for name, value in logged.items() if name.startswith(("val_", "test_"))}
