"""A run is done where all of it is there: what was lost is made again, and what was not is named."""

import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest

from lnsub.cli.main import main
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import read
from lnsub.tickets.ticket import Ticket
from tests.support.command import arguments, said
from tests.support.data_makers import WORDS, make_bert, write_rows

pytestmark = pytest.mark.filterwarnings("ignore:.*not a whole record:UserWarning")

RUN = Path("wikiann", "en", "seed57")
LEVELS = (0.3, 0.6)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, data, a finished run of three rounds, a finished fine-tuning, and one whose checkpoint was kept."""
    folder = tmp_path_factory.mktemp("world")
    make_bert(folder / "base")
    for split, rows in (("train", 24), ("validation", 8)):
        tokens = [[WORDS[(i + k) % 13] for k in range(2 + i % 4)] + ["Paris"] for i in range(rows)]
        tags = [["O"] * (len(words) - 1) + ["B-LOC"] for words in tokens]
        write_rows(folder / "ner" / "en" / f"{split}.jsonl", {"tokens": tokens, "ner_tags": tags})
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    for kind in ("rounds", "kept", "plain"):
        assert main(command(folder, kind, folder / kind)) == 0
    yield folder
    datasets.config.HF_DATASETS_CACHE = before


def command(world: Path, kind: str, output: Path) -> list[str]:
    """The command line of a run."""
    changes: dict[str, object] = {"kept": {"trainer.callbacks.keep_checkpoint": "true"}}.get(kind, {})
    args = arguments(str(world / "base"), world / "ner", output, wandb="null", **changes)
    if kind == "plain":
        args = [arg for arg in args if not arg.startswith("--trainer.callbacks")] + ["--trainer.callbacks=null"]
    return args


def copy_of(world: Path, kind: str, tmp_path: Path) -> tuple[RunFolder, list[str]]:
    """A copy of a finished run, and the command that it came from."""
    shutil.copytree(world / kind, tmp_path / "runs")
    return RunFolder(tmp_path / "runs" / RUN), command(world, kind, tmp_path / "runs")


def made(folder: RunFolder) -> tuple[list[str], set[tuple[Any, ...]]]:
    """What a run is for."""
    tickets = [Ticket.load(path).checksum for path in sorted((folder.path / "tickets").glob("*"))]
    return tickets, {(r.kind, r.round, r.metric, r.value, r.ticket) for r in read(folder.results)}


def cut_records(folder: RunFolder, lines: int) -> None:
    whole = folder.results.read_bytes().splitlines(keepends=True)
    folder.results.write_bytes(b"".join(whole[:lines]) + whole[lines][:20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


LOSSES = {
    "a ticket": lambda folder: folder.ticket(0.3).unlink(),
    "the last ticket": lambda folder: folder.ticket(0.6).unlink(),
    "a bit of a ticket": lambda folder: flip(folder.ticket(0.6)),
    "the records": lambda folder: folder.results.unlink(),
    "half of the records": lambda folder: cut_records(folder, 5),
    "a record in the middle of its round": lambda folder: cut_records(folder, 7),
    "the tickets": lambda folder: shutil.rmtree(folder.path / "tickets"),
}


@pytest.mark.parametrize("lost", LOSSES)
@pytest.mark.parametrize("kind", ["rounds", "kept"])
def test_what_a_finished_run_has_lost_is_made_again(lost, kind, world, tmp_path):
    folder, args = copy_of(world, kind, tmp_path)
    LOSSES[lost](folder)
    assert main(args) == 0
    assert made(folder) == made(RunFolder(world / kind / RUN))


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_fine_tuning_of_which_only_some_metrics_were_recorded_is_done_again(lines, world, tmp_path):
    folder, args = copy_of(world, "plain", tmp_path)
    assert len(read(folder.results)) == 4
    cut_records(folder, lines)
    assert main(args) == 0
    assert made(folder) == made(RunFolder(world / "plain" / RUN))


@pytest.mark.parametrize("kind", ["rounds", "kept", "plain"])
def test_a_run_that_is_whole_is_left_as_it_is(kind, world, tmp_path):
    folder, args = copy_of(world, kind, tmp_path)
    (folder.checkpoint.parent).mkdir(exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.is_file()}
    if kind == "plain":  # killed between its record and the end
        shutil.copy(folder.checkpoint, folder.previous_checkpoint)
    assert main(args) == 0
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before
    assert not folder.previous_checkpoint.exists()


def test_what_is_lost_while_a_run_goes_on_is_named_and_made_again(world, tmp_path, capsys, monkeypatch):
    from lnsub.training import rounds

    folder, args = copy_of(world, "rounds", tmp_path)
    shutil.rmtree(tmp_path / "runs")
    write, fits = rounds._write, []

    def write_and_lose(*arguments: Any) -> None:
        write(*arguments)
        fits.append(None)
        if len(fits) == 2:
            shutil.rmtree(folder.path)

    monkeypatch.setattr(rounds, "_write", write_and_lose)
    line = said(capsys, args)
    assert str(folder.path) in line
    assert "round 0 in results.jsonl" in line
    assert "tickets/s0.30.safetensors" in line
    assert main(args) == 0
    assert made(folder) == made(RunFolder(world / "rounds" / RUN))
