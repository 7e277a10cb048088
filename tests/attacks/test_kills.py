"""The short form of the kill matrix; tests/attacks/kills.py is the long one."""

import re
from pathlib import Path

import pytest

from tests.support.attack_programs import ran


def killed(root: Path, *options: str) -> int:
    """Runs a part of the matrix, in which nothing may differ; returns how many kills that were."""
    last = re.search(r"\d+ shapes, (\d+) kills, 0 different", ran(root, "kills", *options))
    assert last
    return int(last.group(1))


def test_runs_of_every_shape_are_killed_and_end_the_same(root):
    assert killed(root, "--runs", "24") >= 24


def test_a_run_is_killed_after_each_of_its_checkpoints(root):
    assert killed(root, "--each", "--bounds", "steps", "--validation", "by epoch", "--workers", "0") == 12


@pytest.mark.slow
def test_two_processes_are_killed_and_end_the_same(root):
    assert killed(root, "--runs", "24", "--processes", "2") >= 24


@pytest.mark.slow
def test_every_shape_is_killed_after_each_checkpoint(root):
    assert killed(root, "--each", "--workers", "0") >= 12 * 6
