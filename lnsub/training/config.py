"""The settings of a run, parsed from the command line and files and validated: :class:`RunConfig`.

One parser reads the options of `lnsub fit`, the file in a run's folder, and the configurations of transfers and of the
demo. It only parses: :func:`lnsub.tracking.run.set_up` makes the run.
"""

import copy
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch import Trainer

from lnsub.common.bounds import Count, Minutes, Seed, check_numbers, hints_of, shown
from lnsub.common.errors import UserError
from lnsub.data.mixture import parts_of
from lnsub.runs.condition import Condition
from lnsub.tasks.task import LanguageDataModule
from lnsub.training.checkpoints import EVERY_MINUTES
from lnsub.training.config_files import check_files
from lnsub.training.module import SubnetModule
from lnsub.training.parse_errors import user_errors
from lnsub.training.ranks import RANK_TIMEOUT
from lnsub.training.trainer_settings import check_trainer

Settings = dict[str, Any]
"""Settings as loaded from YAML: nested, of plain types."""

_TRAINER_DEFAULTS = {
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "use_distributed_sampler": False,
    "log_every_n_steps": 20,
}

_SEEDS = {
    "head_seed": "Seed of the weights that the checkpoint lacks, such as the task head. Null: seed_everything.",
    "order_seed": "Seed of the order of the data, dropout and training masks. Null: seed_everything.",
    "subset_seed": "Seed of the choice of training rows, where a setting limits them. Null: the same in every run.",
}


@dataclass
class WandbSettings:
    """Where on Weights & Biases a run is logged.

    Attributes:
        project: the project.
        entity: the team or user; None: your default.
        group: the group that runs are compared in; None: the task's name.
        tags: tags of the run.
    """

    project: str = "lnsub"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunConfig:
    """All settings of one run, defaults included; :meth:`parse` and :meth:`of` make one and check it.

    Attributes:
        seed_everything: the run's seed: of the task head, the order of the data and dropout.
        head_seed: seed of the weights that the checkpoint lacks; None: ``seed_everything``.
        order_seed: seed of the order of the data, dropout and training masks; None: ``seed_everything``.
        subset_seed: seed of the choice of training rows; None: the same rows in every run.
        trainer: the arguments of Lightning's ``Trainer``; objects such as callbacks as ``class_path`` and
            ``init_args``.
        model: the arguments of :class:`~lnsub.training.module.SubnetModule` except ``task`` and ``seed``.
        data: ``class_path`` and ``init_args`` of the data module, without ``tokenizer`` and ``seed``.
        output: the tree of runs.
        wandb: where to log on W&B; None: nowhere.
        checkpoint_every_minutes: minutes between checkpoints; None: not by time.
        checkpoint_every_n_steps: optimizer steps between checkpoints; None: not by steps.
        rank_timeout: minutes that a process of a distributed run waits for the others.
    """

    seed_everything: Seed
    head_seed: Seed | None
    order_seed: Seed | None
    subset_seed: Seed | None
    trainer: Settings
    model: Settings
    data: Settings
    output: str
    wandb: WandbSettings | None
    checkpoint_every_minutes: Minutes | None
    checkpoint_every_n_steps: Count | None
    rank_timeout: Minutes

    @classmethod
    def parse(cls, args: Sequence[str]) -> "RunConfig":
        """Parses the options of `lnsub fit`, including ``--config`` files.

        Raises:
            UserError: a setting is unknown or its value invalid; the message names it.
        """
        return cls.of_namespace(parsed_options("fit", args))

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "RunConfig":
        """Validates settings loaded from YAML; see :meth:`parse`."""
        parser = run_parser("fit")
        with user_errors(parser):
            return cls.of_namespace(parser.parse_object(dict(settings)))

    @classmethod
    def of_namespace(cls, parsed: Namespace) -> "RunConfig":
        """Converts the result of :func:`run_parser`; see :meth:`parse`."""
        for section in ("trainer", "model", "data"):
            if not isinstance(parsed[section], Namespace):
                raise UserError(f"{section} is {shown(parsed[section])}: it must have settings by name.")
        own = Namespace({setting.name: parsed[setting.name] for setting in fields(cls)})
        with user_errors(run_parser("fit")):
            settings = yaml.safe_load(run_parser("fit").dump(own, skip_none=False))
        arguments = settings["data"].setdefault("init_args", {})
        if arguments.get("dataset") is None:
            arguments["dataset"] = _named(settings["data"]["class_path"]).task_class.dataset
        where = settings["wandb"]
        config = cls(**{**settings, "wandb": where and WandbSettings(**where)})
        config._check()
        return config

    def _check(self) -> None:
        """Checks all bounds, and that only what may be null is: the parser takes null for anything."""
        check_numbers(get_type_hints(RunConfig), vars(self))
        check_trainer(self.trainer)
        check_numbers(hints_of(SubnetModule), self.model, prefix="model.")
        check_numbers(hints_of(_named(self.data["class_path"])), self.data["init_args"], prefix="data.init_args.")
        check_numbers(get_type_hints(WandbSettings), vars(self.wandb or WandbSettings()), prefix="wandb.")
        callbacks = self.trainer["callbacks"] or []
        for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
            if isinstance(callback, dict):
                made = hints_of(_named(callback["class_path"]))
                check_numbers(made, callback.get("init_args") or {}, prefix="trainer.callbacks.")

    def settings(self) -> Settings:
        """The settings as plain YAML types; the inverse of :meth:`of`."""
        plain = {setting.name: copy.deepcopy(getattr(self, setting.name)) for setting in fields(self)}
        return {**plain, "wandb": vars(plain["wandb"]) if plain["wandb"] else None}

    def changed(self, changes: Mapping[str, Any]) -> "RunConfig":
        """The same settings except for some, by dotted key such as ``data.init_args.language``; see :meth:`parse`."""
        settings = self.settings()
        for key, value in changes.items():
            *parents, last = key.split(".")
            place = settings
            for parent in parents:
                place = place[parent]
            place[last] = value
        return self.of(settings)

    def to_yaml(self) -> str:
        """The settings as the text of a file that ``--config`` takes."""
        return yaml.safe_dump(self.settings(), sort_keys=False, allow_unicode=True)

    def data_module(self, language: str | None = None) -> LanguageDataModule:
        """Makes the data module.

        Args:
            language: overrides the language of the settings.

        Raises:
            UserError: an argument is outside its range.
        """
        arguments = self.data["init_args"] | (self.language_arguments(language) if language else {})
        seeds = {"order_seed": self.order_seed, "subset_seed": self.subset_seed}
        return _named(self.data["class_path"])(
            tokenizer=self.model["base_model"], seed=self.seed_everything, **seeds, **arguments
        )

    @property
    def condition(self) -> Condition:
        """What sets the run apart from the plain one of its seed."""
        of_data = {name: self.data["init_args"].get(name) for name in ("train_sample", "labels")}
        return Condition(self.head_seed, self.order_seed, self.subset_seed, **of_data)

    def language_arguments(self, language: str) -> dict[str, Any]:
        """The arguments of the data module that differ for another language, or mixture of languages.

        The shares of a mixture are left out for what has another number of parts.
        """
        shares = self.data["init_args"].get("shares")
        if shares is None or len(shares) == len(parts_of(language)):
            return {"language": language}
        return {"language": language, "shares": None}

    def trainer_arguments(self) -> dict[str, Any]:
        """The arguments of the trainer, with callbacks, loggers, strategies and plugins instantiated.

        Raises:
            UserError: one of them cannot be instantiated.
        """
        parser = run_parser("fit")
        with user_errors(parser):
            return vars(parser.instantiate_classes(parser.parse_object(self.settings())).trainer)


def parsed_options(command: str, args: Sequence[str]) -> Namespace:
    """Parses the options of a training command.

    Args:
        command: see :func:`run_parser`.
        args: the command line after the command.

    Raises:
        UserError: see :meth:`RunConfig.parse`.
    """
    check_files(args)
    parser = run_parser(command)
    with user_errors(parser):
        return parser.parse_args(list(args))


@cache
def run_parser(command: str) -> ArgumentParser:
    """The parser of a training command, with all settings of a run.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``; all but ``fit`` also take the options of the trainer's
            method of that name.
    """
    # Without abbreviations, which would accept the misspelled `--model.learning_rat`.
    parser = ArgumentParser(prog=f"lnsub {command}", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a file of settings; later ones override earlier ones")
    parser.add_argument(
        "--seed_everything",
        type=Seed,
        default=57,
        help="Seed of the task head, the order of the data and dropout; part of the run folder's name.",
    )
    for name, what in _SEEDS.items():
        parser.add_argument(f"--{name}", type=Seed | None, default=None, help=what)
    parser.add_class_arguments(Trainer, "trainer", fail_untyped=False, instantiate=False, sub_configs=True)
    parser.set_defaults({f"trainer.{name}": value for name, value in _TRAINER_DEFAULTS.items()})
    own = {"task", "seed", "head_seed", "order_seed"}
    parser.add_class_arguments(SubnetModule, "model", fail_untyped=False, instantiate=False, sub_configs=True, skip=own)
    own = {"tokenizer", "seed", "order_seed", "subset_seed"}
    parser.add_subclass_arguments(
        LanguageDataModule, "data", fail_untyped=False, instantiate=False, required=True, skip=own
    )
    parser.add_argument(
        "--output",
        type=str,
        default="runs",
        help="Tree of runs; this run's folder is OUTPUT/<task>/<language>/seed<seed_everything>.",
    )
    parser.add_argument(
        "--wandb",
        type=WandbSettings | None,
        default=None,
        help="Also log to Weights & Biases; offline without an API key. Null: CSV only.",
    )
    parser.add_argument(
        "--checkpoint_every_minutes",
        type=Minutes | None,
        default=EVERY_MINUTES,
        help="For fit: minutes between checkpoints, from which an interrupted run resumes. Null: not by time.",
    )
    parser.add_argument(
        "--checkpoint_every_n_steps",
        type=Count | None,
        default=None,
        help="For fit: optimizer steps between checkpoints. Null: not by steps; with neither, only between rounds.",
    )
    parser.add_argument(
        "--rank_timeout",
        type=Minutes,
        default=RANK_TIMEOUT,
        help="Minutes that a process of a distributed run waits for the others before the run stops.",
    )
    if command != "fit":
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="A checkpoint file on this machine with the weights to use. Null: those of the base model, and a new "
            "task head.",
        )
        given = {"model", "dataloaders", "datamodule", "return_predictions", "ckpt_path", "weights_only"}
        parser.add_method_arguments(Trainer, command, skip=given)
    return parser


def _named(class_path: str) -> Any:
    """Imports a class by its path."""
    return pkgutil.resolve_name(class_path)
