"""Small commands that write files, each a second long, and what they leave: for trials in which a disk fails.

:mod:`tests.attacks.failing_calls` and :mod:`tests.attacks.full_disk` run them in processes forked from one that has
imported everything (:mod:`tests.support.trials`).
"""

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.trials import Trial, World

SECONDS = 120
"""How long a command may take; alone on a machine it is one or two."""


@dataclass
class Bench:
    """A world with a finished run, in which commands are tried one after the other.

    Attributes:
        world: the model and the data.
        place: where a command writes: ``out``; emptied before each trial.
        cache: its datasets cache; emptied too.
    """

    world: World
    place: Path
    cache: Path

    @classmethod
    def make(cls, path: Path) -> "Bench":
        """Writes the model, the data and the run that commands read."""
        world = World(path)
        world.make()
        bench = cls(world, path / "place", path / "place-cache")
        bench.place.mkdir()
        bench.cache.mkdir()
        status, said = bench.run(_fit(world, world.path / "runs"))
        if status:
            raise SystemExit(said)
        import lnsub.analysis.overlap
        import lnsub.cli.combine
        import lnsub.cli.export
        import lnsub.cli.overlap
        import lnsub.cli.report
        import lnsub.cli.transfer
        import lnsub.export.folder
        import lnsub.report.build
        import lnsub.transfer.runner  # noqa: F401

        return bench

    @property
    def output(self) -> Path:
        """What a command writes."""
        return self.place / "out"

    def empty(self) -> None:
        """Removes what the last trial left."""
        for folder in (self.place, self.cache):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def start(self, args: list[str], prepare: Callable[[], None] = lambda: None) -> Trial:
        """Starts a command, in a process in which ``prepare`` is called first."""

        def set_up() -> None:
            import datasets

            datasets.config.HF_DATASETS_CACHE = self.cache
            prepare()

        self._log.write_text("")
        return Trial.start(args, 1, self._log, set_up)

    def run(self, args: list[str]) -> tuple[int, str]:
        """Runs a command to its end; returns its exit status and what it said."""
        return self.end(self.start(args)), self.said

    def end(self, trial: Trial) -> int:
        """Waits for a command's end, and kills it if it has none; returns its exit status."""
        deadline = time.monotonic() + SECONDS
        while (ended := trial.ended()) is None:
            if time.monotonic() > deadline:
                trial.kill()
                raise SystemExit(f"a command does not end:\n{self.said}")
            time.sleep(0.01)
        return ended[0]

    @property
    def said(self) -> str:
        """What the last command said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def _log(self) -> Path:
        return self.world.path / "said.log"

    def arguments(self, name: str) -> list[str]:
        """The arguments of one of :data:`COMMANDS`."""
        return COMMANDS[name](self.world, self.output)


def _fit(world: World, output: Path) -> list[str]:
    changes = {"trainer.max_epochs": 1, "trainer.callbacks.sparsities": "[0.5]", "data.init_args.batch_size": 16}
    return world.command(1, changes, output, None)


def _tickets(world: World) -> list[str]:
    return [str(path) for path in sorted(world.path.glob("runs/xnli/en/seed57/tickets/*"))]


def _transfer(world: World, output: Path) -> list[str]:
    config = world.path / "runs" / "xnli" / "en" / "seed57" / "config.yaml"
    cells = [f"--config={config}", "--tickets", *_tickets(world), "--languages=en", "--seeds=57,58"]
    return ["transfer", *cells, f"--output={output}"]


COMMANDS: dict[str, Callable[[World, Path], list[str]]] = {
    "fit": _fit,
    "transfer": _transfer,
    "combine": lambda world, output: [
        "combine",
        "union",
        *_tickets(world) * 2,
        f"--output={output / 'union.safetensors'}",
    ],
    "overlap": lambda world, output: [
        "overlap",
        *_tickets(world) * 2,
        f"--inherited={world.path / 'base'}",
        f"--inherited-output={output / 'masks'}",
        "--format=csv",
        f"--output={output / 'overlap.csv'}",
    ],
    "report": lambda world, output: ["report", str(world.path / "runs"), f"--output={output / 'report.html'}"],
    "export": lambda world, output: ["export", *_tickets(world), f"--output={output / 'model'}"],
}
"""What makes the arguments of each command, given the world and its output."""

WHOLE_OR_REFUSED = ("combine", "export")
"""The commands that refuse to write where their output is already."""


def files(output: Path) -> dict[str, Any]:
    """What a command has left, by path, as far as it must not differ.

    Raises:
        Exception: a file is damaged.
    """
    found = {}
    for path in sorted(output.rglob("*")):
        name = str(path.relative_to(output))
        if path.is_file() and not path.name.startswith(".") and not re.search(r"\.part(ial)?\b", name):
            found[name] = _content(path)
    return found


def half_written(output: Path, expected: dict[str, Any]) -> list[str]:
    """Names the files that are neither those of ``expected``, nor the start of one that grows, nor a failure's reason.

    A checkpoint on the way is another than the last, and was read as a whole.
    """
    wrong = []
    for name, content in files(output).items():
        if name.endswith("results.jsonl"):
            whole = name in expected and content == expected[name][: len(content)]
        elif name.endswith("metrics.csv"):  # its columns may come with later rows
            whole = content.endswith(b"\n") or not content
        else:
            whole = name.endswith((".ckpt", "failed.json")) or content == expected.get(name)
        wrong += [] if whole else [name]
    return wrong


def told_wrongly(status: int, said: str) -> list[str]:
    """What is wrong with how a command ended: one line that names a path, or none where it goes on."""
    errors = [line for line in said.splitlines() if line.startswith("lnsub: error: ")]
    cells = [line for line in said.splitlines() if re.match(r"lnsub: cell \d+ failed: ", line)]
    found = []
    if "Traceback (most recent call last)" in said:
        found.append("a traceback")
    if status not in {0, 1, 2}:
        found.append(f"exit status {status}")
    elif status and not (len(errors) == 1 or (status == 1 and cells and not errors)):
        found.append(f"exit status {status} with {len(errors)} errors")
    elif status and "/" not in " ".join([*errors, *cells]):
        found.append("no path is named")
    elif not status and errors:
        found.append("an error, and exit status 0")
    return found


def differing_files(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """The names of the files in which two outcomes differ."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors" and path.name != "model.safetensors":
        from lnsub.tickets.ticket import Ticket

        ticket = Ticket.load(path)
        return ticket.provenance.sparsity, {name: mask.tobytes() for name, mask in ticket.masks.items()}
    if path.name == "results.jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [{key: value for key, value in row.items() if key not in {"wall_s", "time"}} for row in rows]
    if path.suffix == ".ckpt":
        from lnsub.training.checkpoint_files import read_checkpoint

        return {name: tensor.numpy().tobytes() for name, tensor in read_checkpoint(path)["state_dict"].items()}
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    return path.read_bytes()
