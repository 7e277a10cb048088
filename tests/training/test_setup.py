"""A run holds the lock of its folder."""

import subprocess
import sys

from lnsub.cli.main import main
from lnsub.runs.folder import RunFolder
from tests.support.resuming import command


def test_a_folder_in_use_by_another_process_is_refused_until_that_process_is_dead(place, tmp_path, capsys):
    lock = tmp_path / "xnli" / "en" / "seed57" / ".lock"
    lock.parent.mkdir(parents=True)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", hold, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert main(command(place, tmp_path)[3:]) == 2
        assert str(lock.parent) in capsys.readouterr().err
        assert [path.name for path in lock.parent.iterdir()] == [".lock"]
        holder.kill()
    assert main(command(place, tmp_path)[3:]) == 0
    assert {r.round for r in RunFolder(lock.parent).records("imp")} == {0, 1, 2}
