"""Iterative magnitude pruning: IMPCallback holds its settings and state, and prunes and rewinds.

Frankle & Carbin (2019), https://arxiv.org/abs/1803.03635; for pre-trained encoders Chen et al. (2020),
https://arxiv.org/abs/2007.12223. :mod:`lnsub.training.rounds` is the loop.
"""

from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from lnsub.common.errors import UserError
from lnsub.models.subnet import Weights, gathered
from lnsub.pruning.masks import Mask
from lnsub.pruning.schedules import sparsities as scheduled
from lnsub.pruning.scores import SCORES, ScoreInputs, score
from lnsub.pruning.selection import select
from lnsub.tasks.task import LanguageDataModule
from lnsub.tickets.provenance import Provenance
from lnsub.tickets.ticket import Ticket
from lnsub.training.gradients import loss_gradients
from lnsub.training.module import SubnetModule
from lnsub.training.ranks import check_agreement

LINEAR_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The sparsities of Foroutan et al. (2022)."""


class IMPCallback(Callback):
    """All that iterative magnitude pruning needs: with it among the trainer's callbacks, `lnsub fit` runs IMP.

    It says when and how: :func:`lnsub.training.rounds.run_rounds` is the loop. Everything goes to the trainer's
    ``default_root_dir``, laid out as :mod:`lnsub.runs.folder` says.

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
            raise UserError("`rewind_lr: false` goes with `rewind: none`; rewound weights start a new schedule.")
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
        """The round that runs now, 0 dense; ``len(levels)`` once all are done."""
        self.first_epoch = 0  # of this round, counted over the whole run as the trainer does
        self.first_step = 0
        self._theta_0: Weights = {}  # from the first fit of this process on
        self._rewind_weights: Weights | None = None
        self.fingerprint = ""
        """Of the base model that the run was started from."""
        self.checksum: str | None = None
        """Of the mask that this round trains under; None: dense."""

    @property
    def sparsity(self) -> float:
        """The sparsity of the round that runs now."""
        return self.levels[self.round]

    @property
    def in_last_round(self) -> bool:
        """Whether no pruning follows the round that runs now."""
        return self.round + 1 == len(self.levels)

    # What Lightning calls -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the module's own state."""
        return {
            "round": self.round,
            "first_epoch": self.first_epoch,
            "first_step": self.first_step,
            "fingerprint": self.fingerprint,
            "checksum": self.checksum,
            "rewind_weights": None if self._rewind_weights is None else gathered(self._rewind_weights),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes where the run that wrote ``state_dict`` was."""
        self.round = int(state_dict["round"])
        self.first_epoch = int(state_dict["first_epoch"])
        self.first_step = int(state_dict["first_step"])
        self.fingerprint = state_dict["fingerprint"]
        self.checksum = state_dict["checksum"]
        if state_dict["rewind_weights"] is not None:
            self._rewind_weights = state_dict["rewind_weights"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes theta_0: after the model is sharded, and before a checkpoint is loaded."""
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

    # What the loop calls --------------------------------------------------------------------------------------------

    def prune(
        self, trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule, metrics: dict[str, float]
    ) -> tuple[Ticket, Mask]:
        """Selects the next round's mask, the same on every rank, and returns it, also as a ticket."""
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
            ),
        )
        check_agreement(trainer, ticket.checksum)
        return ticket, mask

    def start_next_round(self, trainer: Trainer, module: SubnetModule, pruned: tuple[Ticket, Mask] | None) -> None:
        """Counts a round as done, and rewinds the weights that the next one's mask keeps.

        Args:
            trainer: the run's.
            module: the model.
            pruned: of :meth:`prune`; None after the last round, whose weights stay as trained.
        """
        self.round += 1
        self.first_epoch, self.first_step = trainer.current_epoch, trainer.global_step
        if pruned is None:
            return
        ticket, mask = pruned
        self.checksum = ticket.checksum
        target = self._rewind_weights if self.rewind == "step" else self._theta_0
        assert target is not None
        module.subnet.rewind(target, mask=mask, base=self.rewind != "none", head=self.head == "reinit")
