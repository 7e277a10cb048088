"""The callback that tells the W&B logger what a trainer's loggers are not told: rounds, tickets, how a run ended."""

from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

from lnsub.common.signals import Preempted
from lnsub.tickets.ticket import Ticket
from lnsub.tracking.artifacts import base_artifact, ticket_artifact
from lnsub.tracking.logger import RunWandbLogger
from lnsub.training.callbacks import RunCallback
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule


class WandbRounds(RunCallback):
    """Logs what goes into a run, what comes out of it, and which round its training curves belong to.

    Args:
        logger: the run's logger.
    """

    def __init__(self, logger: RunWandbLogger) -> None:
        self._logger = logger
        self._inputs_logged = False
        self._preempted = False

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs a run's inputs once, and in each round the ticket that it trains under."""
        assert isinstance(pl_module, SubnetModule)
        logger = self._logger
        if not self._inputs_logged:
            self._inputs_logged = True
            logger.log_input(lambda: base_artifact(pl_module.base_model, pl_module.fingerprint, logger.folder))
            if (ticket := pl_module.ticket) is not None and ticket.path is not None:
                logger.log_input(lambda: ticket_artifact(ticket))
        imp = IMPCallback.of(trainer)
        if imp is None:
            return
        logger.begin_round(imp.sparsity, imp.first_step)
        path = logger.folder.ticket(imp.sparsity)
        if imp.round > 0 and path.exists():
            logger.log_output(lambda: ticket_artifact(Ticket.load(path)))

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Notes that a signal stopped the run, which is no failure."""
        self._preempted = isinstance(exception, Preempted)

    @override
    def on_run_end(self, trainer: Trainer, *, failed: bool) -> None:
        """Ends the run on W&B: as finished, failed, or preempted.

        Args:
            trainer: the trainer.
            failed: whether an error or a signal ended it.
        """
        if trainer.is_global_zero:
            self._logger.finish(failed=failed, preempted=failed and self._preempted)
