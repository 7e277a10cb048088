"""What SLURM has of a study's jobs."""

import json
import re
import subprocess
from pathlib import Path

from lnsub.common.files import replacing
from lnsub.common.plain_data import UnreadableError, parse_json, read_text
from lnsub.study.plan import Plan


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
    try:
        listed = subprocess.run(
            ["squeue", "--noheader", "--array", "--format=%i|%T|%r", "--me"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if listed.returncode:
        return None
    by_number: dict[str, tuple[str, str]] = {}
    for line in listed.stdout.splitlines():
        number, state, reason = (*line.split("|", 2), "", "")[:3]
        if re.match(r"\d+", number) and number.partition("_")[0] in wanted:
            by_number[number] = (state, "" if reason == "None" else f"SLURM: {state.lower()}, {reason}")
    return {name: by_number[number] for name, number in numbers.items() if number in by_number}


def _file(plan: Plan) -> Path:
    return plan.own / "submitted.json"
