"""Soak test: real runs, killed with SIGKILL at random moments and restarted until done, against uninterrupted ones.

::

    python -m tests.soak --runs 40 --seed 1

Each run is `lnsub fit` on a tiny model with dropout: three rounds, or one fine-tuning run, on one to three processes
(gloo). Its process group is killed at a random moment; then the same command is restarted, and killed again with some
probability, until it ends. Then tickets, results, final weights and metrics.csv must equal those of an uninterrupted
run, bit for bit.

The processes are forked from this one, which has imported everything but started no threads: a trial takes seconds.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: no thread may have been started when we fork
os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "TOKENIZERS_PARALLELISM": "false"}

VARIANTS: dict[str, tuple[int, dict[str, Any]]] = {
    "one process": (1, {}),
    "two processes": (2, {}),
    "late rewinding, batches added up": (
        1,
        {
            "trainer.callbacks.rewind": "step",
            "trainer.callbacks.rewind_step": 5,
            "trainer.accumulate_grad_batches": 2,
        },
    ),
    "two processes, late rewinding": (2, {"trainer.callbacks.rewind": "step", "trainer.callbacks.rewind_step": 5}),
    "validation amid epochs": (1, {"trainer.val_check_interval": 0.5}),
    "three processes": (3, {}),
    "two processes, batches added up": (2, {"trainer.accumulate_grad_batches": 2}),
    "rounds in steps": (1, {"trainer.max_epochs": -1, "trainer.max_steps": 11}),
    "a plain fine-tuning": (1, {"trainer.callbacks": None}),
}
"""What is run: the number of processes, and the settings beside :data:`SETTINGS`; None takes one away."""

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


@dataclass
class World:
    """The folder that everything is in."""

    path: Path

    def make(self) -> None:
        """Writes the model and the data."""
        from tests.support.data_makers import WORDS
        from tests.support.models import save_checkpoint

        save_checkpoint(self.path / "base", WORDS, dropout=0.2)
        for split, rows in (("train", 64), ("validation", 24)):
            path = self.path / "xnli" / "en" / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = []
            for i in range(rows):
                words = [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 4 + i % 5)]
                lines.append(json.dumps({"premise": " ".join(words), "hypothesis": words[-1], "label": i % 3}) + "\n")
            path.write_text("".join(lines))

    def command(self, variant: str, output: Path, every: int | None) -> list[str]:
        """The command line of a run."""
        processes, changes = VARIANTS[variant]
        settings = SETTINGS | {
            "model.base_model": self.path / "base",
            "data.init_args.dataset": self.path / "xnli",
            "trainer.devices": processes,
            "trainer.strategy": "ddp" if processes > 1 else "auto",
            "checkpoint_every_n_steps": "null" if every is None else every,
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
    def start(cls, command: list[str], processes: int, log: Path) -> "Trial":
        """Forks the command's processes; each is what `lnsub` would be, with the environment of a launcher."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        trial = cls()
        for rank in range(processes):
            pid = os.fork()
            if pid == 0:
                launched = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": processes, "MASTER_PORT": port}
                environment = {name: str(value) for name, value in launched.items()} if processes > 1 else {}
                _be(command, {**environment, "MASTER_ADDR": "127.0.0.1"}, rank, log)
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


def _be(command: list[str], environment: dict[str, str], rank: int, log: Path) -> None:
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


def undisturbed(world: World, variant: str) -> tuple[dict[str, Any], float]:
    """The outcome of a run that saves between rounds only and is left alone, and the seconds that it takes."""
    output, log = world.path / "undisturbed" / variant, world.path / f"undisturbed-{variant}.log"
    begun = time.monotonic()
    statuses = Trial.start(world.command(variant, output, None), VARIANTS[variant][0], log).wait()
    seconds = time.monotonic() - begun
    if any(statuses):
        raise SystemExit(f"An undisturbed run ({variant}) ended with {statuses}:\n{log.read_text()}")
    return outcome(output / "xnli" / "en" / "seed57"), seconds


def soak(runs: int, seed: int, path: Path, variants: list[str]) -> list[str]:
    """Kills and starts again; returns what differed, a line each.

    Args:
        runs: how many runs, each killed at least once, over the variants in turn.
        seed: of the moments.
        path: an empty folder.
        variants: keys of :data:`VARIANTS`.
    """
    world = World(path)
    world.make()
    os.environ["HF_DATASETS_CACHE"] = str(path / "cache")
    _import_all()
    begun, wrong, kills, amid_write = time.monotonic(), [], 0, 0
    expected = {}
    for variant in variants:
        expected[variant] = undisturbed(world, variant)
        _say(begun, f"undisturbed, {variant}: {expected[variant][1]:.1f} s")
    rng = random.Random(seed)
    for number in range(1, runs + 1):
        variant = variants[(number - 1) % len(variants)]
        processes = VARIANTS[variant][0]
        output, log = path / "runs" / str(number), path / f"run{number}.log"
        folder = output / "xnli" / "en" / "seed57"
        command = world.command(variant, output, every=rng.choice([1, 2, 3, 5]))
        moments: list[str] = []
        while True:
            # At least once, then less and less often.
            to_kill = rng.random() < 0.8 ** len(moments)
            trial = Trial.start(command, processes, log)
            statuses = None
            if to_kill:
                deadline = time.monotonic() + rng.uniform(0.1, 1.1) * expected[variant][1]
                while time.monotonic() < deadline and (statuses := trial.ended()) is None:
                    time.sleep(0.01)
                if statuses is None:
                    trial.kill()
                    kills += 1
                    moments.append(_where(folder))
                    amid_write += bool(list(folder.rglob("*.partial")))
                    continue
                if not moments:  # it was too fast: again from the beginning, as each run is to be killed
                    shutil.rmtree(output)
                    continue
            statuses = statuses or trial.wait()
            break
        if any(statuses):
            wrong.append(f"run {number} ({variant}) ended with {statuses}: {log.read_text()[-2000:]}")
        elif (found := outcome(folder)) != expected[variant][0]:
            wrong.append(f"run {number} ({variant}): {_differing(found, expected[variant][0])}; in {folder}")
        else:
            shutil.rmtree(output)
        said = wrong[-1] if wrong and wrong[-1].startswith(f"run {number} ") else "identical"
        _say(begun, f"run {number}/{runs}, {variant}: killed {', '.join(moments) or 'never'}: {said}")
    _say(begun, f"{runs} runs, {kills} kills ({amid_write} while a file was written), {len(wrong)} different")
    return wrong


def _where(folder: Path) -> str:
    """About where a killed run was: the rounds that it had recorded, and the step of its last checkpoint."""
    import torch

    from lnsub.runs.records import read

    rounds = len({record.round for record in read(folder / "results.jsonl")})
    for name in ("last.ckpt", "previous.ckpt"):
        if (folder / "checkpoints" / name).exists():
            step = torch.load(folder / "checkpoints" / name, weights_only=True, mmap=True)["global_step"]
            return f"in round {rounds} after step {step}"
    return "before the first checkpoint"


def _differing(found: dict[str, Any], expected: dict[str, Any]) -> str:
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


def _say(begun: float, text: str) -> None:
    sys.stdout.write(f"[{time.monotonic() - begun:6.0f} s] {text}\n")
    sys.stdout.flush()


def main() -> int:
    """Runs the soak from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    # In memory where there is a folder for that: a killed process loses nothing that it has written.
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="lnsub-soak-", dir=memory if memory.is_dir() else None))
    wrong = soak(options.runs, options.seed, path, options.variants)
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    if not wrong:
        shutil.rmtree(path)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
