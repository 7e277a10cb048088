"""Broken configs, data, tickets, checkpoints and run folders: one sentence, exit status 2, nothing written over."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from safetensors import safe_open
from safetensors.numpy import save_file

from lnsub.cli.main import main
from lnsub.tickets.ticket import Ticket
from tests.support.data_makers import WORDS
from tests.support.ticket_factory import random_ticket

LEVELS = [0.3, 0.6]


def sentences(path: Path, rows: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(rows):
        tokens = [WORDS[(i + k) % 13] for k in range(2 + i % 4)] + ["Paris"]
        lines.append(json.dumps({"tokens": tokens, "ner_tags": ["O"] * (len(tokens) - 1) + ["B-LOC"]}))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def whole(bert: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all is well: a config, data, a run that is done with its checkpoint kept, its tickets."""
    folder = tmp_path_factory.mktemp("whole")
    for split, rows in (("train", 16), ("validation", 8)):
        sentences(folder / "ner" / "en" / f"{split}.jsonl", rows)
    imp = {"sparsities": LEVELS, "keep_checkpoint": True}
    config: dict[str, Any] = {
        "model": {"base_model": bert},
        "data": {
            "class_path": "lnsub.WikiANN",
            "init_args": {"language": "en", "batch_size": 8, "max_length": 32, "num_workers": 0, "dataset": "ner"},
        },
        "trainer": {
            "max_epochs": 1,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "callbacks": [{"class_path": "lnsub.IMPCallback", "init_args": imp}],
        },
        "output": "runs",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    before, cache = Path.cwd(), datasets.config.HF_DATASETS_CACHE
    os.chdir(folder)
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    try:
        assert main(["fit", "--config=config.yaml"]) == 0
    finally:
        os.chdir(before)
        datasets.config.HF_DATASETS_CACHE = cache
    random_ticket(0.5, 1).save(folder / "foreign.safetensors")
    return folder


@pytest.fixture
def world(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to break, which is the working directory."""
    folder = tmp_path / "world"
    shutil.copytree(whole, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    return folder


# What breaks it: each takes the world and returns the command to run ---------------------------------------------

FIT = ["fit", "--config=config.yaml"]
AGAIN = [*FIT, "--output=other"]
RUN = Path("runs/wikiann/en/seed57")
TICKET = RUN / "tickets" / "s0.60.safetensors"
CHECKPOINT = RUN / "checkpoints" / "last.ckpt"

Break = Callable[[Path], list[str]]


def raw_config(content: bytes) -> Break:
    def break_it(world: Path) -> list[str]:
        (world / "config.yaml").write_bytes(content)
        return AGAIN

    return break_it


def setting(*place: str | int, to: object) -> Break:
    def break_it(world: Path) -> list[str]:
        config = yaml.safe_load((world / "config.yaml").read_text())
        at = config
        for key in place[:-1]:
            at = at.setdefault(key, {}) if isinstance(at, dict) else at[key]
        at[place[-1]] = to
        (world / "config.yaml").write_text(yaml.safe_dump(config))
        return AGAIN

    return break_it


def in_model(name: str, to: object) -> Break:
    return setting("model", name, to=to)


def in_data(name: str, to: object) -> Break:
    return setting("data", "init_args", name, to=to)


def in_imp(name: str, to: object) -> Break:
    return setting("trainer", "callbacks", 0, "init_args", name, to=to)


def data_file(content: bytes, name: str = "train.jsonl") -> Break:
    def break_it(world: Path) -> list[str]:
        shutil.rmtree(world / "cache")
        (world / "ner" / "en" / "train.jsonl").unlink()
        (world / "ner" / "en" / name).write_bytes(content)
        return AGAIN

    return break_it


def row(**changes: object) -> bytes:
    good: dict[str, object] = {"tokens": ["the", "cat"], "ner_tags": ["O", "O"]}
    bad = {key: value for key, value in {**good, **changes}.items() if value is not ...}
    return (json.dumps(good) + "\n" + json.dumps(bad) + "\n").encode()


def without(path: str) -> Break:
    def break_it(world: Path) -> list[str]:
        shutil.rmtree(world / "cache")
        target = world / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        return AGAIN

    return break_it


def ticket_bytes(change: Callable[[bytes], bytes], *command: str) -> Break:
    def break_it(world: Path) -> list[str]:
        (world / TICKET).write_bytes(change((world / TICKET).read_bytes()))
        return list(command) or ["ticket", "info", str(TICKET)]

    return break_it


def ticket_metadata(**changes: str | None) -> Break:
    def break_it(world: Path) -> list[str]:
        with safe_open(world / TICKET, "np") as file:
            metadata = {**file.metadata(), "metadata_checksum": None, **changes}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        save_file(tensors, world / TICKET, {key: value for key, value in metadata.items() if value is not None})
        return ["ticket", "info", str(TICKET)]

    return break_it


def flip_last_byte(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def command(*args: str) -> Break:
    return lambda world: list(args)


def checkpoint(change: Callable[[bytes], bytes]) -> Break:
    def break_it(world: Path) -> list[str]:
        (world / CHECKPOINT).write_bytes(change((world / CHECKPOINT).read_bytes()))
        return FIT

    return break_it


def flip_in_the_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def run_file(name: str, content: bytes | None, *args: str) -> Break:
    """Puts ``content``, or a folder, in the place of one of the run's files."""

    def break_it(world: Path) -> list[str]:
        path = world / RUN / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.mkdir() if content is None else path.write_bytes(content)
        return list(args) or FIT

    return break_it


def file_in_the_way(path: str, *args: str) -> Break:
    def break_it(world: Path) -> list[str]:
        (world / path).write_text("in the way\n")
        return list(args)

    return break_it


def base_of_other_weights(world: Path) -> list[str]:
    """The base model's weights are not those that the ticket was found in."""
    from safetensors.numpy import load_file

    config = yaml.safe_load((world / "config.yaml").read_text())
    there = Path(config["model"]["base_model"])
    shutil.copytree(there, world / "other-base")
    weights = load_file(world / "other-base" / "model.safetensors")
    save_file({k: v + 1 for k, v in weights.items()}, world / "other-base" / "model.safetensors", {"format": "pt"})
    return [*AGAIN, "--model.base_model=other-base", f"--model.ticket={TICKET}", "--trainer.callbacks=null"]


def transfer_file(name: str, content: bytes) -> Break:
    """Puts ``content`` in the place of a transfer's file."""

    def break_it(world: Path) -> list[str]:
        (world / "t").mkdir()
        (world / "t" / name).write_bytes(content)
        return ["transfer", "--config=config.yaml", f"--tickets={TICKET}", "--languages=en", "--output=t"]

    return break_it


BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n".encode() for level in range(1, 12)
)
LEVELS_WITHOUT_END = b"model: " + b"[" * 100_000 + b"\n"

BROKEN: dict[str, Break] = {
    # configurations
    "config is no YAML": raw_config(b"model: [unclosed\n"),
    "config has a tab": raw_config(b"model:\n\tbase_model: x\n"),
    "config is empty": raw_config(b""),
    "config is a list": raw_config(b"- 1\n- 2\n"),
    "config is a word": raw_config(b"hello\n"),
    "config is binary": raw_config(bytes(range(256))),
    "config is not there": command("fit", "--config=nowhere.yaml"),
    "config is a folder": command("fit", "--config=runs"),
    "config has an unknown section": setting("modle", to={"a": 1}),
    "config has an unknown setting": in_model("learning_rat", 1e-4),
    "learning rate is a word": in_model("learning_rate", "fast"),
    "learning rate is negative": in_model("learning_rate", -1.0),
    "learning rate is nan": in_model("learning_rate", float("nan")),
    "warm-up is 1": in_model("warmup", 1.0),
    "weight decay is negative": in_model("weight_decay", -0.1),
    "attention of an unknown sort": in_model("attention", "quick"),
    "base model is not there": in_model("base_model", "./nowhere"),
    "base model is a file": in_model("base_model", "./config.yaml"),
    "base model is an empty name": in_model("base_model", ""),
    "init of an unknown sort": in_model("init", "zeros"),
    "task of an unknown class": setting("data", "class_path", to="lnsub.Chess"),
    "task is a class of another kind": setting("data", "class_path", to="lnsub.tickets.ticket.Ticket"),
    "language that the data lacks": in_data("language", "xx"),
    "language is a path": in_data("language", "../ner"),
    "language leads out of the runs": in_data("language", "../../x"),
    "language leads to other data": in_data("language", "en/../../esc/data"),
    "language is absolute": in_data("language", "/tmp/x"),
    "language is hidden": in_data("language", ".git"),
    "part of a mixture is a path": in_data("language", "en+../x"),
    "part of a mixture is empty": in_data("language", "en++fr"),
    "language has a line break": in_data("language", "en\nfr"),
    "language is too long": in_data("language", "x" * 300),
    "language to transfer to is a path": command(
        *("transfer", "--config=config.yaml", f"--tickets={TICKET}", "--languages=en,../../x", "--output=t")
    ),
    "config is a bomb": raw_config(BOMB),
    "config has 100,000 levels": raw_config(LEVELS_WITHOUT_END),
    "config is part of itself": raw_config(b"model: &a {base_model: *a}\n"),
    "batch size is 0": in_data("batch_size", 0),
    "batch size is a word": in_data("batch_size", "many"),
    "length is 0": in_data("max_length", 0),
    "data set is not there": in_data("dataset", "./nowhere"),
    "no training examples": in_data("max_train_examples", 0),
    "workers are negative": in_data("num_workers", -1),
    "sparsity above 1": in_imp("sparsities", [0.5, 1.5]),
    "sparsities fall": in_imp("sparsities", [0.6, 0.3]),
    "sparsity is a word": in_imp("sparsities", ["half"]),
    "score of an unknown sort": in_imp("score", "magn"),
    "scope of an unknown sort": in_imp("scope", "galaxy"),
    "rewind step without its rewind": in_imp("rewind_step", 3),
    "rewind step that no round reaches": lambda world: [*in_imp("rewind", "step")(world), *STEP_TOO_FAR],
    "geometric without a rate": in_imp("schedule", "geometric"),
    "no length of a round": setting("trainer", "max_epochs", to=-1),
    "no validation": setting("trainer", "limit_val_batches", to=0),
    "precision of an unknown sort": setting("trainer", "precision", to="bf15"),
    "seed is negative": setting("seed_everything", to=-3),
    "checkpoints every 0 steps": setting("checkpoint_every_n_steps", to=0),
    "checkpoints every 0 minutes": setting("checkpoint_every_minutes", to=0),
    # data
    "data file is empty": data_file(b""),
    "data file is no JSON": data_file(b'{"tokens": ["a"], "ner_ta\n'),
    "data file is binary": data_file(bytes(range(256)) * 4),
    "data file is no Parquet": data_file(b"PAR1 not really PAR1", "train.parquet"),
    "data file of no rows": data_file(b"\n\n"),
    "a column is missing": data_file(b'{"tokens": ["a"]}\n'),
    "fewer tags than words": data_file(row(ner_tags=["O"])),
    "an unknown tag": data_file(row(ner_tags=["O", "B-DOG"])),
    "a tag out of range": data_file(b'{"tokens": ["a", "b"], "ner_tags": [0, 99]}\n'),
    "words are a number": data_file(b'{"tokens": 7, "ner_tags": ["O"]}\n'),
    "tags are null": data_file(row(ner_tags=None)),
    "a row is a list": data_file(b'["the", "cat"]\n'),
    "no validation data": without("ner/en/validation.jsonl"),
    "no training data": without("ner/en/train.jsonl"),
    "no data": without("ner/en"),
    # tickets
    "ticket is empty": ticket_bytes(lambda content: b""),
    "ticket is cut off": ticket_bytes(lambda content: content[: len(content) // 2]),
    "ticket has a flipped bit": ticket_bytes(flip_last_byte),
    "ticket is text": ticket_bytes(lambda content: b"a ticket, honestly\n"),
    "ticket is a pickle": ticket_bytes(lambda content: pickle.dumps({"mask": [1, 0]})),
    "ticket has a mad header": ticket_bytes(lambda content: b"\xff" * 8 + content[8:]),
    "ticket of a later format": ticket_metadata(format="lnsub-ticket/9"),
    "ticket without a format": ticket_metadata(format=None),
    "ticket without shapes": ticket_metadata(shapes=None),
    "ticket whose shapes are no JSON": ticket_metadata(shapes="{"),
    "ticket whose seed is a word": ticket_metadata(seed="many"),
    "ticket with another checksum": ticket_metadata(checksum="0" * 64),
    "ticket of another language than its checksum": ticket_metadata(language="de", metadata_checksum="0" * 64),
    "ticket whose language is a path": ticket_metadata(language="../../x"),
    "ticket whose task is a path": ticket_metadata(task="/etc"),
    "ticket whose shapes have no end": ticket_metadata(shapes="[" * 100_000),
    "ticket is not there": command("ticket", "info", "nowhere.safetensors"),
    "ticket is a folder": command("ticket", "info", "runs"),
    "overlap with a damaged ticket": ticket_bytes(
        flip_last_byte, "overlap", str(TICKET), str(RUN / "tickets/s0.30.safetensors")
    ),
    "overlap across base models": command("overlap", str(TICKET), "foreign.safetensors"),
    "combine across base models": command(
        "combine", "union", str(TICKET), "foreign.safetensors", "--output=u.safetensors"
    ),
    "combine with one of an unknown way": command("combine", "xor", str(TICKET), "--output=u.safetensors"),
    "export of a damaged ticket": ticket_bytes(flip_last_byte, "export", str(TICKET), "--output=exported"),
    "fit under a ticket of another base model": command(
        *AGAIN, "--model.ticket=foreign.safetensors", "--trainer.callbacks=null"
    ),
    "fit of changed weights under a ticket": base_of_other_weights,
    "IMP under a ticket": command(*AGAIN, f"--model.ticket={TICKET}"),
    "transfer of no tickets": command(
        "transfer", "--config=config.yaml", "--tickets=no*.safetensors", "--languages=en", "--output=t"
    ),
    # checkpoints
    "checkpoint is empty": checkpoint(lambda content: b""),
    "checkpoint is cut off": checkpoint(lambda content: content[: len(content) // 2]),
    "checkpoint has a flipped byte": checkpoint(flip_in_the_middle),
    "checkpoint is text": checkpoint(lambda content: b"weights\n"),
    "checkpoint is a pickle": checkpoint(lambda content: pickle.dumps([1])),
    "checkpoint is a folder": run_file("checkpoints/last.ckpt", None),
    "checkpoint to validate is not there": command("validate", "--config=config.yaml", "--ckpt_path=nowhere.ckpt"),
    # run folders
    "settings of the run are no YAML": run_file("config.yaml", b"model: [\n"),
    "settings of the run are a list": run_file("config.yaml", b"- 1\n"),
    "settings of the run are binary": run_file("config.yaml", bytes(range(256))),
    "settings of the run are a bomb": run_file("config.yaml", BOMB),
    "settings of the run have 100,000 levels": run_file("config.yaml", LEVELS_WITHOUT_END),
    "settings of the run are part of themselves": run_file("config.yaml", b"model: &a [*a]\n"),
    "settings of a transfer are a bomb": transfer_file("wikiann.yaml", BOMB),
    "settings of a transfer have 100,000 levels": transfer_file("wikiann.yaml", LEVELS_WITHOUT_END),
    "settings of the run are others": lambda world: [*FIT, "--model.learning_rate=1e-3"],
    "settings of the run are a folder": run_file("config.yaml", None),
    "records are a folder": run_file("results.jsonl", None),
    "a file where the runs go": file_in_the_way("taken", *FIT, "--output=taken"),
    "a file where tickets go": run_file("tickets", b"", "ticket", "info", str(TICKET)),
    "report of no folder": command("report", "nowhere"),
    "report of a file": command("report", "config.yaml"),
    "report where a folder is": command("report", "runs", "-o", "ner"),
    "predictions where something else is": run_file(
        "predictions.jsonl", b"mine\n", "predict", "--config=config.yaml", f"--ckpt_path={CHECKPOINT}"
    ),
    "predictions where a folder is": run_file(
        "predictions.jsonl", None, "predict", "--config=config.yaml", f"--ckpt_path={CHECKPOINT}"
    ),
}
STEP_TOO_FAR = ["--trainer.callbacks.rewind_step=999"]


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock" and "cache" not in path.parts
    }


@pytest.mark.parametrize("what", BROKEN)
def test_broken_input_is_one_sentence_and_nothing_is_written_over(what, world, capsys):
    args = BROKEN[what](world)
    before = contents(world)
    capsys.readouterr()
    status = main(args)
    err = capsys.readouterr().err
    assert (status, "Traceback" in err) == (2, False), err
    errors = [line for line in err.splitlines() if "error: " in line]
    assert len(errors) == 1, err
    assert 20 < len(errors[0]) < 600
    after = contents(world)
    assert {path: after.get(path) for path in before} == before
    new = [path for path in after if path not in before]
    assert not [path for path in new if path.endswith((".safetensors", ".partial"))]
    assert {Path(path).parts[0] for path in new} <= {"other", "runs", "t"}, new


def test_the_whole_is_whole(world):
    """Without which each of the above might fail for another reason."""
    assert main(FIT) == 0
    assert main(["ticket", "verify", str(TICKET)]) == 0
    assert Ticket.load(world / TICKET).provenance.sparsity == LEVELS[-1]
    assert len(BROKEN) >= 60
