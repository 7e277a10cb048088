"""What a parser refuses, in one line."""

import pytest
from jsonargparse import ArgumentParser

from lnsub.common.errors import UserError
from lnsub.training.parse_errors import user_errors


def refusal(*args: str) -> str:
    """What a small parser says of these arguments."""
    parser = ArgumentParser(prog="lnsub fit", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--learning_rate", type=float)
    with pytest.raises(UserError) as raised, user_errors(parser):
        parser.parse_args(args)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_an_unknown_setting_is_named_with_the_closest_known_one_and_the_help():
    line = refusal("--learning_rat=1")
    assert "did you mean learning_rate?" in line
    assert "lnsub fit --help" in line
    assert "did you mean" not in refusal("--zzzzzzzz=1")


def test_a_value_of_the_wrong_type_is_named():
    line = refusal("--learning_rate=fast")
    assert line.startswith("learning_rate: ")
    assert "fast" in line
    assert "<class" not in line
