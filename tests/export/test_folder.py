"""A sub-network as a Hugging Face folder: its weights, its tokenizer, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.models.inherited import Theta0
from lnsub.models.pretrained import load_tokenizer
from lnsub.models.prunable import prunable
from lnsub.tasks import tasks
from lnsub.tickets.combining import combine
from lnsub.tickets.ticket import Ticket
from lnsub.training.module import SubnetModule
from tests.support.exports import POOLER, SEED, WORDS, logits, masks_of, saved, trained
from tests.support.models import save_checkpoint

AUTO = {
    "xnli": AutoModelForSequenceClassification,
    "wikiann": AutoModelForTokenClassification,
    "mlm": AutoModelForMaskedLM,
}


def refused(tmp_path: Path, *args: str, match: str) -> None:
    """A refusal is one sentence, and leaves nothing behind."""
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(UserError, match=match):
        run("export", list(args))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


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
        linear.parameter.data *= torch.from_numpy(masks[name])
    loaded, info = AUTO[task].from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(logits(loaded), logits(expected))
    for name, linear in prunable(loaded).items():
        np.testing.assert_array_equal(linear.parameter.detach() != 0, masks[name])
        if name != POOLER:
            np.testing.assert_array_equal(linear.parameter.detach(), theta_0[name] * masks[name])


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
        weights = linear.parameter.detach().numpy()
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
    assert sum(int((linear.parameter != 0).sum()) for linear in prunable(model).values()) == kept
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


def test_a_folder_with_something_in_it_is_left_alone(theta_0: Theta0, tmp_path: Path) -> None:
    path = saved(tmp_path, theta_0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    refused(tmp_path, str(path), "--output", str(tmp_path / "full"), match="already exists and is not an empty folder")
    refused(tmp_path, str(path), "--output", str(path), match="already exists and is not an empty folder")
    (tmp_path / "empty").mkdir()
    assert run("export", [str(path), "--output", str(tmp_path / "empty")]) == 0
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "empty").iterdir()}
    assert len(modes) == 1


def test_what_cannot_be_written_leaves_nothing_behind(theta_0: Theta0, tmp_path: Path) -> None:
    path = saved(tmp_path, theta_0)
    refused(tmp_path, str(path), "--output", str(path / "inside"), match=r"Cannot write .*inside: Not a directory")


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
    refused(tmp_path, both, *args, match=r"'xnli\+mlm'.*--task.*xnli")
    assert run("export", [both, *args, "--task", "mlm"]) == 0
    assert re.search(r'^language: \["fr"\]$', (tmp_path / "out" / "README.md").read_text(), re.MULTILINE)


def test_checkpoints_that_are_not_of_this_ticket_are_refused(theta_0: Theta0, tmp_path: Path) -> None:
    path, sparser = saved(tmp_path, theta_0, "mlm"), saved(tmp_path, theta_0, "mlm", density=0.2)
    args = [str(path), "--output", str(tmp_path / "out"), "--checkpoint"]
    refused(tmp_path, *args, str(tmp_path / "none.ckpt"), match=r"there is no checkpoint .*none\.ckpt")
    refused(tmp_path, *args, str(path), match=r"mlm-0\.4\.ticket is not a whole checkpoint of `lnsub fit`: ")
    under_sparser, _ = trained(tmp_path / "sparser", sparser, theta_0, "mlm")
    under_none, _ = trained(tmp_path / "dense", None, theta_0, "mlm")
    for checkpoint in (under_sparser, under_none):
        refused(
            tmp_path, *args, str(checkpoint), match=r"is of a fit under another mask \(sparsity [01]\.\d+\) than that"
        )
    tagger, _ = trained(tmp_path / "tagger", saved(tmp_path, theta_0, "wikiann"), theta_0, "wikiann")
    refused(tmp_path, *args, str(tagger), match=r"is a checkpoint of another model: it lacks \d+ of .* tensors")


def test_a_checkpoint_between_two_rounds_is_refused(theta_0: Theta0, tmp_path: Path) -> None:
    path = saved(tmp_path, theta_0, "mlm")
    module = SubnetModule(tasks()["mlm"](theta_0.base_model), theta_0.base_model, ticket=str(path), seed=SEED)
    checkpoint = tmp_path / "last.ckpt"
    other = {"epoch": 1, "loops": {"fit_loop": {}}, "pytorch-lightning_version": "2.6"}
    torch.save({"state_dict": module.state_dict(), "global_step": 40, **other}, checkpoint)
    args = [str(path), "--output", str(tmp_path / "out"), "--checkpoint", str(checkpoint)]
    refused(tmp_path, *args, match=r"holds theta_0 and no trained weights, as it was written between two rounds")
