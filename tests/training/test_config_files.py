"""Files of settings that are none, without end, or ambiguous: one line, at once."""

import os
from pathlib import Path

import pytest
import yaml

from lnsub.common.errors import UserError
from lnsub.training.config import RunConfig

GOOD = {"data": {"class_path": "lnsub.XNLI", "init_args": {"language": "en"}}, "trainer": {"max_epochs": 1}}
BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def refused(*args: object) -> str:
    with pytest.raises(UserError) as error:
        RunConfig.parse([str(arg) for arg in args])
    return str(error.value)


def test_a_good_file_is_read_and_later_ones_override(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(GOOD))
    (tmp_path / "b.yaml").write_text("trainer: {max_epochs: 7}\n")
    config = RunConfig.parse([f"--config={tmp_path / 'a.yaml'}", "--config", str(tmp_path / "b.yaml")])
    assert (config.trainer["max_epochs"], config.data["init_args"]["language"]) == (7, "en")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"trainer:\n  max_epochs: 1\n  max_epochs: 2\n", "key max_epochs twice, again in line 3"),
        (b"output: \xe9\n", "not UTF-8"),
        (BOMB.encode(), "aliases"),
        (b"[" * 100_000, "nested"),
        (b"a: " * 100_000, ""),
        (b"#" * 2**21, "2,097,152 bytes"),
        (b"output: !!python/object/apply:os.mkdir [made]\n", ""),
        (b"output: *x\n", "x"),
        (b"\x00\x01", ""),
        (b"- a list\n", ""),
    ],
    ids=["twice", "latin", "bomb", "deep", "deeper", "large", "code", "no anchor", "binary", "list"],
)
def test_a_file_that_is_no_configuration_is_named(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(GOOD))
    (tmp_path / "bad.yaml").write_bytes(content)
    said = refused("--config=good.yaml", "--config=bad.yaml")
    assert message in said
    assert "good.yaml" not in said
    assert not Path("made").exists()


@pytest.mark.parametrize("option", ["--config", "--model", "--data", "--output", "--trainer"])
def test_a_fifo_is_not_waited_for(option, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for args in ([f"{option}={tmp_path / 'fifo'}"], [option, tmp_path / "fifo"]):
        assert "a device, a FIFO or a socket" in refused(*args)


@pytest.mark.parametrize("path", ["nowhere.yaml", ".", "", "a\0b", "x" * 5000])
def test_what_is_no_file_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(f"--config={path}")
