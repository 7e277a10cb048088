"""Iterative magnitude pruning: IMPCallback says when to prune, rewind, save and resume.

Frankle & Carbin (2019), https://arxiv.org/abs/1803.03635; for pre-trained encoders Chen et al. (2020),
https://arxiv.org/abs/2007.12223. One trainer runs all rounds, so ``global_step`` grows over the whole run, loggers see
one run, and the process group stays up. :func:`lnsub.training.fit.fit` starts the loop.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lnsub.common.errors import UserError
from lnsub.data.module import LanguageDataModule
from lnsub.models.subnet import Weights, gathered
from lnsub.pruning.masks import Mask
from lnsub.pruning.schedules import sparsities as scheduled
from lnsub.pruning.scores import SCORES, ScoreInputs, score
from lnsub.pruning.selection import select
from lnsub.runs.folder import RunFolder
from lnsub.runs.records import Record, records_of
from lnsub.tickets.ticket import Provenance, Ticket
from lnsub.training.checkpoints import Checkpoints
from lnsub.training.gradients import loss_gradients
from lnsub.training.module import Budget, SubnetModule
from lnsub.training.ranks import check_agreement
from lnsub.version import __version__

log = logging.getLogger(__name__)

LINEAR_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The sparsities of Foroutan et al. (2022)."""


class IMPCallback(Callback):
    """All that iterative magnitude pruning needs: with it among the trainer's callbacks, `lnsub fit` runs IMP.

    Between the fits it records the round's metric, prunes to the next sparsity, writes the ticket, rewinds the kept
    weights and starts the next round with a fresh optimizer. Everything goes to the trainer's ``default_root_dir``,
    laid out as :mod:`lnsub.runs.folder` says.

    Args:
        schedule: ``linear`` takes the sparsities as listed; ``geometric`` prunes the share ``rate`` of what is left in
            each of ``rounds`` rounds.
        sparsities: for ``linear``: the sparsity after each pruning step, increasing, in (0, 1). Default: 0.1 to 0.9.
        rate: for ``geometric``: the share of the kept weights that each round prunes.
        rounds: for ``geometric``: how many times it prunes.
        score: what makes a weight important: ``magnitude``, ``random``, ``magnitude_init`` (of theta_0) or ``taylor``
            (weight times gradient).
        scope: what is ranked together: ``global``, ``layer``, ``matrix`` or ``stack`` (encoder and decoder apart).
        rewind: where the kept weights go after pruning: ``init`` (theta_0), ``step`` (their values after
            ``rewind_step`` steps of round 0; late rewinding, Frankle et al. 2019) or ``none`` (they stay as trained).
        rewind_step: for ``rewind: step``: the optimizer step of round 0.
        rewind_lr: each round has a learning-rate schedule of its own. With ``rewind: none`` that is learning-rate
            rewinding (Renda et al. 2020); False there lets one schedule run over all rounds.
        head: ``reinit`` rewinds the task head too, ``keep`` carries it on through the rounds, as the code of Foroutan
            et al. does.
        score_batches: for ``score: taylor``: training batches that the gradient is summed over.
        keep_checkpoint: keep ``checkpoints/last.ckpt``, with the last round's trained weights, once all is done.

    Raises:
        UserError: a value is outside its range, or an option does not belong to the chosen variant.
    """

    def __init__(
        self,
        schedule: Literal["linear", "geometric"] = "linear",
        sparsities: list[float] | None = None,
        rate: float | None = None,
        rounds: int | None = None,
        score: Literal["magnitude", "random", "magnitude_init", "taylor"] = "magnitude",
        scope: Literal["global", "layer", "matrix", "stack"] = "global",
        rewind: Literal["init", "step", "none"] = "init",
        rewind_step: int | None = None,
        rewind_lr: bool = True,
        head: Literal["reinit", "keep"] = "reinit",
        score_batches: int = 16,
        keep_checkpoint: bool = False,
    ) -> None:
        levels = sparsities if sparsities or schedule != "linear" else list(LINEAR_LEVELS)
        self.levels = (0.0, *scheduled(schedule, levels=levels, rate=rate, rounds=rounds))
        if (rewind == "step") != (rewind_step is not None):
            raise UserError("rewind_step goes with `rewind: step`: give both or neither.")
        if rewind_step is not None and rewind_step < 1:
            raise UserError(f"rewind_step counts optimizer steps from 1, so {rewind_step} is too small.")
        if not rewind_lr and rewind != "none":
            raise UserError("`rewind_lr: false` goes with `rewind: none`; rewound weights begin a new schedule.")
        if score_batches < 1:
            raise UserError(f"score_batches must be at least 1, not {score_batches}.")
        self.schedule = schedule
        self.score = score
        self.scope = scope
        self.rewind = rewind
        self.rewind_step = rewind_step
        self.rewind_lr = rewind_lr
        self.head = head
        self.score_batches = score_batches
        self.keep_checkpoint = keep_checkpoint

        self.round = 0
        """The round that runs now, 0 dense."""
        self.first_epoch = 0  # of this round, counted over the whole run as the trainer does
        self.first_step = 0
        self._theta_0: Weights = {}  # from the first fit of this process on
        self._rewind_weights: Weights | None = None
        self._fingerprint = ""
        self._checksum: str | None = None  # of the mask that this round trains under
        self._validated_at = -1

    @property
    def sparsity(self) -> float:
        """The sparsity of the round that runs now."""
        return self.levels[self.round]

    # What Lightning calls -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the module's own state."""
        return {
            "round": self.round,
            "first_epoch": self.first_epoch,
            "first_step": self.first_step,
            "fingerprint": self._fingerprint,
            "checksum": self._checksum,
            "rewind_weights": None if self._rewind_weights is None else gathered(self._rewind_weights),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up where the run that wrote ``state_dict`` was."""
        self.round = state_dict["round"]
        self.first_epoch = state_dict["first_epoch"]
        self.first_step = state_dict["first_step"]
        self._fingerprint = state_dict["fingerprint"]
        self._checksum = state_dict["checksum"]
        if state_dict["rewind_weights"] is not None:
            self._rewind_weights = state_dict["rewind_weights"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes theta_0: after the model is shared out among processes, and before a checkpoint is loaded."""
        assert isinstance(pl_module, SubnetModule)
        if stage == "fit" and not self._theta_0:
            pl_module.configure_model()  # Lightning's own call comes later, and then does nothing
            self._theta_0 = pl_module.subnet.snapshot()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Leaves the optimizer out of a checkpoint between rounds: the next round starts with a fresh one."""
        if not trainer.training:
            checkpoint["optimizer_states"] = []
            checkpoint["lr_schedulers"] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses a rewind step that round 0 never reaches, before time is spent."""
        assert isinstance(pl_module, SubnetModule)
        if pl_module.budget is None:
            raise UserError("IMPCallback runs rounds: start them with lnsub.fit(trainer, module, datamodule).")
        steps = pl_module.fit_steps(pl_module.budget)
        if self.rewind_step is not None and self.rewind_step > steps:
            raise UserError(f"rewind_step is {self.rewind_step}, but a round has only {steps} optimizer steps.")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Takes the weights that a late rewind goes back to."""
        if self.rewind == "step" and self.round == 0 and trainer.global_step == self.rewind_step:
            assert isinstance(pl_module, SubnetModule)
            self._rewind_weights = pl_module.subnet.snapshot()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers which step the last validation metrics belong to."""
        self._validated_at = trainer.global_step

    # The loop -------------------------------------------------------------------------------------------------------

    def run(self, trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule) -> None:
        """Runs the rounds that are not done yet. See :func:`lnsub.training.fit.fit`."""
        folder = RunFolder(Path(trainer.default_root_dir))
        epochs, steps = length_of_a_round(trainer)
        if module.ticket is not None:
            raise UserError(
                "IMP starts dense, so model.ticket and IMPCallback exclude each other: "
                "leave the callback out to fine-tune a ticket, or the ticket to find one."
            )
        if trainer.limit_val_batches == 0:
            raise UserError("IMP records each round's validation metric: trainer.limit_val_batches must not be 0.")
        checkpoints = Checkpoints.of(trainer)
        checkpoint = self._resume(folder, module, checkpoints.newest())
        if self.round == len(self.levels):
            log.info(f"All {len(self.levels)} rounds are done: {folder.path}")
            return
        while self.round < len(self.levels):
            if epochs != -1:
                trainer.fit_loop.max_epochs = self.first_epoch + epochs
            if steps != -1:
                trainer.fit_loop.epoch_loop.max_steps = self.first_step + steps
            part, parts = (0, 1) if self.rewind_lr else (self.round, len(self.levels))
            module.budget = Budget(epochs, steps, part, parts)
            trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint)
            checkpoint = None
            seconds = checkpoints.seconds
            metrics = self._metrics(trainer, module, datamodule)
            self._finish_round(trainer, module, datamodule, folder, metrics, seconds)

    def _resume(self, folder: RunFolder, module: SubnetModule, checkpoint: Path | None) -> str | None:
        """Reads which round comes next, before the trainer's limits are set; the trainer then loads the rest."""
        fingerprint = module.fingerprint
        if checkpoint is not None:
            step, state = _step_and_state(checkpoint, self)
            self.load_state_dict(state)
            if self._fingerprint != fingerprint:
                raise UserError(
                    f"{module.base_model} is not the base model that {folder.path} was begun with: its weights differ. "
                    "Use the same checkpoint again, or another --output."
                )
            if self.round < len(self.levels):
                log.info(f"Going on with round {self.round} at step {step - self.first_step} of it: {folder.path}")
            return str(checkpoint)
        if len({record.round for record in folder.records("imp")}) == len(self.levels):
            self.round = len(self.levels)
        self._fingerprint = fingerprint
        return None

    def _metrics(self, trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule) -> dict[str, float]:
        """The validation metrics of the weights as they are now."""
        if self._validated_at != trainer.global_step:
            trainer.validate(module, datamodule=datamodule, verbose=False)
        return {
            name.removeprefix("val_"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val_")
        }

    def _finish_round(
        self,
        trainer: Trainer,
        module: SubnetModule,
        datamodule: LanguageDataModule,
        folder: RunFolder,
        metrics: dict[str, float],
        wall_s: float,
    ) -> None:
        last = self.round + 1 == len(self.levels)
        if not last:
            ticket, mask = self._prune(trainer, module, datamodule, metrics)
        if trainer.is_global_zero:
            folder.record(self._records(module, datamodule, metrics, wall_s))
            if not last:
                _save_once(ticket, folder.ticket(self.levels[self.round + 1]))
        self._log(trainer, metrics)
        self.round += 1
        self.first_epoch, self.first_step = trainer.current_epoch, trainer.global_step
        if not last:
            self._checksum = ticket.checksum
            self._rewind(module, mask)
        checkpoints = Checkpoints.of(trainer)
        if not last or self.keep_checkpoint:
            checkpoints.save(trainer)
        if last:
            checkpoints.finish(trainer, keep=self.keep_checkpoint)

    def _prune(
        self,
        trainer: Trainer,
        module: SubnetModule,
        datamodule: LanguageDataModule,
        metrics: dict[str, float],
    ) -> tuple[Ticket, Mask]:
        """Returns the next round's mask, the same on every rank, also as a ticket."""
        weights = {name: weight.detach() for name, weight in module.subnet.weights.items()}
        needs = SCORES[self.score]
        init = module.subnet.prunable_of(self._theta_0) if needs.needs_init else None
        gradients = None
        if needs.needs_gradients:
            gradients = loss_gradients(trainer, module, datamodule, self.score_batches)
        inputs = ScoreInputs(weights=weights, init=init, gradients=gradients, seed=module.seed)
        sparsity = self.levels[self.round + 1]
        mask = select(score(self.score, inputs), module.subnet.mask, sparsity, self.scope)
        ticket = Ticket(
            masks=mask.to_packed(),
            shapes=mask.shapes,
            provenance=Provenance(
                base_model=module.base_model,
                base_fingerprint=module.fingerprint,
                task=module.task.name,
                language=datamodule.language,
                seed=module.seed,
                round=self.round + 1,
                sparsity=sparsity,
                score=self.score,
                scope=self.scope,
                schedule=self.schedule,
                metric=f"{module.task.metric}={metrics[module.task.metric]:.6f}",
                lnsub_version=__version__,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )
        check_agreement(trainer, ticket.checksum)
        return ticket, mask

    def _rewind(self, module: SubnetModule, mask: Mask) -> None:
        target = self._rewind_weights if self.rewind == "step" else self._theta_0
        assert target is not None
        module.subnet.rewind(target, mask=mask, base=self.rewind != "none", head=self.head == "reinit")

    def _records(
        self,
        module: SubnetModule,
        datamodule: LanguageDataModule,
        metrics: dict[str, float],
        wall_s: float,
    ) -> list[Record]:
        return records_of(
            metrics,
            kind="imp",
            task=module.task.name,
            model=module.base_model,
            source=datamodule.language,
            target=datamodule.language,
            sparsity=self.sparsity,
            score=self.score,
            init=module.init,
            seed=module.seed,
            round=self.round,
            split="validation",
            n=len(datamodule.table("validation")),
            wall_s=round(wall_s, 3),
            ticket=self._checksum,
        )

    def _log(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        """Sends the round's result to the loggers, where it is drawn against sparsity and not against the step."""
        row = {"imp/round": float(self.round), "imp/sparsity": self.sparsity}
        row |= {f"imp/val_{name}": value for name, value in metrics.items()}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step)
            logger.save()


def length_of_a_round(trainer: Trainer) -> tuple[int, int]:
    """A round's epochs and optimizer steps as the trainer was given them, -1 where not bounded so."""
    epochs = trainer.max_epochs if trainer.max_epochs is not None else -1
    if epochs < 1 and trainer.max_steps < 1:
        raise UserError("Say how long a round is: set trainer.max_epochs or trainer.max_steps.")
    return epochs, trainer.max_steps


def _step_and_state(path: Path, callback: IMPCallback) -> tuple[int, dict[str, Any]]:
    """The global step of a checkpoint and the callback's state in it."""
    checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    if callback.state_key not in checkpoint["callbacks"]:
        raise UserError(f"{path} is not of a run with IMPCallback; choose another --output.")
    return checkpoint["global_step"], checkpoint["callbacks"][callback.state_key]


def _save_once(ticket: Ticket, path: Path) -> None:
    """Writes a ticket, unless an interrupted run has written the same mask there already."""
    try:
        if Ticket.load(path).checksum == ticket.checksum:
            return
    except UserError:
        pass  # there is none, or it is damaged
    ticket.save(path)
