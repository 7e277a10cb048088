"""`lnsub fit`, `validate`, `test` and `predict`: LightningCLI, with a run's folder, its loggers and its progress."""

import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.logging import RichHandler

from lnsub.common.errors import UserError
from lnsub.common.files import replacing
from lnsub.common.locks import claimed
from lnsub.common.signals import Preempted
from lnsub.runs.folder import RunFolder
from lnsub.tasks.task import LanguageDataModule
from lnsub.tracking.logger import RunWandbLogger, wandb_logger
from lnsub.tracking.rounds import WandbRounds
from lnsub.tracking.settings import RunCard, WandbSettings
from lnsub.training.checkpoints import EVERY_N_STEPS
from lnsub.training.csv_logger import RunCSVLogger
from lnsub.training.fit import fit
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule
from lnsub.training.preemption import Preemption, leave
from lnsub.training.progress import RoundProgress
from lnsub.training.ranks import RANK_TIMEOUT, detecting_lost_ranks
from lnsub.training.ranks import set_up as set_up_ranks
from lnsub.training.summary import print_rounds

log = logging.getLogger(__name__)

HARMLESS = frozenset(
    (
        *("accelerator", "devices", "num_nodes", "strategy", "plugins", "default_root_dir", "inference_mode"),
        *("logger", "log_every_n_steps", "enable_progress_bar", "enable_model_summary", "profiler", "detect_anomaly"),
    )
)
"""Trainer settings that may differ when a run is gone on with: they do not change what is computed."""
_NO_DIFFERENCE = {
    *("output", "wandb", "checkpoint_every_n_steps", "rank_timeout", "data.init_args.num_workers"),
    *(f"trainer.{name}" for name in HARMLESS),
}

_STRICT = {"exit_on_error": False, "allow_abbrev": False}

_DESCRIPTIONS = {
    "fit": "Finds tickets: all rounds of iterative magnitude pruning, or, without an IMPCallback among "
    "trainer.callbacks, one fine-tuning. Begin with a file of configs/; --trainer.callbacks.help=lnsub.IMPCallback "
    "and --data.help=lnsub.XNLI (or WikiANN, WikipediaMLM) list the settings of a class.",
    "validate": "Measures a model on the validation split; --ckpt_path names a fine-tuned one.",
    "test": "Measures a model on the test split; --ckpt_path names a fine-tuned one.",
    "predict": "Writes predictions.jsonl into the run's folder; --ckpt_path names a fine-tuned model.",
}


class TrainingCLI(LightningCLI):
    """One training command, parsed and run.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        args: the command line, from the command on.
    """

    def __init__(self, command: str, args: ArgsType, *, run: bool = True) -> None:
        self._command = command
        self._run = run
        super().__init__(
            SubnetModule,
            LanguageDataModule,
            subclass_mode_data=True,
            save_config_callback=None,
            trainer_defaults={
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
                "enable_checkpointing": False,
                "use_distributed_sampler": False,
                "log_every_n_steps": 20,
            },
            # Without abbreviations, which would take `--model.learning_rat` for a setting that is spelled otherwise.
            parser_kwargs={**_STRICT, command: {**_STRICT, "description": _DESCRIPTIONS[command]}},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )

    # How the command line is made -----------------------------------------------------------------------------------

    def subcommands(self) -> dict[str, set[str]]:
        """Only the command at hand, as each costs seconds to set up; `fit` resumes by itself, without a path."""
        found = LightningCLI.subcommands()[self._command]
        own = {"fit": {"ckpt_path", "weights_only"}, "predict": {"return_predictions"}}
        return {self._command: found | own.get(self._command, set())}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the seed. LightningCLI's own takes True for a random one too, which no run could be gone on with."""
        parser.add_argument(
            "--seed_everything",
            type=NonNegativeInt,
            default=57,
            help="Seed of the task head, the order of the data and dropout; part of the run folder's name.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the tree of runs and W&B, and ties together what must agree."""
        parser.add_argument(
            "--output",
            default="runs",
            help="Tree of runs; this run's folder is OUTPUT/<task>/<language>/seed<seed_everything>.",
        )
        parser.add_argument(
            "--wandb",
            type=WandbSettings | None,
            default=None,
            help="Log to Weights & Biases too; offline where there is no API key. Null: CSV only.",
        )
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=PositiveInt | None,
            default=EVERY_N_STEPS,
            help="For fit: optimizer steps between checkpoints, which an interrupted run goes on from. Null: only "
            "between rounds.",
        )
        parser.add_argument(
            "--rank_timeout",
            type=PositiveFloat,
            default=RANK_TIMEOUT,
            help="Minutes that one of several processes waits for the others before the run stops.",
        )
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("model.base_model", "data.init_args.tokenizer")
        parser.link_arguments("data", "model.task", compute_fn=_task_of, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses without LightningCLI's warning about arguments that are passed on."""
        self.config = parser.parse_args(args)

    # What is made from it -------------------------------------------------------------------------------------------

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        output = self._get(self.config_init, "output")
        return RunFolder.of(output, self.datamodule.task.name, self.datamodule.language, self.model.seed)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer: the run's folder as its root, CSV always, W&B as configured, one progress display."""
        given = self._get(self.config_init, "trainer")
        if given.get("default_root_dir") is not None:
            raise UserError("trainer.default_root_dir is the run's folder, which lnsub names: give --output instead.")
        kwargs["default_root_dir"] = str(self.folder.path)
        callbacks = given.get("callbacks") or []
        callbacks = list(callbacks) if isinstance(callbacks, list) else [callbacks]
        if given.get("enable_progress_bar") is not False and self._command == "fit":
            callbacks.append(RoundProgress())
        loggers = self._loggers(given.get("logger"), callbacks) if self._command == "fit" else []
        callbacks += [WandbRounds(logger) for logger in loggers if isinstance(logger, RunWandbLogger)]
        kwargs["logger"], kwargs["callbacks"] = loggers or False, callbacks
        trainer = super().instantiate_trainer(**kwargs)
        set_up_ranks(trainer, self._get(self.config_init, "rank_timeout"))
        if self._command == "fit":
            trainer.callbacks.append(Preemption())
        return trainer

    def _loggers(self, configured: Any, callbacks: Sequence[Callback]) -> list[Logger]:
        if configured is False:
            return []
        loggers: list[Logger] = [RunCSVLogger(self.folder)]
        if isinstance(configured, Logger):
            loggers.append(configured)
        elif isinstance(configured, Sequence):
            loggers.extend(configured)
        settings = self._get(self.config_init, "wandb")
        if settings is not None:
            loggers.append(wandb_logger(self.card(callbacks), settings, self.folder, self.resolved_config()))
        return loggers

    def card(self, callbacks: Sequence[Callback]) -> RunCard:
        """What the run is called on W&B, and what it is filtered and grouped by there."""
        task, language, seed = self.datamodule.task.name, self.datamodule.language, self.model.seed
        facts = {"task": task, "language": language, "seed": seed, "task_language": f"{task}/{language}"}
        facts["base_model"] = self.model.base_model
        name, kind = f"{task}/{language}/seed{seed}", "dense"
        if any(isinstance(callback, IMPCallback) for callback in callbacks):
            kind = "imp"
        elif self.model.ticket is not None:
            p, kind = self.model.ticket.provenance, "transfer"
            name = f"{task}/{p.language}->{language}/s{p.sparsity:.2f}/seed{seed}"
            facts |= {"source": p.language, "target": language, "sparsity": p.sparsity, "source_task": p.task}
        return RunCard(name, kind, task, (task, language, f"seed{seed}"), facts)

    def resolved_config(self) -> dict[str, Any]:
        """The configuration as parsed, defaults included; as YAML it repeats the run."""
        config = self.config[self._command].clone()
        config.pop("config", None)
        text = self._parser(self._command).dump(config, skip_none=False)
        return yaml.safe_load(text)

    def _run_subcommand(self, subcommand: str) -> None:
        if self._run:
            super()._run_subcommand(subcommand)

    # The commands ---------------------------------------------------------------------------------------------------

    def fit(self, model: SubnetModule, datamodule: LanguageDataModule) -> None:
        """Runs all rounds of IMP, or one fine-tuning, and prints what came of it."""
        with self._claimed():
            self._keep_config()
            count = sum(weight.numel() for weight in model.subnet.weights.values())
            log.info(f"{model.base_model}: {len(model.subnet.weights)} prunable matrices, {count:,} weights")
            try:
                with detecting_lost_ranks(self.trainer):
                    self._fit(model, datamodule)
            except Preempted as stop:
                leave(self.trainer, stop)  # SLURM ends the job at once, so this comes last
                raise
        if self.trainer.is_global_zero:
            print_rounds(self.folder, model.task.metric)

    def predict(self, model: SubnetModule, datamodule: LanguageDataModule, **kwargs: Any) -> None:
        """Writes one JSON line an example, in the split's order, into the run's folder."""
        batches = self.trainer.predict(model, datamodule=datamodule, return_predictions=True, **kwargs)
        rows = [row for batch in batches or [] for row in batch]
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            import torch.distributed as dist

            dist.all_gather_object(parts, rows)
            rows = [row for part in parts for row in part]
        if self.trainer.is_global_zero:
            path = self.folder.path / "predictions.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = (json.dumps(row, ensure_ascii=False) for row in sorted(rows, key=lambda row: row["index"]))
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            log.info(f"{len(rows):,} predictions: {path}")

    def _fit(self, model: SubnetModule, datamodule: LanguageDataModule) -> None:
        """Fits, and ends what is shown of it however it ends."""
        every = self._get(self.config_init, "checkpoint_every_n_steps")
        done = False
        try:
            fit(self.trainer, model, datamodule, checkpoint_every_n_steps=every)
            done = True
        finally:
            for callback in self.trainer.callbacks:
                if isinstance(callback, RoundProgress):
                    callback.close()
                elif isinstance(callback, WandbRounds):
                    callback.close(self.trainer, failed=not done)

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Keeps other processes off the run's folder; of those that run it together (DDP) the first one holds it."""
        if not self.trainer.is_global_zero:
            yield
            return
        with claimed(self.folder.path) as ours:
            if not ours:
                raise UserError(
                    f"Another process is at {self.folder.path}: wait until it ends, or choose another --output."
                )
            self.folder.sweep()
            yield

    def _keep_config(self) -> None:
        if not self.trainer.is_global_zero:
            return
        if not self.folder.started:
            self.folder.config.unlink(missing_ok=True)  # of a run that failed before it had anything to keep
        keep_settings(self.folder.config, self.resolved_config())


def keep_settings(path: Path, config: dict[str, Any]) -> None:
    """Writes the settings that a folder's runs have, or checks that those there already were begun with the same ones.

    Args:
        path: the file, in the folder.
        config: the resolved configuration. Settings that do not change what is computed may differ.

    Raises:
        UserError: the file's settings are others, or it cannot be read.
    """
    if not path.exists():
        with replacing(path) as file:
            file.write(yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
        return
    try:
        there = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable as YAML any more; mend it, or choose another --output.") from error
    differing = sorted(key for key in _flat(there).items() ^ _flat(config).items())
    if differing:
        key = differing[0][0]
        raise UserError(
            f"{path.parent} holds a run with other settings: {key} was {_flat(there).get(key)}, "
            f"now it is {_flat(config).get(key)}. Choose another --output, or delete that folder."
        )


def _task_of(datamodule: LanguageDataModule) -> Any:
    return datamodule.task


def _flat(config: Any, prefix: str = "") -> dict[str, str]:
    """The settings that decide what is computed, as text by dotted key."""
    if not isinstance(config, dict):
        return {prefix: json.dumps(config, default=str)}
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if name in _NO_DIFFERENCE:
            continue
        flat |= _flat(value, name)
    return flat


def quiet() -> None:
    """Shows lnsub's own remarks, on the first process only, and keeps the libraries' routine ones off the screen."""
    own = logging.getLogger("lnsub")
    first = os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK", "0")) == "0"
    own.setLevel(logging.INFO if first else logging.WARNING)
    if not own.handlers:
        handler = RichHandler(console=Console(stderr=True), show_time=False, show_level=False, show_path=False)
        own.addHandler(handler)
        own.propagate = False
    for name in ("lightning.pytorch", "lightning.fabric", "datasets", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR if name == "transformers" else logging.WARNING)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    # Metrics are summed over ranks by torchmetrics before they are logged.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    warnings.filterwarnings("ignore", message=".*is deprecated, use `isinstance.*")
    warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
