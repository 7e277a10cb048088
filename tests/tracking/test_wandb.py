"""W&B through its real client: rows once each over kills and restarts, lineage, and failures that stop nothing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import wandb

from lnsub.common.errors import UserError
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import read
from lnsub.tickets.ticket import Ticket
from lnsub.tracking import logger as tracked
from lnsub.tracking import settings
from lnsub.tracking.history import GLOBAL_STEP, Segment, drop_empty, past, segments
from lnsub.tracking.logger import RunWandbLogger, axis_of, wandb_logger
from lnsub.tracking.settings import RunCard, WandbSettings
from lnsub.tracking.tables import log_tables
from tests.support.data_makers import WORDS
from tests.support.wandb_files import Inspected, inspect
from tests.support.wandb_server import WandbServer, digest_of

CARD = RunCard("xnli/fr/seed57", "imp", "xnli", ("xnli", "fr"), {"task": "xnli", "language": "fr"})


def places(folder: Path) -> dict[str, str]:
    """Where the client keeps what it keeps outside of a run: in the test's folder."""
    names = ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR")
    return {**{name: str(folder / "wandb-home") for name in names}, "NETRC": str(folder / "no-netrc")}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A client that has read none of the machine's settings; it reads the environment on first use."""
    for name, value in places(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    yield monkeypatch
    wandb.teardown()


def started(folder: Path) -> RunWandbLogger:
    return wandb_logger(CARD, WandbSettings(project="study", tags=["pilot"]), RunFolder(folder), {"model": {"seed": 1}})


def in_child(action: Callable[[], None]) -> int:
    """Does something in a process of its own, as a run that is killed is one; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def processes(root: int) -> list[int]:
    """A process and all below it."""
    pids, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        pids.append(pid)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    return pids


def kill(pids: list[int]) -> None:
    """Kills processes at once, as the end of a SLURM job does; one that kills itself comes last."""
    for pid in reversed(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def row(step: int, **metrics: float) -> dict[str, float]:
    return {**metrics, GLOBAL_STEP: step}


# What is known after a crash ----------------------------------------------------------------------------------------


def segment(*steps: int, first: int = 0, offline: bool = False) -> Segment:
    return Segment(offline, [{"_step": first + i, **row(step, loss=0.5)} for i, step in enumerate(steps)], False)


def test_offline_every_row_on_the_disk_is_known():
    found = past([segment(0, 1, offline=True), segment(2, offline=True)], None)
    assert {step for step, _ in found.known} == {0, 1, 2}
    assert found.lost == []


def test_online_rows_that_the_server_lacks_are_lost_and_those_it_has_are_known():
    found = past([segment(0, 1, 2)], arrived=2)
    assert {step for step, _ in found.known} == {0, 1}
    assert found.lost == [row(2, loss=0.5)]


def test_a_later_start_tells_how_far_the_server_had_come_before_it():
    # Of steps 0, 1, 2 the server got two; the next start went on behind them with step 1 again, and all arrived.
    found = past([segment(0, 1, 2), segment(1, 2, first=2)], arrived=4)
    assert {step for step, _ in found.known} == {0, 1, 2}
    assert found.lost == []


def test_offline_rows_are_known_to_a_run_that_goes_on_online():
    assert past([segment(0, 1, offline=True)], arrived=0).lost == []


# Rows ---------------------------------------------------------------------------------------------------------------


def test_each_metric_has_exactly_one_axis():
    axes = {key: axis_of(key) for key in ("imp/val_f1", "imp/round", "curves/s0.50_train_loss", "train_loss", "val_f1")}
    assert axes == {
        "imp/val_f1": "imp/sparsity",
        "imp/round": "imp/sparsity",
        "curves/s0.50_train_loss": "imp/step",
        "train_loss": GLOBAL_STEP,
        "val_f1": GLOBAL_STEP,
    }
    assert axis_of("imp/sparsity") is None
    assert axis_of("imp/step") is None


def test_the_reader_agrees_with_the_official_one_also_on_a_file_that_was_cut_off(client, tmp_path):
    client.setenv("WANDB_MODE", "offline")
    logger = started(tmp_path)
    for step in range(400):  # over several blocks of 32 kB
        logger.log_metrics({"train_loss": 1 / (1 + step), "name": "x" * 100}, step=step)
    logger.finish()
    path = next(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert path.stat().st_size > 2 * 32768
    whole = inspect(path)
    (found,) = segments(tmp_path, whole.id)
    assert found.finished
    assert found.offline
    assert found.rows == whole.rows
    path.write_bytes(path.read_bytes()[:50_000])
    (cut,) = segments(tmp_path, whole.id)
    assert not cut.finished
    assert 0 < len(cut.rows) < 400
    assert cut.rows == whole.rows[: len(cut.rows)]


def test_offline_a_killed_run_that_goes_on_has_every_row_once(client, tmp_path):
    client.setenv("WANDB_MODE", "offline")
    client.setattr(tracked, "FLUSH_S", 0.2)
    checkpoint = tmp_path / "checkpoint.json"

    def first() -> None:
        logger = started(tmp_path)
        logger.begin_round(0.5, 0)
        for step in range(4):
            logger.log_metrics({"train_loss": step / 10}, step=step)
        until(lambda: segments(tmp_path, run_id(tmp_path))[0].rows)  # on the disk
        for step in (4, 5):
            logger.log_metrics({"train_loss": step / 10}, step=step)
            if step == 4:
                checkpoint.write_text(json.dumps(logger.recent_rows()))
        kill(processes(os.getpid()))

    assert in_child(first) == -signal.SIGKILL
    logger = started(tmp_path)
    logger.resend(json.loads(checkpoint.read_text()), until=4)
    logger.begin_round(0.5, 0)
    for step in (5, 6):  # the steps since the checkpoint are trained again
        logger.log_metrics({"train_loss": step / 10}, step=step)
    logger.finish()
    files = [inspect(path) for path in sorted(tmp_path.glob("wandb/offline-run-*"))]
    assert [file.id for file in files] == [run_id(tmp_path)] * 2
    values = [value for file in files for value in file.values()]
    expected = [(s, key, s / 10) for s in range(7) for key in ("train_loss", "curves/s0.50_train_loss")]
    assert sorted(values) == sorted(expected)
    assert files[1].axes["curves/s0.50_train_loss"] == "imp/step"
    assert files[1].config["task"] == "xnli"
    assert set(files[1].tags) == {"xnli", "fr", "pilot"}


def test_a_run_killed_after_its_last_round_gets_the_rounds_that_were_lost_and_only_once(client, tmp_path):
    client.setenv("WANDB_MODE", "offline")
    client.setattr(tracked, "FLUSH_S", 0.2)
    rounds = [{"imp/round": r, "imp/sparsity": r / 2, "imp/val_f1": 0.9 - r / 10} for r in (0, 1)]

    def first() -> None:
        started(tmp_path).log_metrics(rounds[0], step=8)
        until(lambda: segments(tmp_path, run_id(tmp_path))[0].rows)
        kill(processes(os.getpid()))

    assert in_child(first) == -signal.SIGKILL
    for _ in range(2):  # a run that is done, started twice more
        logger = started(tmp_path)
        logger.complete(rounds)
        logger.finish()
        wandb.teardown()
        until(lambda: segments(tmp_path, run_id(tmp_path))[-1].finished)  # its service writes on for a moment
    files = [inspect(path) for path in sorted(tmp_path.glob("wandb/offline-run-*"))]
    assert len(files) == 2
    logged = [{key: row[key] for key in rounds[0]} for file in files for row in file.rows]
    assert logged == rounds


def test_starts_within_one_second_are_read_too_and_in_their_order(client, tmp_path):
    client.setenv("WANDB_MODE", "offline")
    started(tmp_path)
    now, name = datetime.now(), run_id(tmp_path)
    for second in range(60):  # whenever it starts, the folder's name is taken, as if by a start of the same second
        taken = f"offline-run-{now + timedelta(seconds=second):%Y%m%d_%H%M%S}-{name}"
        (tmp_path / "wandb" / taken).mkdir(parents=True)
    for step in range(3):
        logger = started(tmp_path)
        logger.log_metrics({"train_loss": 0.5}, step=step)
        logger.finish()
        wandb.teardown()
        until(lambda number=step: len(found := segments(tmp_path, name)) == number + 1 and found[-1].finished)
    assert all(path.parent.name.rpartition("-")[2] in "123" for path in tmp_path.rglob(f"run-{name}.wandb"))
    assert [[row[GLOBAL_STEP] for row in segment.rows] for segment in segments(tmp_path, name)] == [[0], [1], [2]]


@pytest.mark.slow
def test_online_a_killed_run_goes_on_under_its_id_and_the_server_has_every_row_once(client, tmp_path):
    client.setattr(tracked, "FLUSH_S", 0.2)
    with WandbServer() as server:
        for name, value in server.environment().items():
            client.setenv(name, value)

        def log(*steps: int) -> RunWandbLogger:
            logger = started(tmp_path)
            for step in steps:
                logger.log_metrics({"train_loss": step / 10}, step=step)
            return logger

        def killed_while_the_network_is_down() -> None:
            log(1, 2, 3)
            until(lambda: len(segments(tmp_path, run_id(tmp_path))[-1].rows) == 3)
            kill(processes(os.getpid()))

        assert in_child(lambda: log(0).finish()) == 0
        server.keep_from_streams = True
        assert in_child(killed_while_the_network_is_down) == -signal.SIGKILL
        (run,) = server.runs.values()
        assert run.column(GLOBAL_STEP) == [0]
        server.keep_from_streams = False

        logger = started(tmp_path)
        logger.resend([], until=1)  # the checkpoint is of step 1
        for step in (2, 3, 4):
            logger.log_metrics({"train_loss": step / 10}, step=step)
        logger.finish()
        assert list(server.runs) == [run_id(tmp_path)]
        assert run.column(GLOBAL_STEP) == [0, 1, 2, 3, 4]
        assert run.column("train_loss") == [0.0, 0.1, 0.2, 0.3, 0.4]
        assert (run.group, run.job_type, run.name) == ("xnli", "imp", "xnli/fr/seed57")
        assert run.config["language"]["value"] == "fr"
        assert run.exit_code == 0


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Waits for what another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def run_id(folder: Path) -> str:
    return (folder / "wandb" / "run-id").read_text()


# What goes wrong ----------------------------------------------------------------------------------------------------


def test_a_service_that_dies_stops_no_run(client, tmp_path):
    client.setenv("WANDB_MODE", "offline")

    def train() -> None:
        logger = started(tmp_path)
        logger.log_metrics({"train_loss": 0.5}, step=0)
        kill(processes(os.getpid())[1:])
        for step in range(1, 5):
            logger.log_metrics({"train_loss": 0.5}, step=step)
            time.sleep(0.1)
        logger.log_used(lambda: wandb.Artifact("a", type="b"))
        logger.finish()
        assert [r[GLOBAL_STEP] for r in logger.recent_rows()] == [0, 1, 2, 3, 4]  # for the checkpoint

    assert in_child(train) == 0


def test_a_server_that_cannot_be_reached_leaves_the_run_offline(client, tmp_path, caplog):
    for name, value in {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}.items():
        client.setenv(name, value)
    client.setenv("WANDB_MODE", "online")
    client.setenv("WANDB_INIT_TIMEOUT", "2")
    logger = started(tmp_path)
    logger.log_metrics({"train_loss": 0.5}, step=3)
    logger.finish()
    assert "logged offline" in caplog.text
    until(lambda: segments(tmp_path, run_id(tmp_path))[-1].finished)  # its service writes on for a moment
    found = segments(tmp_path, run_id(tmp_path))[-1]  # before it lies what was left of the attempt
    assert found.offline
    assert [(r[GLOBAL_STEP], r["train_loss"]) for r in found.rows] == [(3, 0.5)]


@pytest.mark.parametrize("mode", [None, "online"])
def test_without_a_key_the_mode_is_offline_and_one_line_says_so(mode, client, caplog):
    caplog.set_level("INFO")
    client.delenv("WANDB_MODE", raising=False)
    if mode:
        client.setenv("WANDB_MODE", mode)
    assert settings.mode() == "offline"
    assert caplog.text.count("No W&B API key: logging offline") == 1


def test_what_a_start_left_that_was_killed_before_it_wrote_is_removed(tmp_path):
    for start, content in (("20260101_000000", b""), ("20260101_000001", b":W&B\xe1\xbe\x00")):
        path = tmp_path / "wandb" / f"offline-run-{start}-abc" / "run-abc.wandb"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    drop_empty(tmp_path, "abc")
    assert not list(tmp_path.rglob("offline-run-*"))


def test_a_mode_that_there_is_none_of_is_refused(client):
    client.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UserError, match="WANDB_MODE is 'ofline'"):
        settings.mode()


def test_disabled_leaves_no_files(client, tmp_path):
    client.setenv("WANDB_MODE", "disabled")
    logger = started(tmp_path)
    logger.log_metrics({"train_loss": 0.5}, step=3)
    logger.finish()
    assert not list(tmp_path.rglob("*.wandb"))


# A report's tables --------------------------------------------------------------------------------------------------


def test_a_reports_tables_are_logged_under_their_names(client, tmp_path):
    client.setenv("WANDB_MODE", "offline")
    table = pd.DataFrame({"source": ["fr", "ur"], "value": [0.5, None], "note": [None, "few"]})
    log_tables({"transfer": table}, "team/study", tmp_path)
    path = next(tmp_path.glob("wandb/offline-run-*"))
    logged = json.loads(next(path.rglob("*.table.json")).read_text())
    assert logged == {"columns": ["source", "value", "note"], "data": [["fr", 0.5, None], ["ur", None, "few"]]}
    run = inspect(path)
    assert (run.project, run.job_type, run.exit_code) == ("study", "report", 0)
    assert any(key.startswith("transfer") for row in run.rows for key in row)


# Whole runs ---------------------------------------------------------------------------------------------------------


def command(base: str, folder: Path, **settings: object) -> list[str]:
    for split in ("train", "validation"):
        path = folder / "ner" / "en" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"tokens": [WORDS[i % 9], "Paris"], "ner_tags": ["O", "B-LOC"]} for i in range(32)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "data": "lnsub.WikiANN",
        "data.init_args.language": "en",
        "data.init_args.dataset": folder / "ner",
        "data.init_args.batch_size": 4,
        "data.init_args.max_length": 32,
        "model.base_model": base,
        "model.learning_rate": 5e-3,
        "trainer.accelerator": "cpu",
        "trainer.devices": 2,
        "trainer.strategy": "ddp",
        "trainer.max_epochs": 4,
        "trainer.log_every_n_steps": 1,
        "trainer.enable_progress_bar": "false",
        "trainer.callbacks": "lnsub.IMPCallback",
        "trainer.callbacks.sparsities": "[0.3,0.6,0.8]",
        "wandb.project": "study",
        "output": folder / "runs",
        **settings,
    }
    return [sys.executable, "-m", "lnsub", "fit", *(f"--{key}={value}" for key, value in values.items())]


@pytest.mark.slow
def test_a_ddp_run_killed_and_gone_on_with_offline_is_whole_on_the_server_after_sync(bert, tmp_path):
    env = {**os.environ, **places(tmp_path), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    env |= {"HF_DATASETS_CACHE": str(tmp_path / "cache")}
    folder = RunFolder(tmp_path / "runs" / "wikiann" / "en" / "seed57")
    fit = command(bert, tmp_path)
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(fit, env=env, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    until(lambda: running.poll() is not None or folder.checkpoint.exists(), 400)
    kill(processes(running.pid))
    assert running.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert len(folder.records("imp")) < 12
    done = subprocess.run(fit, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr

    dirs = sorted(folder.path.glob("wandb/offline-run-*"))
    # One a start, as only the first process logs; but none of a start that was killed before W&B's first write.
    assert len(dirs) in {1, 2}
    files = [inspect(path) for path in dirs]
    for file in files:
        assert (file.id, file.project) == (run_id(folder.path), "study")
        assert (file.group, file.job_type) == ("wikiann", "imp")
        assert file.name == "wikiann/en/seed57"
        assert set(file.tags) == {"wikiann", "en", "seed57"}
        assert file.config["model"]["base_model"] == bert
        assert {k: file.config[k] for k in ("task", "language", "seed")} == {
            "task": "wikiann",
            "language": "en",
            "seed": 57,
        }
    assert files[-1].axes["imp/val_f1"] == "imp/sparsity"
    assert files[-1].axes["train_loss"] == GLOBAL_STEP
    check_rows(files, folder)
    check_artifacts(files, folder)

    with WandbServer() as server:
        sync = [sys.executable, "-m", "wandb", "sync", *map(str, dirs)]
        synced = subprocess.run(
            sync,
            env={**env, **server.environment()},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            cwd=tmp_path,  # where it leaves its log
        )
        assert synced.returncode == 0, synced.stderr
        (run,) = server.runs.values()
        assert run.id == run_id(folder.path)
        assert run.exit_code == 0
        sent = [row for file in files for row in file.rows]
        assert [{k: v for k, v in row.items() if k[0] != "_"} for row in run.rows] == [
            {k: v for k, v in row.items() if k[0] != "_"} for row in sent
        ]
        assert run.column("_step") == sorted(set(run.column("_step")))
        tickets = sorted(label for label in set(run.made))
        assert len(tickets) == 3
        assert all(label.startswith("wikiann-en-seed57-s0.") and label.endswith(":v0") for label in tickets)
        assert len(set(run.used)) == 1
        stored = {a.name: a for a in server.artifacts.values()}
        for level in (0.3, 0.6, 0.8):
            ticket = Ticket.load(folder.ticket(level))
            artifact = stored[f"wikiann-en-seed57-s{level:.2f}-{ticket.checksum[:8]}"]
            assert artifact.committed
            content = folder.ticket(level).read_bytes()
            assert server.files[f"/artifacts/{artifact.id}/ticket.safetensors"] == content
        assert not server.unknown


def check_rows(files: list[Inspected], folder: RunFolder) -> None:
    """Every step's loss and every round's metrics once, over all files together."""
    values = Counter((step, key) for file in files for step, key, _ in file.values())
    assert max(values.values()) == 1
    losses = sorted(step for step, key in values if key == "train_loss")
    assert losses == list(range(4 * 4 * 4))  # rounds, epochs, steps
    rounds = [row for file in files for row in file.rows if "imp/round" in row]
    recorded = {(r.round, f"imp/val_{r.metric}"): r.value for r in read(folder.results)}
    logged = {
        (row["imp/round"], key): value for row in rounds for key, value in row.items() if key.startswith("imp/val_")
    }
    assert logged == pytest.approx(recorded)
    assert [row["imp/sparsity"] for row in rounds] == [0.0, 0.3, 0.6, 0.8]


def check_artifacts(files: list[Inspected], folder: RunFolder) -> None:
    made = {name: value for file in files for name, value in file.made.items()}
    assert len(made) == 3
    for value in made.values():
        (entry,) = value["manifest"]["contents"]
        metadata = json.loads(value["metadata"])
        path = folder.ticket(float(metadata["sparsity"]))
        assert entry["digest"] == digest_of(path.read_bytes())
        assert metadata["checksum"] == Ticket.load(path).checksum
    used = {name for file in files for name in file.used}
    fingerprint = Ticket.load(folder.ticket(0.3)).provenance.base_fingerprint
    assert len(used) == 1
    assert used.pop().endswith(f"-{fingerprint[:8]}")
