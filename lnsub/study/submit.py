"""Handing a study's jobs to SLURM: an array for each kind of job, with the dependencies of the plan.

Where task i of an array needs task i of another (the transfer of a ticket needs that ticket), the dependency is
``aftercorr``: each task starts as soon as its own ticket is there, and one that fails takes only its own with it. Where
jobs need others that are not their counterparts, or merely come after them, it is ``afterany``; a command that finds
its input missing says so and fails by itself. What is done already is not submitted.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lnsub.common.errors import UserError
from lnsub.common.files import make_folder, replacing
from lnsub.study.job import DISTRIBUTED, KINDS, ON_GPU, Job
from lnsub.study.plan import Plan
from lnsub.study.queue import note_submitted, queue_of, submitted
from lnsub.study.settings import Slurm
from lnsub.study.states import JobFolder, states_of

SCRIPT = Path(__file__).parent / "job.sbatch"


@dataclass(frozen=True)
class Array:
    """Jobs of one kind that are submitted together.

    Attributes:
        name: of the array; the last part of the SLURM job's name.
        jobs: its tasks; a task's number is the job's place.
        matched: arrays of which each task needs its counterpart.
        after: arrays that must have ended.
    """

    name: str
    jobs: tuple[Job, ...]
    matched: tuple[str, ...]
    after: tuple[str, ...]


def arrays_of(jobs: Sequence[Job], earlier: Mapping[str, str] | None = None) -> list[Array]:
    """Groups jobs into arrays.

    Args:
        jobs: those to submit, each after those it needs.
        earlier: of jobs that SLURM has already: the name of their array. Whatever else is needed is done.

    Returns:
        The arrays, each after those that it depends on.
    """
    made: list[Array] = []
    array_of = dict(earlier or {})
    place_of = {job.id: job.place for job in jobs}
    for kind in KINDS:
        members = [job for job in jobs if job.kind == kind]
        pairs = [(job, need) for job in members for need in job.needs if need in array_of]
        # By chance some have the number of what they need; only where all do are they counterparts.
        loose = {array_of[need] for job, need in pairs if place_of.get(need) != job.place}
        groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Job]] = {}
        for job in members:
            needed = {array_of[need] for need in job.needs if need in array_of}
            others = {array_of[other] for other in job.after if other in array_of}
            key = (tuple(sorted(needed - loose)), tuple(sorted((others | needed & loose) - (needed - loose))))
            groups.setdefault(key, []).append(job)
        for number, ((matched, after), group) in enumerate(groups.items()):
            name = kind if number == 0 else f"{kind}-{number + 1}"
            made.append(Array(name, tuple(group), matched, after))
            array_of |= {job.id: name for job in group}
    return made


def submit(plan: Plan, *, dry_run: bool = False) -> int:
    """Submits the jobs that are neither done nor with SLURM already, and returns at once.

    What needs the network is fetched here first, as compute nodes often have none.

    Args:
        plan: the plan.
        dry_run: print the calls of sbatch instead.

    Returns:
        The exit status.

    Raises:
        UserError: sbatch is missing or refuses a job.
    """
    states = states_of(plan, queue_of(plan))
    there = {"done", "running", "queued"}
    missing = [job for job in plan.jobs if states[job.id].name not in there]
    # What is submitted changes what the page shows.
    missing += [job for job in plan.of_kind("report") if missing and states[job.id].name == "done"]
    if not missing:
        left = sum(state.name != "done" for state in states.values())
        _say(f"Nothing to submit: {f'{left} jobs are with SLURM' if left else 'all jobs are done'}.")
        return 0
    for job in (job for job in missing if job.kind == "fetch"):
        _say(job.command)
        if not dry_run and subprocess.run([sys.executable, "-m", "lnsub", *job.args], check=False).returncode:
            _say(f"{job.id} failed in part: the jobs of what is missing will fail, and the others run.")
    # Of what SLURM has already, an array's number stands for its name.
    waiting = {job.id for job in plan.jobs if states[job.id].name in {"running", "queued"}}
    earlier = {name: number.partition("_")[0] for name, number in submitted(plan).items() if name in waiting}
    numbers = {number: number for number in earlier.values()}
    # What an earlier submission still needs of its files must stay.
    where = plan.own / "slurm" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    for array in arrays_of([job for job in missing if job.kind != "fetch"], earlier):
        call = _call(plan, array, numbers, where, write=not dry_run)
        if dry_run:
            numbers[array.name] = f"<{array.name}>"
            _say(f"COMMANDS={_commands(where, array)} SETUP={plan.study.slurm.setup} {shlex.join(call)}")
            continue
        numbers[array.name] = number = _sbatch(
            call, {"COMMANDS": str(_commands(where, array)), "SETUP": plan.study.slurm.setup}
        )
        note_submitted(plan, {job.id: f"{number}_{job.place}" for job in array.jobs})
        dependency = next((part for part in call if part.startswith("--dependency=")), "")
        words = f", {dependency.removeprefix('--dependency=')}" if dependency else ""
        _say(f"{array.name:<12}job {number}, {len(array.jobs)} {'task' if len(array.jobs) == 1 else 'tasks'}{words}")
    if not dry_run:
        _say(f"`lnsub study status` tells how they are; logs: {plan.own / 'jobs'}/<job>/log.txt")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _call(plan: Plan, array: Array, numbers: dict[str, str], where: Path, *, write: bool) -> list[str]:
    """The call of sbatch for an array, whose file of commands is written."""
    slurm, kind = plan.study.slurm, array.jobs[0].kind
    lines = []
    for job in array.jobs:
        folder = JobFolder(plan, job)
        lines.append(f"{job.place}\t{folder.path}\t{shlex.join(('lnsub', *job.args, *_devices(slurm, job)))}\n")
        if write:
            make_folder(folder.path)
            # A log's name has only the task's number, so a link leads from there to the job's.
            _link(where / f"{array.name}-{job.place}.log", folder.log)
    if write:
        with replacing(_commands(where, array)) as file:
            file.write("".join(lines).encode())
    limit = f"%{slurm.at_once}" if slurm.at_once else ""
    places = ",".join(str(job.place) for job in array.jobs)
    depends = [f"aftercorr:{numbers[name]}" for name in array.matched]
    depends += [f"afterany:{numbers[name]}" for name in array.after]
    return [
        "sbatch",
        "--parsable",
        f"--job-name={plan.study.name}-{array.name}",
        f"--array={places}{limit}",
        f"--output={where / array.name}-%a.log",
        *_resources(slurm, kind),
        *([f"--dependency={','.join(depends)}", "--kill-on-invalid-dep=yes"] if depends else []),
        *slurm.options,
        str(SCRIPT.resolve()),
    ]


def _commands(where: Path, array: Array) -> Path:
    """The file with the commands of an array's tasks."""
    return where / f"{array.name}.tsv"


def _resources(slurm: Slurm, kind: str) -> list[str]:
    gpus = (slurm.tasks_per_node if slurm.gpus_per_node is None else slurm.gpus_per_node) if kind in ON_GPU else 0
    distributed = kind in DISTRIBUTED
    tasks = slurm.tasks_per_node if distributed else 1
    partition = slurm.partition if kind in ON_GPU else slurm.cpu_partition or slurm.partition
    named = {"partition": partition, "account": slurm.account, "qos": slurm.qos, "mem": slurm.memory}
    return [
        *(f"--{name}={value}" for name, value in named.items() if value is not None),
        f"--nodes={slurm.nodes if distributed else 1}",
        f"--ntasks-per-node={tasks}",
        f"--gpus-per-node={gpus if distributed else min(gpus, 1)}",
        f"--cpus-per-task={slurm.cpus_per_task}",
        f"--time={slurm.time}",
        f"--signal=USR1@{slurm.warning}",
    ]


def _devices(slurm: Slurm, job: Job) -> list[str]:
    """The settings that spread a training job over its processes, with the configuration's batch in all."""
    processes = slurm.nodes * slurm.tasks_per_node
    if job.kind not in DISTRIBUTED or processes == 1:
        return []
    if job.work.batch % processes:
        raise UserError(
            f"{job.id} has batches of {job.work.batch}, which {processes} processes cannot share evenly: change "
            "slurm.nodes or slurm.tasks_per_node, or data.init_args.batch_size."
        )
    settings = [
        f"--trainer.devices={slurm.tasks_per_node}",
        f"--trainer.num_nodes={slurm.nodes}",
        "--trainer.strategy=ddp",
        f"--data.init_args.batch_size={job.work.batch // processes}",
    ]
    return settings if job.kind == "fit" or "--" in job.args else ["--", *settings]


def _sbatch(call: list[str], variables: Mapping[str, str]) -> str:
    try:
        env = {**os.environ, **variables}
        done = subprocess.run(call, env=env, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError as error:
        raise UserError(
            "There is no sbatch here: submit from a login node of a cluster, or use `lnsub study run`."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(
            "sbatch does not answer: try again. What was submitted before is not submitted twice."
        ) from error
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())
        raise UserError(f"sbatch refuses {call[2].removeprefix('--job-name=')}: {reason}")
    # On multi-cluster sites ";cluster" follows.
    return done.stdout.strip().partition(";")[0]


def _link(path: Path, target: Path) -> None:
    make_folder(path.parent)
    target.touch()
    path.unlink(missing_ok=True)
    path.symlink_to(target.resolve())
