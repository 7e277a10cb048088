"""A working directory in which the commands of docs/paper.md run at toy size.

Everything that they name is there and small: the models (mBERT is the embedded model), the data sets, and the
configurations, whose lengths and limits alone are changed.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import yaml

from lnsub.tasks import tasks
from tests.support.data_makers import make_mt5, write_rows

ROOT = Path(__file__).parents[2]
LANGUAGES = ("en", "fr")
"""What loops over languages, and lists of targets, are cut down to."""
SEEDS = ("57", "58")
MIXED = ("en", "fa", "fr", "zh")
FURTHER = ("de",)
"""The targets of the mixture, none of its own languages."""
LEVELS = [0.1, 0.3, 0.5, 0.8]
_LIMITS = {"max_train_examples": 16, "max_eval_examples": 8, "max_train_blocks": 16, "max_eval_blocks": 8}


def make_world(folder: Path) -> None:
    """Fills a working directory."""
    demo = ROOT / "lnsub" / "demo"
    shutil.copytree(demo / "model", folder / "google-bert" / "bert-base-multilingual-cased")
    make_mt5(folder / "google" / "mt5-base")
    named = {name: folder / task.dataset for name, task in tasks().items()}
    for language in dict.fromkeys((*LANGUAGES, *MIXED, *FURTHER)):
        shutil.copytree(demo / "data" / language, named["wikiann"] / language)
        # As many sentences in the test split as the measures of similarity need for the embedded model's width.
        for split, count in (("train", 40), ("validation", 12), ("test", 360)):
            rows = datasets.Dataset.from_parquet(str(demo / "data" / language / f"{split}.parquet"))
            texts = list(dict.fromkeys(" ".join(sentence) for sentence in rows["tokens"]))[:count]
            pairs = {"premise": texts, "hypothesis": [text[:20] for text in texts]}
            pairs["label"] = [number % 3 for number in range(len(texts))]
            write_rows(named["xnli"] / language / f"{split}.parquet", pairs)
            if split != "test":
                write_rows(named["mlm"] / language / f"{split}.parquet", {"text": [" ".join(texts)] * 8})
    translated = {
        language: datasets.Dataset.from_parquet(str(named["xnli"] / language / "test.parquet"))["premise"][:40]
        for language in ("en", "fr")
    }
    rows = [{"fr": fr, "en": en} for fr, en in zip(translated["fr"], translated["en"], strict=True)]
    write_rows(folder / "wmt" / "wmt14" / "fr-en" / "test.parquet", {"translation": rows})
    (folder / "configs").mkdir()
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        (folder / "configs" / path.name).write_text(yaml.safe_dump(_smaller(config, alone="data" in config)))


def _smaller(config: dict[str, Any], *, alone: bool) -> dict[str, Any]:
    trainer = config.get("trainer", {})
    if "precision" in trainer:
        trainer["precision"] = "32-true"
    trainer |= {"max_epochs": 1} if trainer.get("max_epochs", -1) > 0 else {}
    trainer |= {"max_steps": 2, "val_check_interval": 2} if "max_steps" in trainer else {}
    for callback in trainer.get("callbacks", []):
        callback["init_args"]["sparsities"] = LEVELS
    if alone:
        arguments = config["data"]["init_args"]
        arguments |= {name: limit for name, limit in _LIMITS.items() if name in arguments}
        arguments |= {"max_length": 32, "batch_size": 8, "num_workers": 0}
        trainer["accelerator"] = "cpu"
        config["wandb"] = None
    return config


def commands(text: str) -> Iterator[str]:
    """The commands of a shell script of loops and continued lines, at toy size: one line for each turn of a loop.

    Args:
        text: a script that uses ``for x in ...; do``, ``done`` and lines that begin with ``lnsub`` alone.
    """
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    yield from _turns([line for line in lines if line and not line.startswith("#")], {})


def _turns(lines: list[str], values: dict[str, str]) -> Iterator[str]:
    place = 0
    while place < len(lines):
        line = lines[place]
        if loop := re.fullmatch(r"for (\w+) in (.+?); do", line):
            end = _end_of(lines, place)
            for value in _fewer(loop[2].split()):
                yield from _turns(lines[place + 1 : end], {**values, loop[1]: value})
            place = end
        else:
            assert line.startswith("lnsub "), line
            filled = re.sub(r"\$(\w+)", lambda found: values[found[1]], line)
            yield re.sub(
                r"(--languages|--seeds|--target-languages)[ =](\S+)",
                lambda found: f"{found[1]} {','.join(_fewer(found[2].split(',')))}",
                filled,
            )
        place += 1


def _end_of(lines: list[str], start: int) -> int:
    depth = 0
    for place in range(start, len(lines)):
        depth += lines[place].startswith("for ") - (lines[place] == "done")
        if depth == 0:
            return place
    raise AssertionError(f"no end of: {lines[start]}")


def _fewer(values: list[str]) -> list[str]:
    """The languages and seeds that the toy world has."""
    known = [value for value in values if value in {*LANGUAGES, *SEEDS}]
    return known or [value for value in values if value in FURTHER]
