"""The short form of failing system calls; tests/attacks/failing_calls.py is the long one."""

import re
from pathlib import Path

import pytest

from tests.support.attack_programs import ran


def failed(root: Path, *options: str) -> int:
    """Has calls fail, which must do no harm; returns how many."""
    last = re.search(r"(\d+) failing calls \(.*\), 0 wrong", ran(root, "failing_calls", *options))
    assert last
    return int(last.group(1))


def test_a_call_that_fails_is_a_line_and_leaves_nothing_half_written(root):
    assert failed(root, "--calls", "12") == 12


@pytest.mark.slow
def test_many_calls_fail_and_each_command_ends_the_same_afterwards(root):
    assert failed(root, "--calls", "66") == 66
