"""Kills a study at random moments, runs it again until it is done, and holds what it left against an undisturbed run.

::

    python -m tests.study.killing STUDY.yaml --kills 20 --seed 1 --jobs 2 --set base_model=./model

Four things happen in turn: SIGTERM, SIGKILL and SIGINT of `lnsub study run`, and SIGKILL of one of its jobs. After
SIGTERM and SIGINT it must have saved (exit status 75); after SIGKILL its jobs must end by themselves; a job that was
killed must be told of as failed (exit status 1). At the end tickets and records must be those of an undisturbed run,
whose folder has ``-undisturbed`` after its name, without times.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lnsub.common.signals import EXIT_STATUS
from lnsub.study.file import read_study
from lnsub.study.states import born
from tests.support.study_world import left

WAYS = ("SIGTERM", "SIGKILL", "SIGINT", "a job")
_PATIENCE = 300.0
"""Seconds within which the jobs of a runner that was killed must have ended, and a signal must have its effect."""


@dataclass
class Killer:
    """Runs a study with kills.

    Attributes:
        command: the command line of `lnsub study run`.
        output: the study's folder.
        rng: of the moments.
        longest: the most seconds between the start of a run and its kill.
        environment: of the processes; None: this one's.
        cwd: their working directory; None: this one's.
        say: is told what happens.
        wrong: what was not as it must be.
    """

    command: Sequence[str]
    output: Path
    rng: random.Random
    longest: float
    environment: Mapping[str, str] | None = None
    cwd: Path | None = None
    say: Callable[[str], None] = lambda _: None
    wrong: list[str] = field(default_factory=list)

    def disturb(self, kills: int) -> int:
        """Starts the study and kills it so many times, or until it is done; returns how many kills that were."""
        for number in range(kills):
            way = WAYS[number % len(WAYS)]
            process = self._start()
            deadline = time.monotonic() + self.rng.uniform(0.5, self.longest)
            # Before any job runs there is little to disturb.
            while process.poll() is None and (time.monotonic() < deadline or not self.running()):
                time.sleep(0.05)
            if process.poll() is not None:
                self.say(f"done before kill {number + 1}: exit status {process.returncode}")
                self._expect(way, {0}, process.returncode)
                return number
            jobs = self.running()
            self._kill(way, process, jobs)
            self.say(f"kill {number + 1}, {way}, of {', '.join(jobs)}: exit status {process.returncode}")
        return kills

    def finish(self) -> str:
        """Runs the study to its end; returns what it printed."""
        process = self._start()
        said, _ = process.communicate()
        self._expect("no kill", {0}, process.returncode)
        return said

    def compare(self, undisturbed: Path) -> None:
        """Compares with an undisturbed run's folder."""
        found, expected = left(self.output), left(undisturbed)
        for part in expected:
            if found[part] != expected[part]:
                odd = [one for one in expected[part] if one not in found[part]][:3]
                more = [one for one in found[part] if one not in expected[part]][:3]
                self.wrong.append(f"{part} differ: lacks {odd}, has beside {more}")

    def running(self) -> dict[str, int]:
        """The processes of the jobs that say that they run, and do."""
        found = {}
        for path in (self.output / "study" / "jobs").glob("*/running.json"):
            try:
                facts: dict[str, Any] = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            if born(facts["pid"]) == facts["born"] is not None:
                found[path.parent.name] = facts["pid"]
        return found

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command,
            cwd=self.cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _kill(self, way: str, process: "subprocess.Popen[str]", jobs: Mapping[str, int]) -> None:
        if way == "a job":
            name = self.rng.choice(sorted(jobs))
            subprocess.run(["kill", "-KILL", str(jobs[name])], check=False, stderr=subprocess.DEVNULL)
            said, _ = process.communicate()
            # It may have ended on its own just before.
            self._expect(way, {0, 1}, process.returncode)
            if process.returncode and f"{name} failed: " not in said:
                self.wrong.append(f"{name} was killed, and this is all that was said: {said[-500:]}")
            return
        process.send_signal(getattr(signal, way))
        try:
            process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self.wrong.append(f"it did not end within {_PATIENCE:.0f} s of {way}")
            process.kill()
        self._expect(way, {-signal.SIGKILL} if way == "SIGKILL" else {EXIT_STATUS, 0}, process.returncode)
        end = time.monotonic() + _PATIENCE
        while self.running() and time.monotonic() < end:
            time.sleep(0.1)
        if left_over := self.running():
            self.wrong.append(f"after {way} of the runner, {', '.join(left_over)} did not end")

    def _expect(self, what: str, statuses: set[int], status: int) -> None:
        if status not in statuses:
            self.wrong.append(f"after {what} the exit status was {status}, none of {sorted(statuses)}")


def main() -> int:
    """Kills a study from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--longest", type=float, default=60.0, help="seconds between a start and its kill at most")
    options = parser.parse_args()
    begun = time.monotonic()

    def say(line: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - begun:6.0f} s] {line}\n")
        sys.stdout.flush()

    say(f"seed {options.seed}")
    study = read_study(options.file, [f"--{setting}" for setting in options.set])
    output = Path(study.output or "")
    if output.exists():
        raise SystemExit(f"{output} is there already: name another folder, --set output=DIR.")
    undisturbed = output.with_name(f"{output.name}-undisturbed")
    run = [sys.executable, "-m", "lnsub", "study", "run", str(options.file), "--jobs", str(options.jobs)]
    run += [part for setting in options.set for part in ("--set", setting)]
    subprocess.run([*run, "--set", f"output={undisturbed}"], check=True, stdout=subprocess.DEVNULL)
    say(f"undisturbed: {undisturbed}")
    killer = Killer(run, output, random.Random(options.seed), options.longest, say=say)
    kills = killer.disturb(options.kills)
    killer.finish()
    killer.compare(undisturbed)
    for line in killer.wrong:
        say(line)
    say(f"{kills} kills, {len(killer.wrong)} things wrong; what is left: {output}")
    return 1 if killer.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
