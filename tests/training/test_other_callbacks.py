"""Callbacks that users add: refused, warned of, or known to hold."""

import logging

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    RichModelSummary,
    RichProgressBar,
    StochasticWeightAveraging,
    Timer,
    TQDMProgressBar,
)

from lnsub.common.errors import UserError
from lnsub.training.imp import IMPCallback
from lnsub.training.other_callbacks import check_callbacks, drop_default_checkpoints
from tests.support.resuming import STEPS, Plug, Unplugged, make_place, run

LOGGED = ["train_loss", "val_accuracy"]


def trainer(*callbacks, **settings):
    return Trainer(accelerator="cpu", logger=False, callbacks=list(callbacks), **settings)


@pytest.mark.parametrize(
    "callback", [StochasticWeightAveraging(1e-2), EMAWeightAveraging(), Timer("00:00:10:00")], ids=lambda c: type(c)
)
def test_what_would_change_the_tickets_is_refused_by_name(callback):
    with pytest.raises(UserError, match=type(callback).__name__):
        check_callbacks(trainer(callback), LOGGED)


def test_a_monitor_that_is_never_logged_is_refused_with_those_that_are():
    with pytest.raises(UserError, match=r"EarlyStopping that monitors 'val_acc'.* train_loss, val_accuracy"):
        check_callbacks(trainer(EarlyStopping("val_acc")), LOGGED)
    check_callbacks(trainer(EarlyStopping("val_accuracy")), LOGGED)


def test_what_nobody_has_tried_gets_a_warning_and_what_is_known_to_hold_none(caplog):
    caplog.set_level(logging.WARNING, logger="lnsub")
    check_callbacks(trainer(ModelSummary(), RichProgressBar(), IMPCallback(), enable_checkpointing=False), LOGGED)
    check_callbacks(trainer(RichModelSummary(), TQDMProgressBar(), enable_checkpointing=False), LOGGED)
    assert not [record for record in caplog.records if record.name.startswith("lnsub")]
    check_callbacks(trainer(LearningRateMonitor()), LOGGED)
    assert "LearningRateMonitor" in caplog.text


def test_lightnings_own_checkpoints_are_off_and_a_users_stay(tmp_path):
    mine = ModelCheckpoint(tmp_path, monitor="val_accuracy")
    for callbacks, left in (([], []), ([mine], [mine])):
        made = trainer(*callbacks)
        assert made.checkpoint_callbacks
        drop_default_checkpoints(made)
        assert made.checkpoint_callbacks == left


def test_a_run_from_python_has_no_checkpoints_of_lightning(tmp_path, cache):
    place = make_place(tmp_path)
    quiet, default = (
        run(place, tmp_path / name, imp={}, max_epochs=1, **settings)
        for name, settings in (("quiet", {}), ("default", {"enable_checkpointing": True}))
    )
    assert default == quiet


def test_with_those_that_are_known_to_hold_an_interrupted_run_ends_the_same(tmp_path, cache):
    place = make_place(tmp_path)
    undisturbed = run(place, tmp_path / "undisturbed", imp={})
    shown = {"imp": {}, "enable_progress_bar": True, "enable_model_summary": True}
    for number, step in enumerate((4, STEPS + 3)):
        output = tmp_path / str(number)
        with pytest.raises(Unplugged):
            run(place, output, [*known(), Plug("on_train_batch_start", step)], **shown)
        assert run(place, output, known(), **shown) == undisturbed


def known():
    return [RichModelSummary(), RichProgressBar(leave=True)]
