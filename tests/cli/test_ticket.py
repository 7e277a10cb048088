"""`lnsub ticket`, as a person calls it."""

from pathlib import Path

import pytest

from lnsub.cli.main import main
from tests.support.ticket_factory import random_ticket


def test_verify_names_every_file_and_ends_with_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, worse = (tmp_path / name for name in ("good", "bad", "worse"))
    content = random_ticket(0.5, 1).save(good).read_bytes()
    bad.write_bytes(content[:-1])
    worse.write_bytes(b"")
    assert main(["ticket", "verify", str(bad), str(good), str(worse)]) == 2
    said = capsys.readouterr()
    assert [str(path) in line for path, line in zip((bad, good, worse), said.out.splitlines(), strict=True)] == [
        True
    ] * 3
    assert said.out.splitlines()[1] == f"ok {good}"
    assert said.err == ("lnsub: error: 2 of 3 files are not whole tickets: the lines above say which, and why.\n")
    assert main(["ticket", "verify", str(good)]) == 0


def test_a_link_to_itself_is_no_ticket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = random_ticket(0.5, 1).save(tmp_path / "t")
    (tmp_path / "loop").symlink_to("loop")
    for output, ticket in (("x", "loop"), ("loop", "t")):
        assert main(["combine", "union", str(good), str(tmp_path / ticket), f"--output={tmp_path / output}"]) in {0, 2}
    assert "cannot read the ticket" in capsys.readouterr().err
