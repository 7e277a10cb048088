"""When a fit holds only the embeddings that its data use; :mod:`lnsub.models.vocabulary` is how."""

import logging
from typing import Any

from lightning.pytorch import LightningModule

from lnsub.common.torch_internals import exclude_from_ddp_broadcasts
from lnsub.data.module import LanguageRows
from lnsub.models.subnet import Subnet
from lnsub.training.optimizers import OptimizerName, in_order

log = logging.getLogger(__name__)

_WORTH_IT = 0.9
"""The share of rows in use from which on the whole matrix stays."""


class RowsInUse(LightningModule):
    """A module that narrows its model's vocabulary for the time of a fit, if that changes no result.

    Attributes:
        subnet: the model.
        optimizer_name: its optimizer.
        weight_decay: the optimizer's.
    """

    subnet: Subnet
    optimizer_name: OptimizerName
    weight_decay: float

    def setup(self, stage: str) -> None:
        """Narrows the vocabulary for a fit: before a checkpoint is loaded and the optimizer made."""
        vocabulary = self.subnet.vocabulary
        vocabulary.widen()  # a fit that raised an error may have left it narrow
        if stage != "fit":
            return
        reason = self._obstacle() or self._narrow()
        if reason is not None:
            log.debug(f"The whole vocabulary takes part in the fit: {reason}.")

    def _obstacle(self) -> str | None:
        """Why narrowing would change results, or cannot be done; None: nothing is in its way."""
        maker = next(each for each in type(self).__mro__ if "configure_optimizers" in vars(each))
        if RowsInUse not in maker.__bases__:
            return "the optimizer is a subclass's own"
        if self.optimizer_name != "adamw" or self.weight_decay:
            return "the optimizer changes rows that have no gradient"
        return self.subnet.vocabulary.obstacle

    def _narrow(self) -> str | None:
        """Narrows the vocabulary to the tokens of the data; returns the reason where it stays whole."""
        vocabulary, data = self.subnet.vocabulary, self.trainer.datamodule
        tokens = data.tokens_in_use(vocabulary.size) if isinstance(data, LanguageRows) else None
        if tokens is None:
            return "its batches may hold any token"
        if len(tokens) >= _WORTH_IT * vocabulary.size:
            return f"{len(tokens):,} of {vocabulary.size:,} tokens are in use"
        vocabulary.narrow(tokens)
        exclude_from_ddp_broadcasts(self, [name for name, _ in self.named_buffers()])  # all, as it replaces the list
        log.debug(f"{len(vocabulary.wanted):,} of {vocabulary.size:,} rows of the vocabulary take part in the fit.")
        return None

    def teardown(self, stage: str) -> None:
        """Makes the vocabulary whole again."""
        self.subnet.vocabulary.widen()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Changes the embeddings of a checkpoint, and their optimizer state, to the rows that this fit has."""
        if "state_dict" not in checkpoint:  # the sharded strategy has loaded it itself, and takes part in no narrowing
            return
        vocabulary = self.subnet.vocabulary
        states = checkpoint.get("optimizer_states")
        place = next((i for i, p in enumerate(in_order(self.parameters())) if p is vocabulary.weight), None)
        moments = states[0]["state"].get(place, {}) if states else {}
        vocabulary.adapt(checkpoint["state_dict"], moments, prefix="model.")
