"""The short form of full disks; tests/attacks/full_disk.py is the long one."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


def filled(root: Path, *options: str) -> int:
    """Fills disks, which must do no harm; returns how many."""
    command = [sys.executable, "-m", "tests.attacks.full_disk", "--seed", "3", *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    last = re.search(r"(\d+) full disks, 0 wrong", done.stdout)
    assert last
    return int(last.group(1))


def test_a_full_disk_is_a_line_and_space_lets_the_command_end(root):
    assert filled(root, "--steps", "1") >= 5


@pytest.mark.slow
def test_disks_fill_up_at_many_moments(root):
    assert filled(root, "--steps", "5") >= 26
