"""A full disk stops a run without partial files."""

import re
import subprocess

import pytest

from lnsub.common.errors import UserError
from lnsub.runs.folder import RunFolder
from tests.support.file_limits import file_size_limit
from tests.support.resuming import IMP, command, environment, run


@pytest.mark.parametrize(
    ("limit", "every", "names"),
    [
        (20_000, 1, "last.partial"),
        (1_500, None, "s0.30.safetensors"),
        (300, None, "imp-round0-en-validation.npz"),
        (150, None, "metrics.csv"),
    ],
)
def test_a_full_disk_stops_the_run_and_space_lets_it_resume(limit, every, names, place, uninterrupted, tmp_path):
    with file_size_limit(limit), pytest.raises(UserError, match=rf"{tmp_path}.*{names}: .*size limit"):
        run(place, tmp_path, every=every, **IMP)
    assert not list(tmp_path.rglob("*partial"))
    assert run(place, tmp_path, every=every, **IMP) == uninterrupted(**IMP)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_exit_status_2(place, tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        done = subprocess.run(
            command(place, tmp_path), env=environment(place), capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done.stderr
        (line,) = (line for line in done.stderr.splitlines() if "error" in line.lower())
        assert re.match(rf"lnsub: error: .*{tmp_path}.*disk is full", line)
        assert "Traceback" not in done.stderr
        assert not list(tmp_path.rglob("*partial"))
        subprocess.run(["mount", "-o", "remount,size=10m", tmp_path], check=True)
        again = subprocess.run(command(place, tmp_path), env=environment(place), check=False)
        assert again.returncode == 0
        assert {r.round for r in RunFolder(tmp_path / "xnli" / "en" / "seed57").records("imp")} == {0, 1, 2}
    finally:
        subprocess.run(["umount", tmp_path], check=True)
