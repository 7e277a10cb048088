"""All that lnsub takes from behind Lightning's public interface, each with the public way that is missing.

Nothing else in the package touches a private name of Lightning, or the layout of its loops' state; a test fails when
one of them moves.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from subprocess import Popen
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops import _Loop
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.distributed.constants import default_pg_timeout

_STARTED_BY = "LNSUB_STARTED_BY"  # the process that started this one as a rank of its run


def silence_signals(trainer: Trainer) -> None:
    """Switches off Lightning's handlers of signals. Missing: an option to.

    One saves in the handler, which hangs under DDP, another sends a collective operation from it, and the training loop
    reads a broadcast flag back from the device at each step.
    """
    trainer._signal_connector.register_signal_handlers = _nothing
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing


def is_between_steps(trainer: Trainer) -> bool:
    """Whether an optimizer step has just ended, and no gradients are being accumulated. Missing: a property."""
    return not trainer.fit_loop.epoch_loop._should_accumulate()


def epoch_is_over(trainer: Trainer) -> bool:
    """Whether the batch at hand is the last of its epoch. Missing: a property that holds in ``on_train_batch_end``."""
    return bool(trainer.fit_loop.epoch_loop._num_ready_batches_reached())


def validation_is_due(trainer: Trainer) -> bool:
    """Whether validation comes right after the batch at hand. Missing: the same."""
    loop = trainer.fit_loop
    return bool(loop.epoch_loop._should_check_val_fx(loop._data_fetcher))


def settle_progress(loops: dict[str, Any], validate: bool) -> None:
    """Has Lightning resume right after the step that is saved, with the validation first if it is due.

    By itself it takes the validation after a step for done: it is meant to be saved after it. What it validates is a
    step that is complete with a validation that has started. Missing: a way to save before the validation.

    Args:
        loops: the state of the fit loop in a checkpoint, which is changed.
        validate: whether validation is due.
    """
    batches, validation = loops["epoch_loop.batch_progress"], loops["epoch_loop.val_loop.batch_progress"]
    for part in ("total", "current"):
        if validate:
            batches[part]["completed"] = batches[part]["processed"]
        validation[part] = {"ready": int(validate), "started": int(validate), "processed": 0, "completed": 0}
    validation["is_last_batch"] = False


def start_new_epoch(trainer: Trainer) -> None:
    """Has a fit that resumes from between two fits start with a new epoch; call it in ``on_train_start``.

    By itself a trainer with ``max_steps`` takes every resume for one amid an epoch, and starts at the batch at which
    the fit before ended. Missing: a public setter that holds for such a trainer too.
    """
    _Loop.restarting.fset(trainer.fit_loop, False)  # that of the fit loop itself overrides what it is given


def missing_progress(trainer: Trainer, loops: dict[str, Any]) -> set[str]:
    """What a checkpoint's loops lack of the fit loop's state: Lightning would take it for zero. Missing: a check."""
    return trainer.fit_loop.state_dict().keys() - loops["fit_loop"].keys()


def row_to_come(trainer: Trainer) -> tuple[dict[str, float], int] | None:
    """What Lightning logs of this step after ``on_train_batch_end``, and the step it logs it at. Missing: a hook."""
    connector = trainer._logger_connector
    if not (trainer.loggers and connector.should_update_logs and connector.metrics["log"]):
        return None
    values = {name: float(value) for name, value in connector.metrics["log"].items()}
    return {**values, "epoch": trainer.current_epoch}, trainer.fit_loop.epoch_loop._batches_that_stepped


def rank_timeout(strategy: Strategy) -> timedelta | None:
    """How long ranks wait for one another; None where the strategy has one process. Missing: a getter."""
    return getattr(strategy, "_timeout", None)


def set_rank_timeout(strategy: Strategy, timeout: timedelta) -> None:
    """Sets it, unless the strategy was made with another than torch's default. Missing: a setter."""
    if rank_timeout(strategy) == default_pg_timeout:
        strategy._timeout = timeout


def watch_launches(
    strategy: Strategy, watch_children: Callable[[list["Popen[Any]"]], None], watch_parent: Callable[[int], None]
) -> None:
    """Has a strategy that starts its ranks itself tell of it. Missing: an observer of one's own.

    Lightning's own ends everything by SIGKILL without a word, whatever the reason.

    Args:
        strategy: of a trainer that has not run yet.
        watch_children: called in the process that started the others, with them.
        watch_parent: called in each of the others, with the id of the process that started it.
    """
    launcher = strategy.launcher
    if type(launcher) is _SubprocessScriptLauncher:
        watching = _WatchedLauncher(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        watching.watch_children, watching.watch_parent = watch_children, watch_parent
        strategy._launcher = watching


class _WatchedLauncher(_SubprocessScriptLauncher):
    watch_children: Callable[[list["Popen[Any]"]], None]
    watch_parent: Callable[[int], None]

    def launch(self, function: Any, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Calls the function, the first time after starting the other ranks of this node."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            os.environ[_STARTED_BY] = str(os.getpid())
            self._call_children_scripts()
            self.watch_children(self.procs)
        elif os.environ.get(_STARTED_BY) == str(os.getppid()):
            del os.environ[_STARTED_BY]  # once is enough
            self.watch_parent(os.getppid())
        return function(*args, **kwargs)


def _nothing() -> None:
    """In place of what Lightning would do."""
