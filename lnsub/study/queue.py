"""What SLURM has of a study's jobs."""

import json
import re
import subprocess
from pathlib import Path

from lnsub.common.files import replacing
from lnsub.common.plain_data import UnreadableError, parse_json, read_text
from lnsub.study.plan import Plan
from lnsub.study.states import LOST


def submitted(plan: Plan) -> dict[str, str]:
    """The SLURM job of each job that was submitted, such as ``123_4``; of several, the last."""
    try:
        found = parse_json(read_text(_file(plan)))
    except (OSError, UnreadableError):
        return {}
    return {str(name): str(number) for name, number in found.items()} if isinstance(found, dict) else {}


def note_submitted(plan: Plan, numbers: dict[str, str]) -> None:
    """Adds jobs that were submitted."""
    text = json.dumps(submitted(plan) | numbers, ensure_ascii=False, indent=1)
    with replacing(_file(plan)) as file:
        file.write(text.encode())


def queue_of(plan: Plan) -> dict[str, tuple[str, str]] | None:
    """What SLURM says of the jobs that it still has: state and reason by the job's id.

    Returns:
        None where nothing was submitted, or SLURM does not answer.
    """
    numbers = submitted(plan)
    if not numbers:
        return None
    wanted = {number.partition("_")[0] for number in numbers.values()}
    listed = _asked("squeue", "--noheader", "--array", "--format=%i|%T|%r", "--me")
    if listed is None:
        return None
    by_number: dict[str, tuple[str, str]] = {}
    for line in listed.splitlines():
        number, state, reason = (*line.split("|", 2), "", "")[:3]
        if re.match(r"\d+", number) and number.partition("_")[0] in wanted:
            by_number[number] = (state, "" if reason == "None" else f"SLURM: {state.lower()}, {reason}")
    return {name: by_number[number] for name, number in numbers.items() if number in by_number}


def lost_of(plan: Plan) -> dict[str, tuple[str, str]]:
    """What SLURM's accounting says of jobs that it ended otherwise than with success.

    Of a job that ran out of time or memory, or whose node failed, nothing else may tell. Clusters without accounting
    say nothing.

    Returns:
        :data:`~lnsub.study.states.LOST` and the reason by the job's id.
    """
    numbers = submitted(plan)
    if not numbers:
        return {}
    listed = _asked(
        "sacct",
        "--noheader",
        "--allocations",
        "--array",
        "--parsable2",
        "--format=JobID,State",
        f"--jobs={','.join(sorted({number.partition('_')[0] for number in numbers.values()}))}",
    )
    ended: dict[str, str] = {}
    for line in (listed or "").splitlines():
        number, _, state = line.partition("|")
        # "CANCELLED by 1000"
        ended[number] = state.partition(" ")[0]
    fine = {"", "COMPLETED", "PENDING", "RUNNING", "REQUEUED", "SUSPENDED", "RESIZING"}
    return {
        name: (LOST, f"SLURM: {ended[number].lower().replace('_', ' ')}")
        for name, number in numbers.items()
        if ended.get(number, "") not in fine
    }


def _asked(*command: str) -> str | None:
    """What a command of SLURM prints; None where there is none, or it does not answer."""
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if listed.returncode else listed.stdout


def _file(plan: Plan) -> Path:
    return plan.own / "submitted.json"
