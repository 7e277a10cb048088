"""The short form of full disks; tests/attacks/full_disk.py is the long one."""

import re
from pathlib import Path

import pytest

from tests.support.attack_programs import ran


def filled(root: Path, *options: str) -> int:
    """Fills disks, which must do no harm; returns how many."""
    last = re.search(r"(\d+) full disks, 0 wrong", ran(root, "full_disk", *options))
    assert last
    return int(last.group(1))


def test_a_full_disk_is_a_line_and_space_lets_the_command_end(root):
    assert filled(root, "--steps", "1") >= 5


@pytest.mark.slow
def test_disks_fill_up_at_many_moments(root):
    assert filled(root, "--steps", "5") >= 26
