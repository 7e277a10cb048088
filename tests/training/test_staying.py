"""Weights stay on the device during a run, and go to the host at its end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lnsub.tasks.xnli import XNLI
from lnsub.training.fit import fit
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule
from tests.support.resuming import Place


class Watched(SubnetModule):
    """Notes each time Lightning asks for the host: whether anything was moved."""

    moved = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: list[bool] = []

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        self.moved = True
        return super()._apply(fn, recurse)

    def cpu(self) -> Self:
        self.moved = False
        super().cpu()
        self.asked.append(self.moved)
        return self


class States(Callback):
    """Notes the number of weights that the optimizer has a state of, in and after a fit."""

    def __init__(self) -> None:
        self.within: list[int] = []
        self.after: list[int] = []

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.within.append(len(trainer.optimizers[0].state))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.after.append(len(trainer.optimizers[0].state))


def parts(place: Place, folder: Path, *callbacks: Callback, **settings: Any) -> tuple[Trainer, Watched, XNLI]:
    data = XNLI(language="en", tokenizer=place.base, dataset=place.data, max_length=32, batch_size=8)
    trainer = Trainer(
        **{"accelerator": "cpu", **settings},
        max_epochs=1,
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )
    return trainer, Watched(data.task, place.base), data


def test_weights_are_moved_to_the_host_once_at_the_end_of_a_run(place, tmp_path):
    states = States()
    trainer, module, data = parts(place, tmp_path, IMPCallback(sparsities=[0.3, 0.6]), states)
    fit(trainer, module, data)
    assert len(module.asked) >= 4  # after each of three fits, and at the end
    assert module.asked == [False] * (len(module.asked) - 1) + [True]
    assert states.within == [len(list(module.parameters()))] * 3
    assert states.after == [0, 0, 0]  # or it would be moved


def test_weights_are_moved_after_a_run_that_fails(place, tmp_path):
    class Failing(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise RuntimeError("on purpose")

    trainer, module, data = parts(place, tmp_path, Failing())
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(trainer, module, data)
    assert module.asked == [False, True]


def test_outside_of_a_run_lightning_has_its_way(place, tmp_path):
    states = States()
    trainer, module, data = parts(place, tmp_path, states)
    trainer.fit(module, datamodule=data)
    assert module.asked == [True]
    assert states.after == states.within


@pytest.mark.gpu
def test_rounds_prune_and_rewind_on_the_gpu(place, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")

    class Where(IMPCallback):
        places: list[set[str]]

        def start_next_round(self, trainer: Any, module: Any, pruned: Any) -> None:
            super().start_next_round(trainer, module, pruned)
            tensors = [*module.state_dict().values(), *self._target.values()]
            if pruned:
                tensors += [*pruned[1].values()]
            self.places = [*getattr(self, "places", []), {tensor.device.type for tensor in tensors}]

    imp = Where(sparsities=[0.3, 0.6])
    trainer, module, data = parts(place, tmp_path, imp, accelerator="gpu", devices=1)
    fit(trainer, module, data)
    assert imp.places == [{"cuda"}] * 3
    assert module.device.type == "cpu"
