"""Fixtures shared by all tests: nothing here reaches the network, W&B's site or the user's caches."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[1]

# So that programs started by tests find the callbacks in tests/support: lnsub itself does not look where it is started.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and a real model, where there are any; the test is skipped elsewhere."""
    path = Path(os.environ.get("LNSUB_SHARED", ROOT.parent / "shared"))
    if not (path / "data").is_dir() or not (path / "models").is_dir():
        pytest.skip(f"needs real data in {path}")
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own datasets cache; the folder with tokenised tables in it."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    return tmp_path / "datasets-cache" / "lnsub"


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BERT checkpoint without any head, with token types; its tokenizer is a WordPiece."""
    from tests.support.data_makers import make_bert

    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def mt5(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An mT5 checkpoint; its tokenizer cuts label words into pieces and ends with ``</s>``."""
    from tests.support.data_makers import make_mt5

    return make_mt5(tmp_path_factory.mktemp("mt5"))


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Qwen3 checkpoint with its output layer, and a tokenizer over bytes that puts nothing around a text."""
    from tests.support.decoders import make_decoder

    return make_decoder(tmp_path_factory.mktemp("decoder"), "qwen3")


@pytest.fixture
def data(tmp_path: Path, cache: Path) -> Path:
    """A data folder with a few tagged sentences in two languages."""
    from tests.support.data_makers import WORDS

    for language in ("en", "fr"):
        for split, rows in (("train", 24), ("validation", 8), ("test", 8)):
            path = tmp_path / "ner" / language / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w") as file:
                for i in range(rows):
                    tokens = [WORDS[(i + k) % 13] for k in range(2 + i % 4)] + ["Paris"]
                    tags = ["O"] * (len(tokens) - 1) + ["B-LOC"]
                    file.write(json.dumps({"tokens": tokens, "ner_tags": tags}) + "\n")
    return tmp_path / "ner"


LAUNCHER = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")


@pytest.fixture(autouse=True)
def no_launcher() -> Iterator[None]:
    """Takes away what Lightning tells the processes of a run, and leaves in the environment of a test that was one."""
    for name in LAUNCHER:
        os.environ.pop(name, None)
    yield
    for name in LAUNCHER:
        os.environ.pop(name, None)


@pytest.fixture
def wandb_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """W&B's client as on a new machine: offline, without a key, and with nothing to send to.

    A test sets further variables on the monkeypatch that it gets; the client reads them on first use.
    """
    import wandb

    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    yield monkeypatch
    wandb.finish()
    wandb.teardown()
