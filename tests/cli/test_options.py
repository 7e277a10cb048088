import pytest

from lnsub.cli.options import comma_list
from lnsub.common.errors import UserError
from tests.support.command import said


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("fr,ur", str, ["fr", "ur"]),
        (" fr , ur,, ", str, ["fr", "ur"]),
        ("ur,fr,ur", str, ["ur", "fr"]),
        ("57,58", int, [57, 58]),
        ("0.5,.8,0.50", float, [0.5, 0.8]),
        ("", int, []),
        (" , ", str, []),
    ],
)
def test_values_are_read_in_order_each_once(text, kind, values):
    assert comma_list("--option", text, kind) == values


@pytest.mark.parametrize(
    ("kind", "text", "bad"), [(int, "57,5x,58", "5x"), (int, "0.5", "0.5"), (float, "0.5,half", "half")]
)
def test_an_error_names_the_option_and_the_value(kind, text, bad):
    with pytest.raises(UserError, match=rf"--seeds .*'{bad}'") as error:
        comma_list("--seeds", text, kind)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "args",
    [
        ["transfer", "--config=c.yaml", "--tickets=t", "--languages=fr", "--output=o", "--seeds=5x"],
        ["transfer", "--config=c.yaml", "--tickets=t", "--languages=fr", "--output=o", "--sparsities=5x"],
        ["retrieve", "--base-model=b", "--pairs=p", "--layers=5x"],
        ["retrieve", "--base-model=b", "--pairs=p", "--top=5x"],
        ["similarity", "--base-model=b", "--pairs=p", "--layers=5x"],
        ["similarity", "--base-model=b", "--pairs=p", "--resamples=5x"],
        ["report", "runs", "--sparsities=5x"],
        ["dashboard", "--entity=e", "--project=p", "--seeds=5x"],
        ["overlap", "a", "b", "--by=5x"],
        ["demo", "--languages=5x"],
    ],
    ids=lambda args: f"{args[0]} {args[-1].partition('=')[0]}",
)
def test_every_command_refuses_a_value_that_it_cannot_take(args, capsys):
    assert "5x" in said(capsys, args)


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (["export", "TICKET", "--output=x", "--task="], "--task"),
        (["export", "TICKET", "--output=x", "--base-model= "], "--base-model"),
        (["dashboard", "--dry-run", "--entity=", "--project=p"], "--entity"),
        (["dashboard", "--dry-run", "--entity=e", "--project="], "--project"),
    ],
)
def test_an_empty_name_is_not_taken_for_none(args, option, capsys):
    assert f"argument {option}: it is empty" in said(capsys, args)
