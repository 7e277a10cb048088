"""A fit holds only the embeddings that its data use: where it may, with the same results, interrupted or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lnsub.runs.folder import RunFolder
from lnsub.tasks.mlm import WikipediaMLM
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import XNLI
from lnsub.training.checkpoint_files import load_weights
from lnsub.training.csv_logger import RunCSVLogger
from lnsub.training.fit import fit
from lnsub.training.module import SubnetModule
from tests.support.data_makers import WORDS, write_rows
from tests.support.models import SPECIAL
from tests.support.resuming import IMP, STEPS, Place, Plug, Unplugged, run

SPARE = 20  # words that the model has and no data
ALL = len(SPECIAL) + SPARE + len(WORDS)
EMBEDDINGS = "model.bert.embeddings.word_embeddings.weight"


class AnyTokens(XNLI):
    """Data with a loader of its own, of which nobody knows what tokens it gives: the vocabulary stays whole."""

    def train_dataloader(self) -> Any:
        return super().train_dataloader()


class Rows(Callback):
    """Records how many rows of embeddings are trained in each fit."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SubnetModule)
        weight = pl_module.model.get_input_embeddings().weight
        sizes = [len(p) for group in trainer.optimizers[0].param_groups for p in group["params"] if p is weight]
        self.seen += sizes


SAME: dict[str, dict[str, Any]] = {
    "dense": {"imp": None},
    "IMP": IMP,
    "late rewinding": {"imp": {"rewind": "step", "rewind_step": 3}},
    "no rewinding": {"imp": {"rewind": "none"}},
    "random init": {"imp": None, "model": {"init": "random"}},
    "packed": {"imp": None, "model": {"attention": "packed"}},
    "bfloat16": {"imp": None, "model": {"dtype": "bfloat16"}},
    "bf16-true": {"imp": None, "precision": "bf16-true"},
    "mixture": {"imp": {}, "data": {"language": "en+fr"}},
    "gradients by Fisher": {"imp": {"score": "fisher", "score_examples": 8}},
}


@pytest.mark.parametrize("kind", SAME)
def test_the_results_are_those_of_the_whole_vocabulary(kind, place, tmp_path):
    settings, few, all_ = SAME[kind], Rows(), Rows()
    narrow = run(place, tmp_path / "narrow", [few], every=None, **settings)
    whole = run(place, tmp_path / "whole", [all_], every=None, task=AnyTokens, **settings)
    assert narrow == whole
    assert set(few.seen) == {ALL - SPARE}
    assert set(all_.seen) == {ALL}


def test_named_entities_too_and_a_token_that_only_the_validation_split_has(place, tmp_path):
    class AnyWords(WikiANN):
        def train_dataloader(self) -> Any:
            return super().train_dataloader()

    rows = {"tokens": [WORDS[i : i + 4] for i in range(8)], "ner_tags": [[0, 1, 2, 0]] * 8}
    write_rows(tmp_path / "ner" / "en" / "train.jsonl", rows)
    rows = {"tokens": [[*WORDS[:3], "spare7"]], "ner_tags": [[0, 1, 2, 0]]}
    write_rows(tmp_path / "ner" / "en" / "validation.jsonl", rows)
    here, seen = Place(place.base, str(tmp_path / "ner")), Rows()
    narrow = run(here, tmp_path / "narrow", [seen], task=WikiANN, imp=None)
    assert seen.seen == [len(SPECIAL) + 11 + 1]
    assert narrow == run(here, tmp_path / "whole", task=AnyWords, imp=None)


WHOLE: dict[str, dict[str, Any]] = {
    "weight decay": {"model": {"weight_decay": 0.01}},
    "Adafactor": {"model": {"optimizer": "adafactor"}},
    "random tokens": {"task": WikipediaMLM},
}


@pytest.mark.parametrize("kind", WHOLE)
def test_where_other_rows_may_change_all_take_part(kind, place, tmp_path):
    if kind == "random tokens":
        for split in ("train", "validation"):
            write_rows(tmp_path / "text" / "en" / f"{split}.jsonl", {"text": [" ".join(WORDS[:12])] * 8})
        place = Place(place.base, str(tmp_path / "text"))
    seen = Rows()
    run(place, tmp_path / "run", [seen], imp=None, **WHOLE[kind])
    assert seen.seen == [ALL]


# Interrupted ----------------------------------------------------------------------------------------------------------


def interrupted(place: Place, output: Path, **settings: Any) -> Path:
    """Cuts a run in round 1; returns its checkpoint."""
    with pytest.raises(Unplugged):
        run(place, output, [Plug("on_train_batch_start", STEPS + 4)], **{**IMP, **settings})
    return RunFolder(output).checkpoint


def rows_of(path: Path) -> tuple[int, int]:
    """Rows of the embeddings in a checkpoint, and of their moments."""
    contents = torch.load(path, weights_only=True)
    width = contents["state_dict"][EMBEDDINGS].shape[1]
    moments = [state["exp_avg"] for state in contents["optimizer_states"][0]["state"].values()]
    return len(contents["state_dict"][EMBEDDINGS]), next(len(m) for m in moments if m.shape[1:] == (width,))


@pytest.mark.parametrize(("before", "after"), [(AnyTokens, XNLI), (XNLI, AnyTokens)])
def test_a_checkpoint_of_all_rows_resumes_a_fit_of_some_and_the_other_way_round(
    before, after, place, uninterrupted, tmp_path
):
    """That of all rows is one of a version that had nothing else."""
    path = interrupted(place, tmp_path, task=before)
    expected = (ALL if before is AnyTokens else ALL - SPARE,) * 2
    assert rows_of(path) == expected
    assert run(place, tmp_path, task=after, **IMP) == uninterrupted(**IMP)


def test_weights_are_loaded_from_the_middle_of_a_fit(place, tmp_path):
    path = interrupted(place, tmp_path)
    data = XNLI("en", place.base, place.data)
    module = SubnetModule(data.task, place.base, seed=3)
    before = module.state_dict()[EMBEDDINGS].clone()
    load_weights(str(path), module)
    changed = (module.state_dict()[EMBEDDINGS] != before).any(1)
    spare = slice(len(SPECIAL), len(SPECIAL) + SPARE)
    assert not changed[spare].any()
    assert changed[spare.stop :].all()


def test_a_fit_that_raises_leaves_the_whole_vocabulary(place, tmp_path):
    module, data = made(place, "en")
    with pytest.raises(Unplugged):
        fit(trainer(tmp_path, [Plug("on_train_batch_start", 2)]), module, data)
    assert len(module.state_dict()[EMBEDDINGS]) == ALL


def test_the_second_fit_of_a_model_resumes_with_the_rows_of_the_first(place, tmp_path):
    """Whose values are in no other place: the process that resumes it finds the first one done."""

    def both(folder: Path, *callbacks: Callback) -> dict[str, torch.Tensor]:
        module, french = made(place, "fr")
        few = made(place, "en", max_train_examples=1, max_eval_examples=1)[1]
        fit(trainer(folder / "fr"), module, french)
        fit(trainer(folder / "en", [*callbacks]), module, few, checkpoint_every_n_steps=1)
        return module.state_dict()

    expected = both(tmp_path / "whole")
    with pytest.raises(Unplugged):
        both(tmp_path / "cut", Plug("on_train_batch_start", 1))
    found = both(tmp_path / "cut")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def made(place: Place, language: str, **settings: Any) -> tuple[SubnetModule, XNLI]:
    data = XNLI(language, place.base, place.data, batch_size=8, max_length=32, seed=3, **settings)
    return SubnetModule(data.task, place.base, learning_rate=5e-3, seed=3), data


def trainer(folder: Path, callbacks: list[Callback] | None = None) -> Trainer:
    return Trainer(
        default_root_dir=folder,
        callbacks=callbacks,
        accelerator="cpu",
        logger=RunCSVLogger(RunFolder(folder)),
        max_epochs=2,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
