"""Soak test: real runs, killed with SIGKILL at random moments and restarted until done, against uninterrupted ones.

::

    python -m tests.soak --runs 40 --seed 1

Each run is `lnsub fit` on a tiny model with dropout: three rounds, or one fine-tuning run, on one to three processes
(gloo), which saves in the background, every few steps or every few milliseconds. Its process group is killed at a
random moment, or at the next one at which a checkpoint is being written; then the same command is restarted, and killed
again with some probability, until it ends. Then tickets, results, final weights and metrics.csv must equal those of an
uninterrupted run, bit for bit.
"""

import argparse
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.trials import Trial, World, differing, new_place, outcome

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
"""What is run: the number of processes, and the settings beside those of every trial; None takes one away."""

EVERY: tuple[dict[str, Any], ...] = (
    *({"every": steps} for steps in (1, 2, 3, 5)),
    *({"minutes": minutes} for minutes in (0.0001, 0.001, 0.005)),
    {"every": 5, "minutes": 0.001},
)
"""How often a run saves: one of these is drawn. A step takes some 10 ms."""


def undisturbed(world: World, variant: str) -> tuple[dict[str, Any], float]:
    """The outcome of a run that saves between rounds only and is left alone, and the seconds that it takes."""
    output, log = world.path / "undisturbed" / variant, world.path / f"undisturbed-{variant}.log"
    begun = time.monotonic()
    statuses = Trial.start(world.command(*VARIANTS[variant], output), VARIANTS[variant][0], log).wait()
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
        command = world.command(*VARIANTS[variant], output, **(every := rng.choice(EVERY)))
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
                if rng.random() < 0.5:  # a write takes a millisecond or two, so it is watched for without a pause
                    part, deadline = folder / "checkpoints" / "last.partial", time.monotonic() + 1
                    while statuses is None and not part.exists() and time.monotonic() < deadline:
                        statuses = trial.ended()
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
            wrong.append(f"run {number} ({variant}): {differing(found, expected[variant][0])}; in {folder}")
        else:
            shutil.rmtree(output)
        often = " or ".join(f"{amount} {unit.replace('every', 'steps')}" for unit, amount in every.items())
        said = wrong[-1] if wrong and wrong[-1].startswith(f"run {number} ") else "identical"
        killed = ", ".join(moments) or "never"
        _say(begun, f"run {number}/{runs}, {variant}, saved every {often}: killed {killed}: {said}")
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
    path = new_place("soak")
    wrong = soak(options.runs, options.seed, path, options.variants)
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    if not wrong:
        shutil.rmtree(path)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
