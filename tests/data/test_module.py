"""The data module: its arguments, what each stage sees, and over how many processes."""

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import distributed, nn
from torch.testing._internal.distributed.fake_pg import FakeStore

from lnsub.common.errors import UserError
from lnsub.tasks import data_modules
from lnsub.tasks.xnli import XNLI
from tests.support.data_makers import batches


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 7}, "max_length is 7: it must be a whole number from 8"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"tokens_per_batch": 0}, "tokens_per_batch is 0"),
        ({"max_train_examples": 0}, "max_train_examples is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"language": ""}, "empty"),
    ],
)
def test_an_argument_out_of_range_is_refused_at_once(settings, message):
    for module in data_modules().values():
        with pytest.raises(UserError, match=message):
            module(**{"language": "fr", "tokenizer": "x", **settings})


def test_inputs_longer_than_the_model_takes_are_refused(data, bert):
    with pytest.raises(UserError, match=r"max_length is 129, but .* takes at most 128"):
        XNLI("fr", bert, str(data), max_length=129).setup("fit")


class Recorder(LightningModule):
    """Writes down which rows each stage sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: dict[str, list[int]] = {"fit": [], "validate": [], "test": [], "predict": []}

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.seen["fit"] += batch["index"].tolist()
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.seen["validate"] += batch["index"].tolist()

    def test_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.seen["test"] += batch["index"].tolist()

    def predict_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.seen["predict"] += batch["index"].tolist()
        return batch["labels"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(("language", "predicted"), [("fr", 7), ("zh", 11)])
def test_each_stage_of_a_trainer_gets_its_split(data, bert, language, predicted):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model, module = Recorder(), XNLI(language, bert, str(data))
    trainer.fit(model, datamodule=module)
    trainer.predict(model, datamodule=module)
    assert {stage: sorted(seen) for stage, seen in model.seen.items()} == {
        "fit": list(range(40)),
        "validate": list(range(11)),
        "test": [],
        "predict": list(range(predicted)),
    }
    if language == "fr":
        trainer.test(model, datamodule=module)
        assert sorted(model.seen["test"]) == list(range(7))
    else:
        with pytest.raises(UserError, match="has no test split for 'zh'"):
            trainer.test(model, datamodule=module)


def test_workers_give_the_batches_of_the_main_process(data, bert):
    here, workers = (
        [{k: v.tolist() for k, v in batch.items()} for batch in batches(module.train_dataloader())]
        for module in (XNLI("fr", bert, str(data), batch_size=8, num_workers=n) for n in (0, 2))
    )
    assert here == workers


def test_lengths_can_be_padded_to_a_multiple(data, bert):
    module = XNLI("fr", bert, str(data), batch_size=8, pad_to_multiple_of=8)
    assert all(batch["input_ids"].shape[1] % 8 == 0 for batch in batches(module.train_dataloader()))
    (batch,) = batches(XNLI("fr", bert, str(data)).test_dataloader())
    assert batch["input_ids"].shape[1] == batch["attention_mask"].sum(1).max()


def test_evaluation_reads_every_row_once_over_all_processes(data, bert):
    seen: list[int] = []
    for rank in range(3):
        distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=3)
        try:
            for batch in batches(XNLI("fr", bert, str(data)).val_dataloader()):
                seen += batch["index"].tolist()
        finally:
            distributed.destroy_process_group()
    assert sorted(seen) == list(np.arange(11))


class Seeded(LightningModule):
    """A module that has a seed, and nothing to train."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed


def test_a_run_has_one_seed_and_the_data_follows_it(data, bert):
    def order(seed: int | None, module: LightningModule | None = None) -> list[int]:
        xnli = XNLI("fr", bert, str(data), batch_size=4, seed=seed)
        if module is not None:
            xnli.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
            xnli.trainer.strategy.connect(module)
        return [index for batch in batches(xnli.train_dataloader()) for index in batch["index"].tolist()]

    assert order(None, Seeded(3)) == order(3) == order(3, Seeded(3))
    assert order(None, Seeded(4)) == order(4) != order(3)
    assert order(None) == order(0) == order(None, LightningModule())
    with pytest.raises(UserError, match="The data has the seed 0, the module 57"):
        order(0, Seeded(57))


@pytest.mark.parametrize(("device", "given", "expected"), [("cuda", None, 16), ("cuda", 8, 8), ("cpu", None, 1)])
def test_lengths_are_padded_for_the_device_unless_a_multiple_is_given(device, given, expected, data, bert):
    module = XNLI("fr", bert, str(data), max_length=20, pad_to_multiple_of=given)
    assert module.multiple == (given or 1)  # of no trainer
    strategy = SingleDeviceStrategy(torch.device(device))
    module.trainer = Trainer(accelerator="cpu", strategy=strategy, logger=False, enable_checkpointing=False)
    assert module.multiple == expected
    lengths = np.asarray(module.table("train")["length"])
    (widest,) = {batch["input_ids"].shape[1] for batch in batches(module.val_dataloader())}
    assert widest == min(20, -(-int(lengths.max()) // expected) * expected)
