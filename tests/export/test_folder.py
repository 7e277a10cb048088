import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.export.folder import TICKET_FILE
from lnsub.models.inherited import Theta0
from lnsub.models.pretrained import load_tokenizer
from lnsub.models.subnet import prunable
from lnsub.runs.records import Record, append
from lnsub.tasks import tasks
from lnsub.tickets.combining import combine
from lnsub.tickets.ticket import Ticket
from lnsub.training.module import SubnetModule
from tests.support.models import save_checkpoint
from tests.support.ticket_factory import ticket

WORDS = ["the", "cat", "sat", "on", "a", "mat"]
SEED = 3
AUTO = {
    "xnli": AutoModelForSequenceClassification,
    "wikiann": AutoModelForTokenClassification,
    "mlm": AutoModelForMaskedLM,
}
POOLER = "pooler.dense.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("models") / "tiny-bert", WORDS)


@pytest.fixture(scope="module")
def theta_0(base: Path) -> Theta0:
    return Theta0.load(str(base))


def masks_of(theta_0: Theta0, task: str = "xnli", density: float = 0.4) -> dict[str, np.ndarray]:
    """Random masks of what a task's model has: classifiers of pairs have a pooler, which the checkpoint lacks."""
    rng = np.random.default_rng(len(task))
    shapes = {name: theta_0[name].shape for name in theta_0} | ({POOLER: (16, 16)} if task == "xnli" else {})
    return {name: rng.random(shape) < density for name, shape in shapes.items()}


def saved(folder: Path, theta_0: Theta0, task: str = "xnli", density: float = 0.4, **changes: Any) -> Path:
    facts = {"base_model": theta_0.base_model, "base_fingerprint": theta_0.fingerprint, "task": task, "seed": SEED}
    made = ticket(masks_of(theta_0, task, density), **(facts | {"sparsity": 1 - density} | changes))
    return made.save(folder / f"{task}-{density}.ticket")


def inputs(vocabulary: int = 11) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(5)
    return {
        "input_ids": torch.randint(0, vocabulary, (4, 9), generator=rng),
        "attention_mask": torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] * 7 + [0] * 2, [1] * 9]),
    }


@torch.no_grad()
def logits(model: torch.nn.Module) -> Tensor:
    return model.eval()(**inputs()).logits


def trained(folder: Path, ticket_file: Path | None, theta_0: Theta0, task: str, steps: int = 2) -> tuple[Path, Tensor]:
    """Fine-tunes under a ticket with the real trainer; its checkpoint, and the logits of what it trained."""
    module = SubnetModule(
        tasks()[task](theta_0.base_model), theta_0.base_model, ticket=ticket_file and str(ticket_file), seed=SEED
    )
    labels = {"xnli": torch.arange(4) % 3, "wikiann": torch.arange(36).view(4, 9) % 7, "mlm": torch.arange(4)}[task]
    batch = inputs() | {"labels": labels} | ({"positions": torch.arange(4)} if task == "mlm" else {})
    trainer = Trainer(
        default_root_dir=folder,
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader([batch] * 2, batch_size=None))
    path = folder / "checkpoints" / "last.ckpt"
    trainer.save_checkpoint(path)
    return path, logits(module.model)


def refused(tmp_path: Path, *args: str, match: str) -> None:
    """A refusal is one sentence, and leaves nothing behind."""
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match=match):
        run("export", list(args))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# The weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", list(AUTO))
def test_rewound_weights_are_theta_0_under_the_mask(
    task: str, theta_0: Theta0, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = saved(tmp_path, theta_0, task), tmp_path / "out"
    assert run("export", [str(path), "--output", str(folder)]) == 0
    assert capsys.readouterr().out.startswith(f"{folder}: rewound weights under {path}")
    # The same model made by hand: seeded as the ticket's run was, each matrix multiplied by its mask.
    torch.manual_seed(SEED)
    expected, _ = tasks()[task](theta_0.base_model).build(theta_0.base_model)
    masks = masks_of(theta_0, task)
    for name, linear in prunable(expected).items():
        linear.weight.data *= torch.from_numpy(masks[name])
    loaded, info = AUTO[task].from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(logits(loaded), logits(expected))
    for name, linear in prunable(loaded).items():
        np.testing.assert_array_equal(linear.weight.detach() != 0, masks[name])
        if name != POOLER:
            np.testing.assert_array_equal(linear.weight.detach(), theta_0[name] * masks[name])


@pytest.mark.parametrize("task", list(AUTO))
def test_fine_tuned_weights_predict_as_the_trained_model_to_the_last_bit(
    task: str, theta_0: Theta0, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = saved(tmp_path, theta_0, task), tmp_path / "out"
    checkpoint, expected = trained(tmp_path / "run", path, theta_0, task)
    assert run("export", [str(path), "--output", str(folder), "--checkpoint", str(checkpoint)]) == 0
    assert capsys.readouterr().out.startswith(f"{folder}: fine-tuned weights")
    loaded, info = AUTO[task].from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(logits(loaded), expected)
    masks = masks_of(theta_0, task)
    changed = 0
    for name, linear in prunable(loaded).items():
        weights = linear.weight.detach().numpy()
        assert not weights[~masks[name]].any()
        changed += 0 if name == POOLER else np.count_nonzero(weights != theta_0[name] * masks[name])
    assert changed > 0
    assert not [name for name in load_file(folder / "model.safetensors") if "mask" in name or name.startswith("model.")]
    assert "those of `last.ckpt` at step 2." in (folder / "README.md").read_text()


def test_the_head_of_another_task_and_matrices_that_only_one_has(theta_0: Theta0, base: Path, tmp_path: Path) -> None:
    tagger = saved(tmp_path, theta_0, "wikiann")
    assert run("export", [str(tagger), "--task", "xnli", "--output", str(tmp_path / "a")]) == 0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "a")
    masks = masks_of(theta_0, "wikiann")
    kept = sum(int(m.sum()) for m in masks.values()) + 256
    assert sum(int((linear.weight != 0).sum()) for linear in prunable(model).values()) == kept
    total = sum(m.size for m in masks.values()) + 256
    card = (tmp_path / "a" / "README.md").read_text()
    assert f"a sparsity of {1 - kept / total:.4f}. {POOLER} is not in the ticket, and dense." in card
    classifier = saved(tmp_path, theta_0, "xnli")
    assert run("export", [str(classifier), "--task", "wikiann", "--output", str(tmp_path / "b")]) == 0
    assert f"The ticket's {POOLER} is not in this model." in (tmp_path / "b" / "README.md").read_text()


def test_a_copy_of_the_base_model_will_do(theta_0: Theta0, base: Path, tmp_path: Path) -> None:
    lost = saved(tmp_path, theta_0, base_model="./lost")
    args = [str(lost), "--output", str(tmp_path / "out")]
    refused(tmp_path, *args, match=r"no folder './lost' .* say where it is with --base-model\.$")
    assert run("export", [*args, "--base-model", str(base)]) == 0


def test_the_tokenizer_comes_along_without_the_truncation_of_its_last_use(
    theta_0: Theta0, base: Path, tmp_path: Path
) -> None:
    load_tokenizer(theta_0.base_model)("the cat sat on a mat", truncation=True, max_length=4, padding="max_length")
    run("export", [str(saved(tmp_path, theta_0)), "--output", str(tmp_path / "out")])
    written = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert (written["truncation"], written["padding"]) == (None, None)
    text = ["the cat sat on a mat", "a dog"]
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "out")(text)["input_ids"]
        == (AutoTokenizer.from_pretrained(base)(text)["input_ids"])
    )


# The card -------------------------------------------------------------------------------------------------------------


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
    zeros = {name: linear.weight == 0 for name, linear in loaded.items()}
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
        "- 3 kept weights are 0 as well, so zeros do not tell what is pruned"
        in (tmp_path / "out/README.md").read_text()
    )
    checkpoint, _ = trained(tmp_path / "run", path, theta_0, "mlm")
    facts = {"kind": "transfer", "task": "mlm", "model": "m", "source": "fr", "target": "ur", "sparsity": 0.5}
    facts |= {"score": "magnitude", "init": "pretrained", "seed": 3, "round": None, "split": "validation"}
    facts |= {"metric": "accuracy", "value": 0.25, "n": 1200, "wall_s": 1.0, "ticket": Ticket.load(path).checksum}
    record = Record(**facts)
    append(tmp_path / "run" / "results.jsonl", [record])
    run("export", [str(path), "--output", str(tmp_path / "tuned"), "--checkpoint", str(checkpoint)])
    assert "On ur, validation: accuracy 0.2500 (1,200 examples)." in (tmp_path / "tuned" / "README.md").read_text()


# Refusals -------------------------------------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_left_alone(theta_0: Theta0, tmp_path: Path) -> None:
    path = saved(tmp_path, theta_0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    refused(
        tmp_path, str(path), "--output", str(tmp_path / "full"), match="is there already and is not an empty folder"
    )
    refused(tmp_path, str(path), "--output", str(path), match="is there already and is not an empty folder")
    (tmp_path / "empty").mkdir()
    assert run("export", [str(path), "--output", str(tmp_path / "empty")]) == 0
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "empty").iterdir()}
    assert len(modes) == 1


def test_what_cannot_be_written_leaves_nothing_behind(theta_0: Theta0, tmp_path: Path) -> None:
    path = saved(tmp_path, theta_0)
    refused(
        tmp_path, str(path), "--output", str(path / "inside"), match=r"cannot write the model to .*: Not a directory"
    )


def test_a_foreign_base_model_is_refused(theta_0: Theta0, tmp_path: Path) -> None:
    path = saved(tmp_path, theta_0)
    other = save_checkpoint(tmp_path / "other", WORDS, seed=1)
    args = [str(path), "--output", str(tmp_path / "out"), "--base-model", str(other)]
    refused(tmp_path, *args, match=r"was found in .*tiny-bert .*, but the base model here is .*other")


def test_a_task_without_a_head_is_refused(theta_0: Theta0, tmp_path: Path) -> None:
    args = ["--output", str(tmp_path / "out")]
    path = saved(tmp_path, theta_0)
    refused(tmp_path, str(path), *args, "--task", "xnly", match=r"'xnly' \(did you mean xnli\?\)")
    sources = [Ticket.load(saved(tmp_path, theta_0, task)) for task in ("xnli", "mlm")]
    both = str(combine(sources, "union").save(tmp_path / "both"))
    refused(tmp_path, both, *args, match=r"is of the task 'xnli\+mlm', for which .* choose a head with --task")
    assert run("export", [both, *args, "--task", "mlm"]) == 0
    assert re.search(r'^language: \["fr"\]$', (tmp_path / "out" / "README.md").read_text(), re.MULTILINE)


def test_checkpoints_that_are_not_of_this_ticket_are_refused(theta_0: Theta0, tmp_path: Path) -> None:
    path, sparser = saved(tmp_path, theta_0, "mlm"), saved(tmp_path, theta_0, "mlm", density=0.2)
    args = [str(path), "--output", str(tmp_path / "out"), "--checkpoint"]
    refused(tmp_path, *args, str(tmp_path / "none.ckpt"), match=r"there is no checkpoint .*none\.ckpt")
    refused(tmp_path, *args, str(path), match=r"mlm-0\.4\.ticket is not a checkpoint of `lnsub fit`")
    under_sparser, _ = trained(tmp_path / "sparser", sparser, theta_0, "mlm")
    under_none, _ = trained(tmp_path / "dense", None, theta_0, "mlm")
    for checkpoint in (under_sparser, under_none):
        refused(
            tmp_path, *args, str(checkpoint), match=r"is of a fit under another mask \(sparsity [01]\.\d+\) than that"
        )
    tagger, _ = trained(tmp_path / "tagger", saved(tmp_path, theta_0, "wikiann"), theta_0, "wikiann")
    refused(tmp_path, *args, str(tagger), match=r"is a checkpoint of another model: classifier\.bias differs")


def test_a_checkpoint_between_two_rounds_is_refused(theta_0: Theta0, tmp_path: Path) -> None:
    path = saved(tmp_path, theta_0, "mlm")
    module = SubnetModule(tasks()["mlm"](theta_0.base_model), theta_0.base_model, ticket=str(path), seed=SEED)
    checkpoint = tmp_path / "last.ckpt"
    torch.save({"state_dict": module.state_dict(), "global_step": 40}, checkpoint)
    args = [str(path), "--output", str(tmp_path / "out"), "--checkpoint", str(checkpoint)]
    refused(tmp_path, *args, match=r"holds theta_0 and no trained weights, as it was written between two rounds")
