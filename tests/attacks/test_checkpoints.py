"""Checkpoints that are hostile, damaged or another model's: no code runs, nothing is fetched, and one line says why."""

import http.server
import json
import os
import pickle
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml

from lnsub.cli.main import main
from lnsub.common.signals import EXIT_STATUS
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import read
from lnsub.tickets.ticket import Ticket
from lnsub.tracking.run import set_up
from lnsub.training.checkpoint_files import load_weights
from lnsub.training.config import RunConfig
from tests.attacks.bits import comparable, of_checkpoint
from tests.support.command import arguments, said
from tests.support.data_makers import WORDS
from tests.support.models import save_checkpoint

MEASURING = ["validate", "test", "predict"]
KEYS = ["state_dict", "loops", "epoch", "global_step", "pytorch-lightning_version"]
KEYS_TO_RESUME = [*KEYS, "callbacks", "optimizer_states", "lr_schedulers"]
RUN = Path("wikiann", "en", "seed57")
FLIPS = 200

Contents = dict[str, Any]


class Evil:
    """What runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (self.mark,)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model, data, a run that was interrupted in the second of two rounds, and the same one resumed to its end."""
    folder = tmp_path_factory.mktemp("world")
    save_checkpoint(folder / "base", WORDS, dropout=0.1, spare=20)
    for split, rows in (("train", 24), ("validation", 8), ("test", 8)):
        path = folder / "ner" / "en" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        tokens = [[WORDS[(i + k) % 13] for k in range(2 + i % 4)] for i in range(rows)]
        lines = [json.dumps({"tokens": [*t, "Paris"], "ner_tags": ["O"] * len(t) + ["B-LOC"]}) + "\n" for t in tokens]
        path.write_text("".join(lines))
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    signal = {"class_path": "tests.support.interrupting.SignalAt", "init_args": {"step": 7, "name": "SIGUSR1"}}
    imp = {"class_path": "lnsub.IMPCallback", "init_args": {"sparsities": [0.5]}}
    (folder / "callbacks.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [imp, signal]}}))
    assert main(fit(folder, folder / "cut")) == EXIT_STATUS
    shutil.copytree(folder / "cut", folder / "whole")
    assert main(fit(folder, folder / "whole")) == 0
    yield folder
    datasets.config.HF_DATASETS_CACHE = before


def fit(world: Path, output: Path | str) -> list[str]:
    settings: dict[str, object] = {"checkpoint_every_n_steps": 1, "wandb": "null", "trainer.max_epochs": 2}
    args = arguments(str(world / "base"), world / "ner", Path(output), **settings)
    args = [arg for arg in args if not arg.startswith("--trainer.callbacks")]
    return [*args[:2], f"--config={world / 'callbacks.yaml'}", *args[2:]]


def measuring(command: str, world: Path, checkpoint: object) -> list[str]:
    config = world / "whole" / RUN / "config.yaml"
    return [command, f"--config={config}", "--trainer.callbacks=null", f"--ckpt_path={checkpoint}"]


def changed(source: Path, target: Path, change: Callable[[Contents], Any]) -> Path:
    """A checkpoint with other contents, whole as a file."""
    contents = torch.load(source, weights_only=True)
    contents = change(contents) or contents
    torch.save(contents, target)
    return target


def without(*keys: str) -> Callable[[Contents], None]:
    """Takes away a part, by the keys that lead to it."""

    def change(contents: Contents) -> None:
        for key in keys[:-1]:
            contents = contents[key]
        del contents[keys[-1]]

    return change


def with_value(value: Any, *keys: str) -> Callable[[Contents], None]:
    """Puts something else in the place of a part."""

    def change(contents: Contents) -> None:
        for key in keys[:-1]:
            contents = contents[key]
        contents[keys[-1]] = value

    return change


def made(output: Path) -> tuple[list[str], list[tuple[Any, ...]]]:
    """What a run is for."""
    tickets = [Ticket.load(path).checksum for path in sorted((output / RUN / "tickets").iterdir())]
    return tickets, [(r.round, r.metric, r.value) for r in read(output / RUN / "results.jsonl")]


# Hostile --------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["of torch", "of weights and code", "of pickle"])
def hostile(request: pytest.FixtureRequest, world: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A file that makes a folder when it is unpickled, and that folder, which is not there."""
    path, mark = tmp_path / "evil.ckpt", tmp_path / "executed"
    if request.param == "of pickle":
        path.write_bytes(pickle.dumps({"state_dict": Evil(mark)}))
        load: Callable[[], object] = lambda: pickle.loads(path.read_bytes())  # noqa: E731
    else:
        contents: Contents = {"state_dict": Evil(mark)}
        if request.param == "of weights and code":
            contents = torch.load(world / "cut" / RUN / "checkpoints" / "last.ckpt", weights_only=True)
            contents["hyper_parameters"] = Evil(mark)
        torch.save(contents, path)
        load = lambda: torch.load(path, weights_only=False)  # noqa: E731
    load()
    mark.rmdir()  # so it is armed
    return path, mark


@pytest.mark.parametrize("command", MEASURING)
def test_a_hostile_checkpoint_is_refused_and_runs_nothing(command, hostile, world, capsys):
    path, mark = hostile
    assert str(path) in said(capsys, measuring(command, world, path))
    assert not mark.exists()


@pytest.mark.parametrize("command", MEASURING)
def test_a_checkpoint_is_never_fetched(command, world, tmp_path, capsys, monkeypatch):
    path, mark = tmp_path / "evil.ckpt", tmp_path / "executed"
    torch.save({"state_dict": Evil(mark)}, path)
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/evil.ckpt"
            assert url in said(capsys, measuring(command, world, url))
        finally:
            server.shutdown()
            thread.join()
    assert asked == []
    assert not mark.exists()
    assert not (tmp_path / "torch").exists()


def test_a_hostile_last_checkpoint_is_passed_over_and_runs_nothing(hostile, world, tmp_path):
    shutil.copytree(world / "cut", tmp_path / "runs")
    path, mark = hostile
    shutil.copy(path, tmp_path / "runs" / RUN / "checkpoints" / "last.ckpt")
    assert main(fit(world, tmp_path / "runs")) == 0
    assert not mark.exists()
    assert made(tmp_path / "runs") == made(world / "whole")


# No checkpoint, or none of this model -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["", "best", "last", "hpc", "s3://bucket/x.ckpt", "file:///x.ckpt", "hf://x/y", "nowhere.ckpt", ".", "fifo"]
)
def test_what_is_no_file_of_this_machine_is_refused(path, world, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    assert "--ckpt_path" in said(capsys, measuring("validate", world, path))


BROKEN: dict[str, tuple[Callable[[Contents], Any], str]] = {
    **{f"no {key}": (without(key), key) for key in KEYS_TO_RESUME},
    "no fit loop": (without("loops", "fit_loop"), "fit_loop"),
    "weights of another shape": (
        with_value(torch.zeros(3, 5), "state_dict", "model.classifier.weight"),
        "model.classifier.weight",
    ),
    "a weight less": (without("state_dict", "model.classifier.weight"), "model.classifier.weight"),
    "a weight more": (with_value(torch.zeros(1), "state_dict", "model.more"), "model.more"),
    "no tensors": (with_value([1.0], "state_dict", "model.classifier.weight"), "state_dict"),
    "a list": (lambda contents: [contents["state_dict"]], "checkpoint"),
    "weights alone": (lambda contents: contents["state_dict"], "state_dict"),
    "a step that is none": (with_value("seven", "global_step"), "global_step"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_no_checkpoint_of_this_model_is_refused_in_a_line(how, world, tmp_path, capsys):
    change, names = BROKEN[how]
    path = changed(world / "cut" / RUN / "checkpoints" / "last.ckpt", tmp_path / "odd.ckpt", change)
    line = said(capsys, measuring("validate", world, path))
    assert str(path) in line
    assert names in line


@pytest.mark.parametrize("content", [b"", b"text\n", b"PK\x03\x04 but no more", pickle.dumps({"state_dict": {}})])
def test_a_file_of_another_kind_is_refused_in_a_line(content, world, tmp_path, capsys):
    (tmp_path / "x.ckpt").write_bytes(content)
    assert str(tmp_path / "x.ckpt") in said(capsys, measuring("test", world, tmp_path / "x.ckpt"))


def test_the_weights_and_the_mask_of_a_file_are_taken_whole(world):
    path = world / "cut" / RUN / "checkpoints" / "last.ckpt"
    expected = torch.load(path, weights_only=True)["state_dict"]
    module = set_up(RunConfig.parse(fit(world, world / "cut")[1:]), fitting=False).module
    name = "model.bert.embeddings.word_embeddings"
    whole = module.state_dict()[f"{name}.weight"].clone()
    rows = expected.pop(f"{name}.rows_in_use")
    assert 0 < len(rows) < len(whole)
    whole[rows] = expected[f"{name}.weight"]
    expected[f"{name}.weight"] = whole
    load_weights(str(path), module)
    assert comparable(dict(module.state_dict())) == comparable(dict(expected))
    kept = sum(int(mask.sum()) for mask in module.subnet.mask.values())
    assert kept * 2 == sum(mask.numel() for mask in module.subnet.mask.values())


@pytest.mark.parametrize("command", MEASURING)
def test_what_code_a_file_may_run_is_no_option(command, world, capsys):
    assert "weights_only" in said(capsys, [*measuring(command, world, "x.ckpt"), "--weights_only=false"])


# Resuming -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [*KEYS_TO_RESUME, "lnsub"])
def test_where_the_last_checkpoint_lacks_a_part_the_one_before_is_used(key, world, tmp_path):
    shutil.copytree(world / "cut", tmp_path / "runs")
    folder = RunFolder(tmp_path / "runs" / RUN)
    lacking = without("lnsub", "random") if key == "lnsub" else without(key)
    changed(folder.checkpoint, folder.checkpoint, lacking)
    assert main(fit(world, tmp_path / "runs")) == 0
    assert made(tmp_path / "runs") == made(world / "whole")


@pytest.mark.parametrize(
    "put", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")], ids=["fifo", "folder", "zeros"]
)
def test_where_the_last_checkpoint_is_no_file_the_one_before_is_used(put, world, tmp_path):
    shutil.copytree(world / "cut", tmp_path / "runs")
    folder = RunFolder(tmp_path / "runs" / RUN)
    folder.checkpoint.unlink()
    put(folder.checkpoint)
    assert main(fit(world, tmp_path / "runs")) == 0
    assert made(tmp_path / "runs") == made(world / "whole")


UNUSABLE: dict[str, Callable[[Contents], Any]] = {
    "weights of another shape": with_value(torch.zeros(3, 5), "state_dict", "model.classifier.weight"),
    "a weight less": without("state_dict", "model.classifier.weight"),
    "no optimizer": with_value([], "optimizer_states"),
    "another optimizer": with_value([{"state": {}, "param_groups": []}], "optimizer_states"),
    "an optimizer without its parts": with_value([{}], "optimizer_states"),
    "a schedule without its parts": with_value([3], "lr_schedulers"),
    "no progress": without("loops", "fit_loop", "epoch_progress"),
    "half a progress": without("loops", "fit_loop", "epoch_progress", "current"),
    "no version": with_value("none", "pytorch-lightning_version"),
    "random numbers of another kind": with_value([{"torch": torch.zeros(3)}], "lnsub", "random"),
    "random numbers cut short": with_value([{"torch": torch.zeros(3, dtype=torch.uint8)}], "lnsub", "random"),
    "random numbers of nobody": with_value([], "lnsub", "random"),
    "no position": with_value({}, "lnsub", "position"),
    "a start with nothing": with_value({}, "lnsub", "begun_with"),
    "rows of text": with_value("many", "lnsub", "rows"),
    "callbacks of other runs": with_value({}, "callbacks"),
    "rounds of text": with_value("two", "callbacks", "IMPCallback", "round"),
    "a callback without its parts": with_value({"IMPCallback": {}}, "callbacks"),
}


@pytest.mark.parametrize("how", UNUSABLE)
def test_a_whole_checkpoint_with_unusable_contents_is_one_line(how, world, tmp_path, capsys):
    shutil.copytree(world / "cut", tmp_path / "runs")
    folder = RunFolder(tmp_path / "runs" / RUN)
    for path in (folder.checkpoint, folder.previous_checkpoint):
        changed(path, path, UNUSABLE[how])
    assert str(folder.checkpoint) in said(capsys, fit(world, tmp_path / "runs"))


def test_a_folder_whose_name_begins_like_a_url_is_no_url(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world / "cut", tmp_path / "https-runs")
    assert main(fit(world, "https-runs")) == 0
    assert made(tmp_path / "https-runs") == made(world / "whole")


# Single bits ----------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_found_or_changes_nothing(world, tmp_path):
    shutil.copytree(world / "cut", tmp_path / "runs")
    folder = RunFolder(tmp_path / "runs" / RUN)
    parts, directory = of_checkpoint(folder.checkpoint, folder.previous_checkpoint, FLIPS, random.Random(11))
    assert parts.found + parts.harmless == FLIPS
    assert parts.found > FLIPS // 2
    assert directory.found > 40
