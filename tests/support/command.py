"""The `lnsub` command as tests call it: a small run's arguments, a parsed configuration, what bad input is told."""

from pathlib import Path
from typing import Any

import pytest

from lnsub.cli.main import main
from lnsub.training.config import RunConfig

CONFIGS = sorted(
    path
    for path in (Path(__file__).parents[2] / "configs").glob("*.yaml")
    if "class_path: lnsub." in path.read_text().partition("trainer:")[0]
)
"""The configurations that stand alone; the others are layers on top of them."""


def arguments(bert: str, data: Path, output: Path, **settings: object) -> list[str]:
    """`fit` of the real Urdu config, with everything that is large replaced."""
    values: dict[str, object] = {
        "config": next(path for path in CONFIGS if path.stem == "wikiann_ur"),
        "model.base_model": bert,
        "data.init_args.dataset": data,
        "data.init_args.language": "en",
        "data.init_args.batch_size": 8,
        "data.init_args.max_length": 32,
        "data.init_args.num_workers": 0,
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": 1,
        "trainer.callbacks.sparsities": "[0.3,0.6]",
        "output": output,
        **settings,
    }
    return ["fit", *(f"--{key}={value}" for key, value in values.items())]


def parsed(args: list[str]) -> dict[str, Any]:
    """The settings that a training command would run with."""
    return RunConfig.parse(args[1:]).settings()


def said(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    """Runs bad input: exit status 2 and one line, which is returned."""
    capsys.readouterr()
    assert main(args) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lnsub: error: ")]
    assert len(err) == 1
    return err[0]
