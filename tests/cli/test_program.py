"""The program itself: a closed pipe, and what it imports."""

import os
import signal
import subprocess
import sys

import pytest


def test_a_closed_pipe_is_silence(tmp_path):
    command = [sys.executable, "-m", "lnsub", "completion", "bash"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate()
    assert (process.returncode, err) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize("option", ["--data=evil.Data", "--trainer.callbacks=evil.Callback", "--trainer.logger=evil.X"])
def test_a_file_of_the_working_directory_is_no_module(option, tmp_path, root):
    (tmp_path / "evil.py").write_text("open('mark', 'w').close()\n")
    (tmp_path / "torch.py").write_text("open('mark', 'w').close()\n")
    command = [sys.executable, "-m", "lnsub", "fit", "--data=lnsub.XNLI", "--data.init_args.language=en", option]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert [line[:13] for line in done.stderr.splitlines()] == ["lnsub: error:"]
    assert "evil" in done.stderr
    assert not (tmp_path / "mark").exists()
