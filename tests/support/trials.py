"""Whole runs on a tiny model as processes that can be killed: forked from one that has imported everything.

A trial takes a second that way. The process that forks them must have started no thread, so it is a program of its own
(:mod:`tests.soak`, :mod:`tests.attacks.kills`), and never pytest's.
"""

import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: no thread may have been started when we fork
os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "TOKENIZERS_PARALLELISM": "false"}

SETTINGS: dict[str, Any] = {
    "data": "lnsub.XNLI",
    "data.init_args.language": "en",
    "data.init_args.max_length": 32,
    "data.init_args.batch_size": 4,
    "model.learning_rate": 5e-3,
    "trainer.max_epochs": 2,
    "trainer.gradient_clip_val": 1.0,
    "trainer.accelerator": "cpu",
    "trainer.log_every_n_steps": 1,
    "trainer.enable_progress_bar": "false",
    "trainer.callbacks": "lnsub.IMPCallback",
    "trainer.callbacks.sparsities": "[0.3,0.6]",
    "trainer.callbacks.keep_checkpoint": "true",
}


def new_place(name: str) -> Path:
    """Makes a folder for a program's trials, in memory where there is a place for that.

    It is as fast, and a killed process loses nothing that it has written.
    """
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix=f"lnsub-{name}-", dir=memory if memory.is_dir() else None)).resolve()


@dataclass
class World:
    """The folder that everything is in: the base model, the data and all runs."""

    path: Path

    def make(self) -> None:
        """Writes the model and the data, and imports what a run needs, once, before the forks."""
        os.environ["HF_DATASETS_CACHE"] = str(self.path / "cache")
        _import_all()
        from tests.support.data_makers import WORDS
        from tests.support.models import save_checkpoint

        save_checkpoint(self.path / "base", WORDS, dropout=0.2, spare=20)
        for split, rows in (("train", 64), ("validation", 24)):
            path = self.path / "xnli" / "en" / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = []
            for i in range(rows):
                words = [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 4 + i % 5)]
                lines.append(json.dumps({"premise": " ".join(words), "hypothesis": words[-1], "label": i % 3}) + "\n")
            path.write_text("".join(lines))

    def command(
        self,
        processes: int,
        changes: dict[str, Any],
        output: Path,
        every: int | None = None,
        minutes: float | None = None,
    ) -> list[str]:
        """The command line of a run.

        Args:
            processes: how many.
            changes: settings beside :data:`SETTINGS`; None takes one away.
            output: its tree of runs.
            every: steps between checkpoints; None: not by steps.
            minutes: minutes between checkpoints; None: not by time.
        """
        settings = SETTINGS | {
            "model.base_model": self.path / "base",
            "data.init_args.dataset": self.path / "xnli",
            "trainer.devices": processes,
            "trainer.strategy": "ddp" if processes > 1 else "auto",
            "checkpoint_every_n_steps": "null" if every is None else every,
            "checkpoint_every_minutes": "null" if minutes is None else minutes,
            "output": output,
            **changes,
        }
        if settings["trainer.callbacks"] is None:
            settings = {key: value for key, value in settings.items() if not key.startswith("trainer.callbacks")}
        return ["fit", *(f"--{key}={value}" for key, value in settings.items())]


@dataclass
class Trial:
    """One start of a command, in a process group of its own."""

    pids: list[int] = field(default_factory=list)

    @classmethod
    def start(
        cls, command: list[str], processes: int, log: Path, prepare: Callable[[], None] = lambda: None
    ) -> "Trial":
        """Forks the command's processes; each is what `lnsub` would be, with the environment of a launcher.

        Args:
            command: the command line.
            processes: how many.
            log: where their output is appended.
            prepare: called in each of them first.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        trial = cls()
        for rank in range(processes):
            pid = os.fork()
            if pid == 0:
                launched = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": processes, "MASTER_PORT": port}
                environment = {name: str(value) for name, value in launched.items()} if processes > 1 else {}
                _be(command, {**environment, "MASTER_ADDR": "127.0.0.1"}, rank, log, prepare)
            trial.pids.append(pid)
            # In the parent, so that it is done before anything is killed; all ranks are in the first one's group.
            os.setpgid(pid, trial.pids[0])
        return trial

    def ended(self) -> list[int] | None:
        """The exit statuses once all processes have ended; None before."""
        states = [os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) for pid in self.pids]
        if any(state is None for state in states):
            return None
        return self.wait()

    def wait(self) -> list[int]:
        """Waits for all processes; returns their exit statuses, negative for a signal."""
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]

    def kill(self) -> list[int]:
        """SIGKILL to all of them at once."""
        os.killpg(self.pids[0], signal.SIGKILL)
        return self.wait()


def _be(command: list[str], environment: dict[str, str], rank: int, log: Path, prepare: Callable[[], None]) -> None:
    """What a forked process does; it never returns."""
    status = 70
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ |= environment
        from lightning.fabric.utilities.rank_zero import rank_zero_only

        from lnsub.cli.main import main

        rank_zero_only.rank = rank  # Lightning reads it from the environment when it is imported
        prepare()
        status = main(command)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def outcome(folder: Path) -> dict[str, Any]:
    """What a finished run's folder holds, as far as it must not differ."""
    import torch

    from lnsub.runs.records import read
    from lnsub.tickets.ticket import Ticket

    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    masks = {path.name: Ticket.load(path).masks for path in sorted(folder.glob("tickets/*.safetensors"))}
    return {
        "tickets": {name: {k: m.tobytes() for k, m in found.items()} for name, found in masks.items()},
        "results": [(r.kind, r.round, r.metric, r.value, r.n, r.ticket) for r in read(folder / "results.jsonl")],
        "weights": {name: tensor.numpy().tobytes() for name, tensor in state.items()},
        "metrics.csv": (folder / "metrics.csv").read_bytes(),
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
    }


def differing(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Says in which parts two outcomes differ."""
    parts = []
    for name, value in expected.items():
        if found[name] != value:
            odd = [key for key in value if found[name].get(key) != value[key]] if isinstance(value, dict) else []
            parts.append(f"{name} ({len(odd)} of {len(value)}: {odd[0]} ...)" if odd else name)
    return "differing: " + ", ".join(parts)


def _import_all() -> None:
    """Imports what a run needs, once, before the forks."""
    import transformers.models.bert.modeling_bert  # noqa: F401

    import lnsub.cli.training  # noqa: F401
