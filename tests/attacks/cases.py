"""What an attack by bad input is, and the world that all of them find: :mod:`tests.attacks.bad_input` runs them."""

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.support.trials import Trial, World


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: unique among all cases, and readable: ``"settings: trainer.max_steps: 0"``.
        make: fills an empty folder, which will be the working directory, with what the case needs; returns the
            arguments of `lnsub`, whose output goes below ``out`` in that folder.
        expected: ``refused``: exit status 2 and one line; ``skipped``: exit status 0, and a remark on stderr that says
            what was left out.
    """

    name: str
    make: Callable[[Path, World], list[str]]
    expected: Literal["refused", "skipped"] = "refused"


@dataclass
class AttackedWorld(World):
    """A world with a finished run, which the cases copy from and must leave as it is."""

    def make(self) -> None:
        """Writes the model, the data, the run and sentence pairs, and imports every command."""
        super().make()
        _import_commands()
        self.fit()
        pairs = self.path / "pairs" / "fr.csv"
        pairs.parent.mkdir()
        pairs.write_text("en,other\nthe cat,a dog\nred mat,blue mat\nAnn ran,Ann sat\n")

    def fit(self) -> None:
        """Makes the finished run, in a process of its own: the one that forks must start no thread."""
        log = self.path / "fit.log"
        trial = Trial.start(self.command(1, {"trainer.max_epochs": 1}, self.runs, None), 1, log)
        if trial.wait() != [0]:
            raise SystemExit(log.read_text())

    @property
    def runs(self) -> Path:
        """The tree with the run."""
        return self.path / "runs"

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.runs / "xnli" / "en" / "seed57"

    @property
    def config(self) -> Path:
        """The run's configuration."""
        return self.run / "config.yaml"

    @property
    def ticket(self) -> Path:
        """One of the run's tickets."""
        return self.run / "tickets" / "s0.60.safetensors"

    @property
    def other_ticket(self) -> Path:
        """The other one."""
        return self.run / "tickets" / "s0.30.safetensors"


def the_run(world: World) -> AttackedWorld:
    """The world with its run, for the cases that need that."""
    assert isinstance(world, AttackedWorld)
    return world


def copy_of_runs(folder: Path, world: World) -> Path:
    """Copies the tree with the finished run into a case's folder; returns the run's folder there."""
    there = the_run(world)
    shutil.copytree(there.runs, folder / "out")
    return folder / "out" / there.run.relative_to(there.runs)


def fit(folder: Path, world: World, changes: Iterable[tuple[str, Any]] = (), command: str = "fit") -> list[str]:
    """The command line of a run in a case's folder; of commands other than `fit`, without an IMPCallback."""
    plain = {"trainer.callbacks": None} if command != "fit" else {}
    args = world.command(1, {**plain, **dict(changes)}, folder / "out", None)
    return [command, *args[1:]]


def fifo(path: Path) -> Path:
    """Puts a FIFO in the place of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def _import_commands() -> None:
    """Imports all of lnsub, and builds its large parsers, once for all cases."""
    import importlib
    import pkgutil

    import lnsub

    sys.dont_write_bytecode = True  # which would look like a write outside
    for module in pkgutil.walk_packages(lnsub.__path__, "lnsub."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    import pandas  # noqa: F401
    import rich.progress  # noqa: F401
    import transformers.models.auto.modeling_auto  # noqa: F401

    from lnsub.training.config import run_parser

    for command in ("fit", "validate", "test", "predict"):
        run_parser(command)
