"""Every use of Lightning's private API, each with the public API that is missing.

No other module touches private names of Lightning or the layout of its loop state; tests fail when one of them changes.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from subprocess import Popen
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops import _Loop
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.distributed.constants import default_pg_timeout

_STARTED_BY = "LNSUB_STARTED_BY"  # the process that started this one as a rank of its run


def disable_signal_handlers(trainer: Trainer) -> None:
    """Disables Lightning's signal handlers. Missing: an option for it.

    One saves a checkpoint inside the handler, which hangs under DDP; another starts a collective operation; and the
    training loop reads a broadcast flag back from the device at every step.
    """
    trainer._signal_connector.register_signal_handlers = _noop
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _noop


def is_between_steps(trainer: Trainer) -> bool:
    """Whether an optimizer step has just ended, and no gradients are being accumulated. Missing: a property."""
    return not trainer.fit_loop.epoch_loop._should_accumulate()


def epoch_is_over(trainer: Trainer) -> bool:
    """Whether the current batch is the last of its epoch. Missing: a property valid in ``on_train_batch_end``."""
    return bool(trainer.fit_loop.epoch_loop._num_ready_batches_reached())


def validation_is_due(trainer: Trainer) -> bool:
    """Whether validation follows the current batch. Missing: a property valid in ``on_train_batch_end``."""
    loop = trainer.fit_loop
    return bool(loop.epoch_loop._should_check_val_fx(loop._data_fetcher))


def loss_is_read(trainer: Trainer) -> bool:
    """Whether somebody reads the metrics of the current batch: loggers, or callbacks after a validation or an epoch.

    Missing: a property valid in ``training_step``.
    """
    last = epoch_is_over(trainer) or trainer.global_step + 1 == trainer.max_steps
    return last or trainer._logger_connector.should_update_logs or validation_is_due(trainer)


def correct_progress(loops: dict[str, Any], validate: bool) -> None:
    """Makes Lightning resume right after the saved step, starting with the validation if it is due.

    Lightning expects checkpoints after the validation, and so treats it as done; it validates on resuming if the step
    is complete and the validation has started. Missing: a way to save before the validation.

    Args:
        loops: the state of the fit loop in a checkpoint; modified in place.
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

    By itself a trainer with ``max_steps`` takes every resume for one in mid-epoch, and starts at the batch at which the
    fit before ended. Missing: a public setter that holds for such a trainer too.
    """
    _Loop.restarting.fset(trainer.fit_loop, False)  # that of the fit loop itself overrides what it is given


def missing_progress(trainer: Trainer, loops: dict[str, Any]) -> set[str]:
    """What a checkpoint's loops lack of the fit loop's state: Lightning would take it for zero. Missing: a check."""
    return trainer.fit_loop.state_dict().keys() - loops["fit_loop"].keys()


def pending_log_row(trainer: Trainer) -> tuple[dict[str, float], int] | None:
    """The metrics that Lightning logs after ``on_train_batch_end``, and their step. Missing: a hook."""
    connector = trainer._logger_connector
    if not (trainer.loggers and connector.should_update_logs and connector.metrics["log"]):
        return None
    values = {name: float(value) for name, value in connector.metrics["log"].items()}
    return {**values, "epoch": trainer.current_epoch}, trainer.fit_loop.epoch_loop._batches_that_stepped


def shard_over_all(strategy: ModelParallelStrategy) -> None:
    """Puts all processes into the data-parallel dimension. Missing: an argument for "as many as there are"."""
    strategy._data_parallel_size = strategy.num_nodes * strategy.num_processes


def rank_timeout(strategy: Strategy) -> timedelta | None:
    """The timeout of collective operations; None for single-process strategies. Missing: a getter."""
    return getattr(strategy, "_timeout", None)


def set_rank_timeout(strategy: Strategy, timeout: timedelta) -> None:
    """Sets the timeout, unless the strategy was created with a non-default one. Missing: a setter."""
    if rank_timeout(strategy) == default_pg_timeout:
        strategy._timeout = timeout


def watch_launches(
    strategy: Strategy, watch_children: Callable[[list["Popen[Any]"]], None], watch_parent: Callable[[int], None]
) -> None:
    """Registers callbacks with a strategy that launches its own ranks. Missing: a custom observer.

    Lightning's observer sends SIGKILL to all ranks without reporting a reason.

    Args:
        strategy: of a trainer that has not run yet.
        watch_children: called in the launching process, with the launched processes.
        watch_parent: called in each launched process, with the id of the launching process.
    """
    launcher = strategy.launcher
    if type(launcher) is _SubprocessScriptLauncher:
        watching = _WatchedLauncher(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        watching.watch_children, watching.watch_parent = watch_children, watch_parent
        strategy._launcher = watching


def is_launched_rank() -> bool:
    """Whether the first rank has started this process, and this process has not joined it yet."""
    return os.environ.get(_STARTED_BY) == str(os.getppid())


class _WatchedLauncher(_SubprocessScriptLauncher):
    watch_children: Callable[[list["Popen[Any]"]], None]
    watch_parent: Callable[[int], None]

    def launch(self, function: Any, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Calls the function; the first time, launches the other ranks of this node before."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            os.environ[_STARTED_BY] = str(os.getpid())
            self._call_children_scripts()
            self.watch_children(self.procs)
        elif is_launched_rank():
            del os.environ[_STARTED_BY]  # once is enough
            self.watch_parent(os.getppid())
        return function(*args, **kwargs)


def _noop() -> None:
    """Replaces a Lightning function that must do nothing."""
