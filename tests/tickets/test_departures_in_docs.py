"""The commands of docs/tickets.md that take departures apart run, one after the other, at toy size."""

import json
import re
import shlex
from pathlib import Path

import datasets
import numpy as np
import pytest

from lnsub.cli.main import main
from lnsub.models.inherited import Theta0
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import read, read_tree
from lnsub.tickets.ticket import Ticket
from tests.support.paper_world import make_world
from tests.support.ticket_factory import kept_set, ticket

PAGE = (Path(__file__).parents[2] / "docs" / "tickets.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Departures taken apart\n")[2].partition("\n## ")[0].replace("\\\n", " ")
# The embedded model has four layers of mBERT's twelve.
COMMANDS = [line.replace("72matrices", "24matrices") for line in re.findall(r"^    (lnsub .*)$", SECTION, re.M)]


def save_ticket(theta_0: Theta0, language: str, seed: int) -> None:
    """A ticket as fine-tuning finds it: the largest half of weights that have moved, by a common part and its own."""
    own, common = np.random.default_rng(seed), np.random.default_rng(0)
    moved = {
        name: np.abs(w + 0.1 * w.std() * (common.standard_normal(w.shape) + own.standard_normal(w.shape)))
        for name, w in theta_0.items()
    }
    half = np.median(np.concatenate([weights.ravel() for weights in moved.values()]))
    facts = {"task": "wikiann", "language": language, "seed": 57, "sparsity": 0.5}
    base = {"base_model": theta_0.base_model, "base_fingerprint": theta_0.fingerprint}
    made = ticket({name: weights > half for name, weights in moved.items()}, **facts, **base)
    made.save(RunFolder.of("runs", "wikiann", language, 57).ticket(0.5))


@pytest.mark.slow
def test_the_whole_chain_runs_and_its_parts_are_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    make_world(tmp_path)
    theta_0 = Theta0.load("google-bert/bert-base-multilingual-cased")
    for seed, language in enumerate(("fr", "zh"), start=1):
        save_ticket(theta_0, language, seed)
    assert len(COMMANDS) == 6
    for line in COMMANDS:
        assert main(shlex.split(line)[1:]) == 0, line
    (mask,) = Path("masks").iterdir()
    base = kept_set(Ticket.load(mask).bits())
    parts = {path.stem: Ticket.load(path) for path in sorted(Path("parts").iterdir())}
    sizes = set()
    for name, part in parts.items():
        kept = kept_set(part.bits())
        sizes.add((len(kept - base), len(base - kept)))
        assert part.provenance.score == f"departures:{name}"
        assert json.loads(part.provenance.sources)["drawn"] == len(kept - base)
    ((small, large),) = sizes
    assert small == large > 0
    fits = [r for r in read_tree(Path("runs/parts")) if r.kind == "transfer" and r.metric == "f1"]
    assert {(r.score, r.target) for r in fits if r.split == "validation"} == {
        (score, target)
        for score in ("magnitude_init", *(f"departures:{name}" for name in parts))
        for target in ("fr", "zh")
    }
    ablated = [r for r in read(Path("runs/parts-ablated/results.jsonl")) if r.removed == "departure"]
    assert {(r.score, r.source, r.target, r.units) for r in ablated} == {
        (f"departures:{name}", "fr", target, small) for name in parts for target in ("fr", "zh")
    }
