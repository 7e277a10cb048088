"""Bad data: folders and files of each task that are missing, cut off, of another kind, or have the wrong rows."""

import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.attacks.cases import Case, fifo, fit, the_run
from tests.support.trials import World

Put = Callable[[Path], object]

TASKS: dict[str, dict[str, Any]] = {
    "XNLI": {"premise": "the cat sat", "hypothesis": "the dog ran", "label": 1},
    "WikiANN": {"tokens": ["the", "cat"], "ner_tags": ["O", "B-PER"]},
    "UDPOS": {"tokens": ["the", "cat"], "upos": ["DET", "NOUN"]},
    "WikipediaMLM": {"text": "the cat sat on a mat and the dog ran home not red but blue"},
}
"""A right row of each task."""

WRONG: dict[str, dict[str, list[Any]]] = {  # of a column: what makes the row a wrong one
    "XNLI": {
        "premise": [7, True, ["the"], {"a": "the"}, [[["the"]]]],
        "hypothesis": [0.5, ["the", "cat"], {"text": "the"}],
        "label": [3, -2, 99, 10**30, 0.5, "maybe", "", True, [1], {"a": 1}, "9" * 5000],
    },
    "WikiANN": {
        "tokens": [7, [1, 2], [["the", "cat"]], {"a": 1}, [None, "cat"], ["the"], []],
        "ner_tags": [
            7,
            "O",
            ["O"],
            ["O", "O", "O"],
            ["O", "B-DOG"],
            [0, 99],
            [0, -1],
            ["O", None],
            None,
            [["O", "O"]],
            [True, False],
        ],
    },
    "UDPOS": {
        "tokens": [7, [1, 2], [["the", "cat"]], {"a": 1}, ["the"]],
        "upos": [7, "NOUN", ["NOUN"], ["DET", "DOG"], [0, 99], [[1, 2]], None, ["det", "noun"]],
    },
    "WikipediaMLM": {"text": [7, 0.5, True, ["the"], {"a": "the"}, [["the"]]]},
}

JSONL: dict[str, bytes] = {
    "nothing": b"",
    "line breaks": b"\n\n\n",
    "binary": bytes(range(256)) * 20,
    "zeros": bytes(10_000),
    "Latin-1": '{"premise": "\xe9t\xe9"}\n'.encode("latin-1"),
    "UTF-16": '{"premise": "the cat"}\n'.encode("utf-16"),
    "prose": b"Dear reviewer, please find enclosed\n",
    "HTML": b"<!DOCTYPE html><title>404 Not Found</title>\n",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
    "a list": b'["the", "cat"]\n',
    "numbers": b"1\n2\n3\n",
    "null": b"null\n",
    "an empty object": b"{}\n",
    "100,000 levels": b'{"premise": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    "100,000 objects": b'{"premise": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}\n",
    "an open bracket": b'{"premise": "the',
    "other columns": b'{"question": "why", "answer": "so"}\n',
    "half a surrogate": b'{"premise": "\\ud800"}\n',
    "5,000 digits": b'{"label": ' + b"9" * 5000 + b"}\n",
    "a gzip": b"\x1f\x8b\x08\x00" + bytes(200),
    "a zip": b"PK\x03\x04" + bytes(200),
    "a pickle": b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR.",
}
OTHERS: dict[str, bytes] = {  # by file name
    "train.parquet": b"PAR1 not really PAR1",
    "train.csv": b"a,b\n1,2\n",
    "train.conllu": b"1\tthe\n",
}
MORE: dict[str, dict[str, bytes]] = {
    "train.parquet": {
        "nothing": b"",
        "its ends alone": b"PAR1PAR1",
        "text": b"the cat sat\n",
        "a length without end": b"PAR1" + b"\xff" * 100 + b"\xff\xff\xff\x7fPAR1",
        "zeros": bytes(5000),
    },
    "train.csv": {
        "nothing": b"",
        "a header alone": b"premise,hypothesis,label\n",
        "ragged rows": b"premise,hypothesis,label\nthe,cat,1\nthe\na,b,c,d,e\n",
        "an open quote": b'premise,hypothesis,label\n"the,cat,1\n',
        "binary": bytes(range(256)) * 9,
        "other columns": b"a,b\n1,2\n",
        "a column twice": b"premise,premise,label\na,b,1\n",
        "NUL": b"premise,hypothesis,label\n\0,\0,\0\n",
        "a wrong label": b"premise,hypothesis,label\nthe cat,a dog,maybe\n",
    },
    "train.conllu": {
        "nothing": b"",
        "prose": b"the cat sat\n",
        "two fields": b"1\tthe\n\n",
        "binary": bytes(range(256)) * 9,
        "a wrong number": b"one\tthe\tthe\tDET\t_\t_\t0\troot\t_\t_\n\n",
        "a wrong tag": b"1\tthe\tthe\tDOG\t_\t_\t0\troot\t_\t_\n\n",
        "comments alone": b"# sent_id = 1\n\n",
        "5,000 digits": b"9" * 5000 + b"\tthe\tthe\tDET\t_\t_\t0\troot\t_\t_\n\n",
    },
}


def cases(rng: random.Random) -> Iterator[Case]:
    """Bad data without end."""
    listed = [*_rows(), *_files(), *_folders(), *_pairs()]
    rng.shuffle(listed)
    yield from listed
    for number in itertools.count(1):
        task = rng.choice(list(TASKS))
        split = rng.choice(["train", "validation"])
        how, seed = rng.choice(["cut", "mixed", "columns"]), rng.randrange(2**32)
        content = _spoiled(task, how, random.Random(seed))
        yield Case(f"data folders: {number}: {task}, {split} {how}", _data(task, _file(f"{split}.jsonl", content)))


def _data(task: str, change: Put) -> Callable[[Path, World], list[str]]:
    """A run on good data of a task, which is changed in its language's folder."""

    def make(folder: Path, world: World) -> list[str]:
        data = folder / "data" / "en"
        data.mkdir(parents=True)
        for split in ("train", "validation"):
            lines = [json.dumps({**TASKS[task], **_varied(task, n)}) + "\n" for n in range(12)]
            (data / f"{split}.jsonl").write_text("".join(lines))
        change(data)
        changes = {"data": f"lnsub.{task}", "data.init_args.dataset": folder / "data", "trainer.max_epochs": 1}
        return fit(folder, world, changes.items())

    return make


def _varied(task: str, number: int) -> dict[str, Any]:
    return {"label": number % 3} if task == "XNLI" else {}


def _file(name: str, content: bytes) -> Put:
    """A file in the place of the split's."""

    def change(data: Path) -> None:
        (data / name).with_suffix(".jsonl").unlink(missing_ok=True)
        (data / name).write_bytes(content)

    return change


def _rows() -> Iterator[Case]:
    for task, columns in WRONG.items():
        good = TASKS[task]
        for column, values in columns.items():
            for value in values:
                # Alone, so that the column's type is the wrong one; and among others of the right type.
                alone = json.dumps({**good, column: value}).encode() + b"\n"
                shown = ascii(value)[:40]
                name = f"data folders: {task}: {column}: {shown}"
                yield Case(name, _data(task, _file("train.jsonl", alone * 4)))
                among = json.dumps(good).encode() + b"\n"
                yield Case(f"{name}, late", _data(task, _file("train.jsonl", among * 40 + alone)))
            without = json.dumps({key: value for key, value in good.items() if key != column} or {"a": 1}).encode()
            yield Case(f"data folders: {task}: no {column}", _data(task, _file("train.jsonl", without + b"\n")))


def _files() -> Iterator[Case]:
    for task in TASKS:
        for what, content in JSONL.items():
            yield Case(f"data folders: {task}: train.jsonl of {what}", _data(task, _file("train.jsonl", content)))
    for what in ("nothing", "binary", "a list", "other columns"):
        content = JSONL[what]
        yield Case(f"data folders: validation.jsonl of {what}", _data("XNLI", _file("validation.jsonl", content)))
    for name, contents in MORE.items():
        task = "UDPOS" if name.endswith("conllu") else "XNLI"
        for what, content in contents.items():
            yield Case(f"data folders: {task}: {name} of {what}", _data(task, _file(name, content)))


def _folders() -> Iterator[Case]:
    def gone(*names: str) -> Put:
        return lambda data: [(data / name).unlink() for name in names]

    def no_language(data: Path) -> None:
        data.rename(data.with_name("fr"))

    def a_file(data: Path) -> None:
        data.rename(data.with_name("fr"))
        data.write_text("the cat\n")

    def a_loop(data: Path) -> None:
        data.rename(data.with_name("fr"))
        data.symlink_to("en")

    def instead(put: Put) -> Put:
        def change(data: Path) -> None:
            (data / "train.jsonl").unlink()
            put(data / "train.jsonl")

        return change

    def both(data: Path) -> None:
        (data / "train.csv").write_text("premise,hypothesis,label\na,b,1\n")

    places: dict[str, Put] = {
        "no training split": gone("train.jsonl"),
        "no validation split": gone("validation.jsonl"),
        "no splits": gone("train.jsonl", "validation.jsonl"),
        "no language": no_language,
        "a file for a language": a_file,
        "a link to itself for a language": a_loop,
        "two files of a split": both,
        "a FIFO for a file": instead(lambda path: fifo(path)),
        "a folder for a file": instead(lambda path: path.mkdir()),
        "a device for a file": instead(lambda path: path.symlink_to("/dev/zero")),
        "a dangling link for a file": instead(lambda path: path.symlink_to("nowhere")),
        "a link to itself for a file": instead(lambda path: path.symlink_to(path.name)),
        "a terabyte of nothing": instead(lambda path: _sparse(path)),
        "one row of 20 MB": _file("train.jsonl", b'{"premise": ["' + b"x" * 20_000_000 + b'"]}\n'),
    }
    for what, change in places.items():
        for task in ("XNLI", "WikiANN"):
            yield Case(f"data folders: {task}: {what}", _data(task, change))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        # As much as the limit of a case's files, and more than its memory, would not be a fair attack: not JSON.
        os.truncate(file.fileno(), 2**29)


def _pairs() -> Iterator[Case]:
    """Sentence pairs for `lnsub retrieve`."""

    def retrieve(name: str, content: bytes | None) -> Callable[[Path, World], list[str]]:
        def make(folder: Path, world: World) -> list[str]:
            (folder / "pairs").mkdir()
            path = folder / "pairs" / name
            fifo(path) if content is None else path.write_bytes(content)
            base = the_run(world).path / "base"
            return ["retrieve", f"--base-model={base}", "--pairs=pairs", "--output=out/table", "--k=1"]

        return make

    contents: dict[str, dict[str, bytes | None]] = {
        "fr.csv": {
            "nothing": b"",
            "a header alone": b"en,other\n",
            "other columns": b"a,b\n1,2\n",
            "a FIFO": None,
            "binary": bytes(range(256)) * 9,
            "blank sentences": b"en,other\n , \n,\n",
            "one column": b"en\nthe\n",
            "an open quote": b'en,other\n"the,cat\n',
            "Latin-1": "en,other\nthe,\xe9t\xe9\n".encode("latin-1"),
        },
        "fr.tsv": {"nothing": b"", "one column": b"en\nthe\n", "binary": bytes(range(256)) * 9, "a FIFO": None},
        "fr.jsonl": {
            **{f"a file of {what}": content for what, content in JSONL.items()},
            "numbers for sentences": b'{"en": 1, "other": 2}\n{"en": 3, "other": 4}\n',
            "lists for sentences": b'{"en": ["a"], "other": ["b"]}\n',
            "a FIFO": None,
        },
        "fr.parquet": {**MORE["train.parquet"], "a FIFO": None},
        "fr.txt": {"text": b"the cat\n"},
    }
    for name, by_what in contents.items():
        for what, content in by_what.items():
            yield Case(f"data folders: pairs: {name}: {what}", retrieve(name, content))


def _spoiled(task: str, how: str, rng: random.Random) -> bytes:
    """Rows that are spoiled at random places, one of them beyond doubt."""
    good = json.dumps(TASKS[task]).encode() + b"\n"
    rows = [good] * rng.randint(1, 30)
    place = rng.randrange(len(rows))
    if how == "cut":
        # Not at the end of the line, where a row is whole.
        rows[place] = good[: rng.randint(1, len(good) - 3)]
        rows.append(good)
    elif how == "mixed":
        rows[place] = (
            bytes(rng.choice([0, 1, 127, 128, 255, 34, 91, 123, 93]) for _ in range(rng.randint(1, 300))) + b"\xff{\n"
        )
    else:
        column = rng.choice(list(TASKS[task]))
        rows = [json.dumps({f"{key}{'s' * (key == column)}": v for key, v in TASKS[task].items()}).encode() + b"\n"]
    return b"".join(rows)
