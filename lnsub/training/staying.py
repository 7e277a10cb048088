"""Weights that stay on the device from fit to fit of a run.

At the end of every fit and validation Lightning moves the module and the optimizer's state to the host, and at the
beginning of the next one the module back: 2.9 GB a round for mBERT, and whatever happens between rounds (selection,
masks, rewind) happens on the host.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from lightning.pytorch import LightningModule

from lnsub.models.subnet import Subnet


class StayingOnDevice(LightningModule):
    """A Lightning module that stays where it is during a run."""

    subnet: Subnet
    _staying = False
    _called_home = False

    @contextmanager
    def staying(self) -> Iterator[None]:
        """Within the context, the run, :meth:`cpu` is put off until the end."""
        self._staying, self._called_home = True, False
        try:
            yield
        finally:
            self._staying = False
            if self._called_home:
                self.cpu()

    def cpu(self) -> Self:
        """Moves the module to the host; during a run only at its end."""
        if self._staying:
            self._called_home = True
            return self
        self.subnet.release()
        return super().cpu()

    def on_train_end(self) -> None:
        """During a run, drops the optimizer's state, which Lightning would move to the host: nothing reads it again."""
        super().on_train_end()
        if self._staying:
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()
