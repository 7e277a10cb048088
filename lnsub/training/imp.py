"""Iterative magnitude pruning: :class:`IMPCallback` holds settings and state, prunes and rewinds.

Frankle & Carbin (2019), https://arxiv.org/abs/1803.03635; for pre-trained encoders Chen et al. (2020),
https://arxiv.org/abs/2007.12223. :mod:`lnsub.training.rounds` is the loop.
"""

from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from lnsub.common.bounds import Count, Fraction, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.common.lookup import lookup
from lnsub.models.snapshots import on_gpu
from lnsub.models.subnet import Weights
from lnsub.models.unit_maps import units_of
from lnsub.pruning.granularity import prune
from lnsub.pruning.masks import Mask
from lnsub.pruning.schedules import sparsities as scheduled
from lnsub.pruning.scores import SCORES, score
from lnsub.pruning.sharding import gathered
from lnsub.tasks.task import LanguageDataModule
from lnsub.tickets.provenance import Provenance
from lnsub.tickets.ticket import Ticket
from lnsub.tickets.units import Granularity
from lnsub.training.module import SubnetModule
from lnsub.training.origin import provenance_facts
from lnsub.training.ranks import check_agreement
from lnsub.training.samples import Labels, Sample
from lnsub.training.score_inputs import collect_inputs

LINEAR_LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The sparsities of Foroutan et al. (2022)."""


class IMPCallback(Callback):
    """Iterative magnitude pruning: with this among the trainer's callbacks, `lnsub fit` runs IMP.

    :func:`lnsub.training.rounds.run_rounds` is the loop. All output goes to the trainer's ``default_root_dir``, laid
    out as described in :mod:`lnsub.runs.folder`.

    Args:
        schedule: ``linear`` uses ``sparsities`` as listed; ``geometric`` prunes the share ``rate`` of the remaining
            weights in each of ``rounds`` rounds.
        sparsities: for ``linear``: the sparsity after each pruning step, increasing, in (0, 1). Default: 0.1 to 0.9.
        rate: for ``geometric``: the share of the kept weights that each round prunes.
        rounds: for ``geometric``: the number of pruning steps.
        score: the importance of a weight: ``magnitude``, ``random``, ``magnitude_init`` (of theta_0), ``change`` (from
            theta_0), ``taylor`` (weight times gradient), ``fisher`` (Fisher information) or ``wanda`` (weight times
            the norm of its input).
        scope: which weights are ranked together: ``global``, ``layer``, ``matrix``, ``stack`` (encoder and decoder
            separately) or ``row`` (each output feature of each matrix).
        rewind: the values of kept weights after pruning: ``init`` (theta_0), ``step`` (their values after
            ``rewind_step`` steps of round 0; late rewinding, Frankle et al. 2019) or ``none`` (they stay as trained).
        rewind_step: for ``rewind: step``: the optimizer step of round 0.
        rewind_lr: restart the learning-rate schedule in each round; with ``rewind: none`` this is learning-rate
            rewinding (Renda et al. 2020). False lays one schedule over all rounds, of which each sees its part, as the
            code of Foroutan et al. does.
        head: ``reinit`` rewinds the task head too; ``keep`` keeps training it across rounds, as the code of Foroutan
            et al. does.
        score_examples: for ``taylor``, ``fisher`` and ``wanda``: training examples to compute the score from, drawn
            once by the seed; all, where there are fewer. Default: 1024.
        fisher_labels: for ``fisher``: ``observed`` takes the data's labels (empirical Fisher information), ``sampled``
            draws one for each counted position from the model's own distribution. Default: ``observed``.
        keep_checkpoint: keep ``checkpoints/last.ckpt``, with the last round's trained weights, when the run is done.
        granularity: what is pruned as a whole: single ``weight``s; a ``neuron`` of a feed-forward block; an attention
            ``head``; a ``row`` of a matrix. It is ranked by the mean score of its weights, and sparsities are shares
            of the weights of such units; other matrices stay dense.

    Raises:
        UserError: a value is out of range, or an option does not apply to the chosen variant.
    """

    def __init__(
        self,
        schedule: Literal["linear", "geometric"] = "linear",
        sparsities: list[Fraction] | None = None,
        rate: Fraction | None = None,
        rounds: Count | None = None,
        score: Literal["magnitude", "random", "magnitude_init", "change", "taylor", "fisher", "wanda"] = "magnitude",
        scope: Literal["global", "layer", "matrix", "stack", "row"] = "global",
        rewind: Literal["init", "step", "none"] = "init",
        rewind_step: Count | None = None,
        rewind_lr: bool = True,
        head: Literal["reinit", "keep"] = "reinit",
        score_examples: Count | None = None,
        fisher_labels: Labels | None = None,
        keep_checkpoint: bool = False,
        granularity: Granularity = "weight",
    ) -> None:
        check_numbers(hints_of(IMPCallback), locals())
        levels = list(LINEAR_LEVELS) if sparsities is None and schedule == "linear" else sparsities
        self.levels = (0.0, *scheduled(schedule, levels=levels, rate=rate, rounds=rounds))
        if (rewind == "step") != (rewind_step is not None):
            raise UserError("rewind_step and `rewind: step` require each other: set both or neither.")
        if scope == "row" and granularity != "weight":
            raise UserError(f"scope row ranks single weights: choose another for granularity {granularity}.")
        if score_examples is not None and not lookup("score", score, SCORES).reads_data:
            reading = ", ".join(name for name, entry in SCORES.items() if entry.reads_data)
            raise UserError(f"score_examples is for the scores that read examples ({reading}), not for {score}.")
        if fisher_labels is not None and score != "fisher":
            raise UserError(f"fisher_labels requires `score: fisher`; the score is {score}.")
        self.schedule = schedule
        self.score = score
        self.scope = scope
        self.rewind = rewind
        self.rewind_step = rewind_step
        self.rewind_lr = rewind_lr
        self.head = head
        self.sample = Sample(score_examples or Sample.examples, fisher_labels or Sample.labels)
        self.keep_checkpoint = keep_checkpoint
        self.granularity: Granularity = granularity

        self.round = 0
        """The current round, 0 being dense; ``len(levels)`` once all are done."""
        self.first_epoch = 0  # of this round, counted over the whole run like the trainer's
        self.first_step = 0
        self._theta_0: Weights = {}  # set in the first fit of this process
        self._rewind_weights: Weights | None = None
        self._target: Weights | None = None  # what rounds are rewound to, on the GPU if it fits
        self.fingerprint = ""
        """Fingerprint of the base model that the run was started from."""
        self.checksum: str | None = None
        """Checksum of the mask of the current round; None: dense."""

    @classmethod
    def of(cls, trainer: Trainer) -> "IMPCallback | None":
        """The one among a trainer's callbacks; None where it does not run IMP."""
        return next((callback for callback in trainer.callbacks if isinstance(callback, cls)), None)

    @property
    def sparsity(self) -> float:
        """The sparsity of the current round."""
        return self.levels[self.round]

    @property
    def ranked_by(self) -> str:
        """How weights are ranked, as records call it; see :attr:`lnsub.tickets.provenance.Provenance.ranked_by`."""
        return self.score if self.granularity == "weight" else f"{self.score} by {self.granularity}"

    @property
    def in_last_round(self) -> bool:
        """Whether the current round is the last, after which nothing is pruned."""
        return self.round + 1 == len(self.levels)

    # What Lightning calls -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs in addition to the module's."""
        return {
            "round": self.round,
            "first_epoch": self.first_epoch,
            "first_step": self.first_step,
            "fingerprint": self.fingerprint,
            "checksum": self.checksum,
            "rewind_weights": None if self._rewind_weights is None else gathered(self._rewind_weights),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state of :meth:`state_dict`."""
        self.round = int(state_dict["round"])
        self.first_epoch = int(state_dict["first_epoch"])
        self.first_step = int(state_dict["first_step"])
        self.fingerprint = state_dict["fingerprint"]
        self.checksum = state_dict["checksum"]
        if state_dict["rewind_weights"] is not None:
            self._rewind_weights, self._target = state_dict["rewind_weights"], None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Snapshots theta_0, after the model is sharded and before a checkpoint is loaded."""
        assert isinstance(pl_module, SubnetModule)
        if stage == "fit" and not self._theta_0:
            pl_module.configure_model()  # Lightning calls it again later, which then has no effect
            self._theta_0 = pl_module.snapshot_theta_0()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Drops the optimizer state from a checkpoint between rounds: the next round starts with a fresh optimizer."""
        if not trainer.training:
            checkpoint["optimizer_states"] = []
            checkpoint["lr_schedulers"] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rejects a rewind step that round 0 would never reach."""
        assert isinstance(pl_module, SubnetModule)
        if pl_module.budget is None:
            raise UserError("IMPCallback needs the loop over rounds: call lnsub.fit(trainer, module, datamodule).")
        steps = pl_module.fit_steps(pl_module.budget)
        if self.rewind_step is not None and self.rewind_step > steps:
            raise UserError(f"rewind_step is {self.rewind_step}, but a round has only {steps} optimizer steps.")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Snapshots the weights for late rewinding."""
        if self.rewind == "step" and self.round == 0 and trainer.global_step == self.rewind_step:
            assert isinstance(pl_module, SubnetModule)
            self._rewind_weights = pl_module.subnet.snapshot()

    # What the loop calls --------------------------------------------------------------------------------------------

    def prune(
        self, trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule, metrics: dict[str, float]
    ) -> tuple[Ticket, Mask]:
        """Selects the next round's mask, the same on every rank; returns it as a ticket and as a mask."""
        units = units_of(module.model, self.granularity)
        inputs = collect_inputs(self.score, trainer, module, datamodule, self._theta_0, self.sample)
        sparsity = self.levels[self.round + 1]
        mask = prune(score(self.score, inputs), module.subnet.mask, sparsity, self.scope, units, inputs.inputs)
        found = mask if units is None else mask.restricted(units.parameters)
        ticket = Ticket(
            masks=found.to_packed(),
            shapes=found.shapes,
            provenance=Provenance(
                base_model=module.base_model,
                base_fingerprint=module.fingerprint,
                task=module.task.name,
                language=datamodule.language,
                seed=module.seed,
                **provenance_facts(module, datamodule),
                round=self.round + 1,
                sparsity=sparsity,
                score=self.score,
                scope=self.scope,
                schedule=self.schedule,
                metric=f"{module.task.metric}={metrics[module.task.metric]:.6f}",
                granularity=self.granularity,
                units=units.to_json() if units else "",
            ),
        )
        check_agreement(trainer, ticket.checksum)
        return ticket, mask

    def start_next_round(self, trainer: Trainer, module: SubnetModule, pruned: tuple[Ticket, Mask] | None) -> None:
        """Advances to the next round, and rewinds the weights that its mask keeps.

        Args:
            trainer: the run's trainer.
            module: the model.
            pruned: the result of :meth:`prune`; None after the last round, whose weights stay as trained.
        """
        self.round += 1
        self.first_epoch, self.first_step = trainer.current_epoch, trainer.global_step
        if pruned is None:
            return
        ticket, mask = pruned
        self.checksum = ticket.checksum
        if self._target is None:
            target = self._rewind_weights if self.rewind == "step" else self._theta_0
            assert target is not None
            self._target = target if self.rewind == "none" else on_gpu(target, module.device)
        module.subnet.rewind(self._target, mask=mask, base=self.rewind != "none", head=self.head == "reinit")
