"""The model card: the ticket, sparsities, what was measured."""

from pathlib import Path

import numpy as np
import yaml
from torch import Tensor
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
)

from lnsub.cli.commands import run
from lnsub.export.folder import TICKET_FILE
from lnsub.models.inherited import Theta0
from lnsub.models.prunable import prunable
from lnsub.runs.records import Record, append
from lnsub.tickets.ticket import Ticket
from tests.support.exports import SEED, WORDS, saved, trained
from tests.support.models import save_checkpoint
from tests.support.ticket_factory import ticket


def test_the_card_tells_the_ticket_and_the_sparsity_of_the_weights(theta_0: Theta0, tmp_path: Path) -> None:
    path, folder = saved(tmp_path, theta_0, language="no"), tmp_path / "out"
    run("export", [str(path), "--output", str(folder)])
    card = (folder / "README.md").read_text()
    _, head, text = card.split("---\n", 2)
    facts = yaml.safe_load(head)
    assert facts["library_name"] == "transformers"
    assert facts["pipeline_tag"] == "text-classification"
    assert facts["language"] == ["no"]  # not false
    assert "base_model" not in facts  # a folder means nothing elsewhere
    assert str(tmp_path.parent) not in card
    found = Ticket.load(path)
    for field, value in (("task", "xnli"), ("seed", "3"), ("base_model", "tiny-bert"), ("checksum", found.checksum)):
        assert f"| {field} | `{value}` |" in text
    assert 'AutoModelForSequenceClassification.from_pretrained("out")' in text
    assert "they save no memory and no time" in text
    loaded = prunable(AutoModelForSequenceClassification.from_pretrained(folder))
    zeros = {name: linear.parameter == 0 for name, linear in loaded.items()}
    pruned, total = (sum(f(z) for z in zeros.values()) for f in (lambda z: int(z.sum()), Tensor.numel))
    assert f"of its {total:,} prunable weights" in text
    assert f"{pruned:,} are pruned, a sparsity of {pruned / total:.4f}." in text
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    table = rows[rows.index(next(row for row in rows if row[0] == "layer")) :]
    assert table[0] == ["layer", "query", "key", "value", "attention output", "intermediate", "output", "pooler", "all"]
    assert [row[0] for row in table[2:]] == ["0", "1", "pooler", "all"]
    query = zeros["encoder.layer.1.attention.self.query.weight"]
    assert table[3][1] == f"{query.float().mean():.4f}"
    assert table[-1][-1] == f"{pruned / total:.4f}"
    assert "kept weights are 0 as well" not in text
    assert Ticket.load(folder / TICKET_FILE).checksum == found.checksum


def test_the_card_tells_what_was_measured_and_zeros_that_are_kept(tmp_path: Path, base: Path) -> None:
    zeroed = save_checkpoint(tmp_path / "zeroed", WORDS)
    model = AutoModelForMaskedLM.from_pretrained(base)
    model.bert.encoder.layer[0].attention.self.query.weight.data[0, :3] = 0
    model.save_pretrained(zeroed)
    theta_0 = Theta0.load(str(zeroed))
    masks = {name: np.ones(theta_0[name].shape, bool) for name in theta_0}
    masks["encoder.layer.1.output.dense.weight"][:] = False
    facts = {"base_model": str(zeroed), "base_fingerprint": theta_0.fingerprint, "task": "mlm", "seed": SEED}
    path = ticket(masks, **facts).save(tmp_path / "t")
    run("export", [str(path), "--output", str(tmp_path / "out")])
    assert (
        "- 3 kept weights are 0 as well, so zeros do not show what is pruned"
        in (tmp_path / "out/README.md").read_text()
    )
    checkpoint, _ = trained(tmp_path / "run", path, theta_0, "mlm")
    facts = {"kind": "transfer", "task": "mlm", "model": "m", "source": "fr", "target": "ur", "sparsity": 0.5}
    facts |= {"score": "magnitude", "init": "pretrained", "seed": 3, "round": None, "split": "validation"}
    facts |= {"metric": "accuracy", "value": 0.25, "n": 1200, "wall_s": 1.0, "ticket": Ticket.load(path).checksum}
    record = Record(**facts)
    append(tmp_path / "run" / "results.jsonl", [record])
    run("export", [str(path), "--output", str(tmp_path / "tuned"), "--checkpoint", str(checkpoint)])
    assert "On ur, validation: accuracy 0.2500 (n = 1,200)." in (tmp_path / "tuned" / "README.md").read_text()
