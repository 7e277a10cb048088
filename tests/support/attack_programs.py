"""The programs of tests/attacks as tests run them: in a process of their own, as they fork, with a seed."""

import subprocess
import sys
from pathlib import Path

import pytest

SKIPPED = 77
"""The exit status of a program that cannot run on this machine, for the reason that it prints."""


def ran(root: Path, program: str, *options: str) -> str:
    """Runs a program, which must find nothing wrong; returns what it printed.

    Args:
        root: the project's root.
        program: its name, such as ``kills``.
        options: beside the seed.
    """
    command = [sys.executable, "-m", f"tests.attacks.{program}", "--seed", "3", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
