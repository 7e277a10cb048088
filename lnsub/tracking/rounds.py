"""The callback that tells the W&B logger what the trainer's loggers are not told: rounds, tickets, restarts."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lnsub.tickets.ticket import Ticket
from lnsub.tracking.artifacts import base_artifact, ticket_artifact
from lnsub.tracking.history import Row
from lnsub.tracking.logger import RunWandbLogger
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule


class WandbRounds(Callback):
    """Logs what goes into a run and what comes out of it, and sends again what a crash kept from W&B.

    Args:
        logger: the run's logger.
    """

    def __init__(self, logger: RunWandbLogger) -> None:
        self._logger = logger
        self._rows: list[Row] = []  # of the checkpoint that is gone on from
        self._began = False

    @override
    def state_dict(self) -> dict[str, Any]:
        """The rows that W&B may not have on the disk yet."""
        return {"rows": self._logger.recent_rows()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the rows of the run that wrote the checkpoint."""
        self._rows = state_dict["rows"]

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs a run's inputs once, and at each round the ticket that it trains under."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SubnetModule)
        logger = self._logger
        if not self._began:
            self._began = True
            logger.resend(self._rows, trainer.global_step)
            logger.log_used(lambda: base_artifact(pl_module.base_model, pl_module.fingerprint, logger.folder))
            if (ticket := pl_module.ticket) is not None and ticket.path is not None:
                logger.log_used(lambda: ticket_artifact(ticket))
        imp = next((c for c in trainer.callbacks if isinstance(c, IMPCallback)), None)
        if imp is None:
            return
        logger.begin_round(imp.sparsity, imp.first_step)
        path = logger.folder.ticket(imp.sparsity)
        if imp.round > 0 and path.exists():
            logger.log_made(lambda: ticket_artifact(Ticket.load(path)))

    def close(self, trainer: Trainer, *, failed: bool = False) -> None:
        """Ends the run on W&B.

        Args:
            trainer: the trainer.
            failed: whether an error ended it.
        """
        if not trainer.is_global_zero:
            return
        if not failed and not self._began and (rounds := self._recorded()):
            # All rounds were there before: the kill that ended the run may have come just after the last.
            self._logger.complete(rounds)
        self._logger.finish(failed=failed)

    def _recorded(self) -> list[Row]:
        """The rows of all rounds on record."""
        rounds: dict[int | None, Row] = {}
        for record in self._logger.folder.records("imp"):
            row = rounds.setdefault(record.round, {"imp/round": record.round, "imp/sparsity": record.sparsity})
            row[f"imp/val_{record.metric}"] = record.value
        return list(rounds.values())
