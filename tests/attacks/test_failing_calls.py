"""The short form of failing system calls; tests/attacks/failing_calls.py is the long one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


def failed(root: Path, *options: str) -> int:
    """Has calls fail, which must do no harm; returns how many."""
    command = [sys.executable, "-m", "tests.attacks.failing_calls", "--seed", "3", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    last = re.search(r"(\d+) failing calls \(.*\), 0 wrong", done.stdout)
    assert last
    return int(last.group(1))


def test_a_call_that_fails_is_a_line_and_leaves_nothing_half_written(root):
    assert failed(root, "--calls", "12") == 12


@pytest.mark.slow
def test_many_calls_fail_and_each_command_ends_the_same_afterwards(root):
    assert failed(root, "--calls", "66") == 66
