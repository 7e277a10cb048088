"""Tickets in files, and what `lnsub overlap` prints of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnsub.cli.commands import run
from tests.support.ticket_factory import random_masks, ticket

Masks = dict[str, np.ndarray]


def jaccard(a: set, b: set) -> float:
    return len(a & b) / len(a | b)


def saved(folder: Path, masks: dict[str, Masks], **changes: Any) -> list[str]:
    """Tickets by name, which is the language and a digit for the seed: ``fr0``."""
    return [
        str(ticket(m, language=name[:2], seed=int(name[2:]), **changes).save(folder / f"{name}.safetensors"))
        for name, m in masks.items()
    ]


def overlap(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert run("overlap", list(args)) == 0
    return capsys.readouterr().out


def rows_of(capsys: pytest.CaptureFixture[str], *args: str, table: str = "pair") -> list[dict[str, Any]]:
    return [row for row in json.loads(overlap(capsys, *args, "--format", "json")) if row["table"] == table]


def noisy(masks: Masks, share: float, number: int) -> Masks:
    flips = random_masks(share, number, {name: mask.shape for name, mask in masks.items()})
    return {name: mask ^ flips[name] for name, mask in masks.items()}
