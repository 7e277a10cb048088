"""Errors as one line, made from what jsonargparse, Lightning and the system raise."""

from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from lnsub.common.error_messages import one_line
from lnsub.common.errors import UserError


def parse(*args: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--rate", type=float)
    parser.parse_args(args)


def test_an_unknown_setting_is_named_with_the_closest_known_one():
    with pytest.raises(Exception) as raised:
        parse("--rtae=1")
    line = one_line(raised.value, ["fit"], iter(["rate", "seed"]))
    assert line is not None
    assert "\n" not in line
    assert "rtae (did you mean rate?)" in line
    assert "lnsub fit --help" in line
    assert "did you mean" not in (one_line(raised.value, ["fit"]) or "did you mean")


def test_a_value_of_the_wrong_type_is_named():
    with pytest.raises(Exception) as raised:
        parse("--rate=fast")
    line = one_line(raised.value)
    assert line is not None
    assert line.startswith("rate: ")
    assert "fast" in line
    assert "<class" not in line


def test_an_error_of_the_system_names_its_file():
    with pytest.raises(OSError) as raised:
        Path("no-such-file").read_text()
    assert (one_line(raised.value) or "").endswith("no-such-file")


def test_a_users_error_is_found_below_what_wraps_it_and_a_bug_is_none_of_the_users():
    error = ValueError("wrapped")
    error.__cause__ = UserError("the\nreason")
    assert one_line(error) == "the reason"
    assert one_line(ZeroDivisionError("a bug")) is None
