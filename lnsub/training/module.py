"""SubnetModule: a multilingual model with a task head, trained under a mask. Pruning itself is elsewhere."""

import logging
import math
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lnsub.common.bounds import Part, Seed, Share, UpTo10, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.common.torch_internals import exclude_from_ddp_broadcasts
from lnsub.data.batching import IGNORED
from lnsub.models.apply import apply_ticket
from lnsub.models.compiling import Mode, check_can_compile, compile_for_training
from lnsub.models.pretrained import Dtype
from lnsub.models.subnet import Subnet, Weights
from lnsub.models.theta_0 import on_disk, unrounded
from lnsub.tasks.task import Task
from lnsub.tickets.ticket import Ticket
from lnsub.training.budget import Budget
from lnsub.training.captured import CapturedTraining, StepName
from lnsub.training.device_settings import use_tensor_cores
from lnsub.training.evaluating import Evaluating
from lnsub.training.optimizers import LR_SCHEDULES, OptimizerName, ScheduleName, make_optimizer
from lnsub.training.ranks import relative_count
from lnsub.training.rows_in_use import RowsInUse
from lnsub.training.sharded import ShardedStrategy, check_strategy, compute_dtype
from lnsub.training.staying import StayingOnDevice

log = logging.getLogger(__name__)


class SubnetModule(RowsInUse, CapturedTraining, StayingOnDevice, Evaluating):
    """A Hugging Face model with a task head and a mask on its prunable weights.

    Pruned weights are zeroed once, and their gradients before clipping and the optimizer step. This is equivalent to
    masking in every forward pass, at almost no cost.

    Args:
        task: the model's task; set by the data module.
        base_model: a Hub id or a folder with a Hugging Face checkpoint: theta_0.
        ticket: a ticket file, here or on the Hugging Face Hub (``hf://ORG/NAME/PATH``); the model is fine-tuned under
            its mask. None: dense.
        init: ``pretrained`` starts from the checkpoint, ``random`` from fresh weights of the same shapes
            (a re-initialised ticket).
        learning_rate: the peak learning rate.
        weight_decay: decoupled weight decay; biases and norms have none.
        warmup: share of the schedule's steps over which the learning rate rises from 0, in [0, 1).
        lr_schedule: after the warm-up the learning rate falls to 0 (``linear``) or stays there (``constant``).
        optimizer: ``adamw``, or ``adafactor`` without relative steps, as mT5 is fine-tuned.
        adam_epsilon: AdamW's epsilon.
        attention: ``sdpa`` or ``eager`` of transformers, on padded batches; ``packed``: without padding, with the same
            logits, for BERT-like encoders.
        dtype: that of the weights themselves. ``bfloat16`` halves the memory of weights, gradients and optimizer state,
            but loses updates of less than 1/256 of a weight: for models that do not fit otherwise.
        compile: train through ``torch.compile``, compiling once for all rounds: ``default``; ``reduce-overhead`` with
            CUDA graphs on a GPU; ``max-autotune``. Losses differ from uncompiled ones by rounding, and dropout draws
            other masks. None: do not compile.
        step: ``captured`` runs the whole training step as one CUDA graph for each shape of batch on a GPU; where it
            cannot, it says why and is ``eager``.
        seed: the run's, ``seed_everything``.
        head_seed: seed of the weights that the checkpoint lacks, such as the task head; None: ``seed``.
        order_seed: seed of dropout; None: ``seed``.

    Raises:
        UserError: a value is out of range, or the base model or the ticket cannot be used.
    """

    def __init__(
        self,
        task: Task,
        base_model: str = "google-bert/bert-base-multilingual-cased",
        ticket: str | None = None,
        init: Literal["pretrained", "random"] = "pretrained",
        learning_rate: Part = 5e-5,
        weight_decay: UpTo10 = 0.0,
        warmup: Share = 0.0,
        lr_schedule: ScheduleName = "linear",
        optimizer: OptimizerName = "adamw",
        adam_epsilon: Part = 1e-8,
        attention: Literal["sdpa", "eager", "packed"] = "sdpa",
        dtype: Dtype = "float32",
        compile: Mode | None = None,
        step: StepName = "eager",
        seed: Seed = 0,
        head_seed: Seed | None = None,
        order_seed: Seed | None = None,
    ) -> None:
        super().__init__()
        check_numbers(hints_of(SubnetModule), locals(), prefix="model.")
        self.task = task
        self.base_model = base_model
        self.init = init
        self.seed = seed
        self.head_seed, self.order_seed = (seed if s is None else s for s in (head_seed, order_seed))
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.lr_schedule: ScheduleName = lr_schedule
        self.optimizer_name: OptimizerName = optimizer
        self.adam_epsilon = adam_epsilon
        self.attention = attention
        self.compile_mode = compile
        self.step_name = step
        self.budget: Budget | None = None

        self.ticket = Ticket.load(ticket) if ticket else None  # before the model, so that a bad file fails early
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.head_seed)
            self.model, fresh = task.build(base_model, init=init, attention=attention, dtype=dtype)
        # from_pretrained leaves the model in eval mode, without dropout.
        self.model.train()
        self.subnet = Subnet(self.model)
        if compile is not None:
            compile_for_training(self.model, compile)
        self.fingerprint = self._fingerprint(dtype) if init == "pretrained" else f"random-{self.head_seed}"
        self.has_fresh_weights = bool(fresh)
        self.val_metrics, self.test_metrics = task.metrics(), task.metrics()
        if self.ticket is not None:
            self._apply_ticket(self.ticket)
        # DDP would send all buffers from rank 0 to the others in each forward pass: the masks, 85 MB a step for mBERT,
        # and constants such as position ids. All are equal on all ranks by construction. Said here, it holds for every
        # strategy that a user may choose; its own `broadcast_buffers` holds for one object alone.
        exclude_from_ddp_broadcasts(self, [name for name, _ in self.named_buffers()])

    def _fingerprint(self, dtype: Dtype) -> str:
        """The base model's fingerprint: that of its checkpoint, whatever the dtype it is loaded in."""
        if dtype == "float32":
            return self.subnet.fingerprint()
        exact = partial(self.task.build, self.base_model)
        return self.subnet.fingerprint(unrounded(self.model, self.base_model, self.subnet.weights, exact))

    def snapshot_theta_0(self) -> Weights:
        """Snapshots the untrained model; what its checkpoint holds on disk is mapped, not copied."""
        on_file = self.init == "pretrained" and self.device_mesh is None
        return self.subnet.snapshot(on_disk(self.model, self.base_model) if on_file else None)

    def _apply_ticket(self, ticket: Ticket) -> None:
        """Applies a ticket's mask to the parameters that both have."""
        if self.init == "pretrained":
            ticket.check_base(self.fingerprint, self.base_model)
        fit = apply_ticket(ticket, self.subnet, self.base_model)
        log.info(
            f"Ticket of {ticket.provenance.task}/{ticket.provenance.language} at sparsity "
            f"{ticket.provenance.sparsity}: {fit}."
        )

    @property
    def logged(self) -> list[str]:
        """Names of the metrics that are logged during a fit."""
        return ["train_loss", *(f"val_{name}" for name in self.val_metrics)]

    def configure_model(self) -> None:
        """Sets the device up, and shards the model if the strategy requires it; called before every fit."""
        use_tensor_cores(self.trainer)
        check_strategy(self.trainer.strategy)
        if self.device_mesh is not None:
            self.subnet.shard(self.device_mesh["data_parallel"], compute_dtype(self.trainer))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Returns the task's logits, ``[..., classes]``, aligned with ``batch["labels"]``."""
        if self.compile_mode is None or self.training:
            return self.task.forward(self.model, batch)
        # Compiling for evaluation would take longer than the evaluation.
        with torch.compiler.set_stance("force_eager"):
            return self.task.forward(self.model, batch)

    def batch_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of this rank's part of a batch, weighted so that the mean over ranks is the loss of the whole batch.

        The parts may differ in their number of labels, as they usually do for named entities and masked words.
        """
        loss = self.task.loss(self(batch), batch["labels"])
        if self.trainer.world_size > 1:
            loss = loss * relative_count((batch["labels"] != IGNORED).sum())
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Masks the gradients; Lightning clips after this."""
        self.subnet.mask_gradients()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the masked gradients.

        Lightning refuses to clip for any fused optimizer under mixed precision, although only a gradient scaler, which
        float16 needs and bfloat16 does not, is incompatible.
        """
        if self._scaled or gradient_clip_algorithm == "value" or not gradient_clip_val:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    @property
    def _scaled(self) -> bool:
        """Whether a gradient scaler is in use; fused AdamW would unscale on its own, after clipping."""
        return self.trainer.precision == "16-mixed"

    def on_fit_start(self) -> None:
        """Rejects a configuration that cannot be compiled, or that scales bfloat16 gradients."""
        if self._scaled and next(self.model.parameters()).dtype == torch.bfloat16:
            raise UserError("model.dtype=bfloat16 does not go with trainer.precision=16-mixed: use 32-true.")
        if self.compile_mode is not None:
            check_can_compile(
                self.compile_mode,
                self.device,
                packed=self.attention == "packed",
                sharded=isinstance(self.trainer.strategy, ShardedStrategy),
                accumulated=self.trainer.accumulate_grad_batches,
            )

    def on_train_epoch_start(self) -> None:
        """Seeds dropout by seed, epoch and rank, so that it does not depend on restarts."""
        state = np.random.SeedSequence([self.order_seed, self.current_epoch, self.global_rank]).generate_state(1)
        torch.manual_seed(int(state[0]))
        # Recorded results depend on dropout starting after one draw from this stream.
        torch.empty((), dtype=torch.int64).random_()

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> list[dict[str, Any]]:
        """Returns one prediction per example, decoded by the task."""
        return self.task.decode(self(batch), batch)

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimizer, and its learning-rate schedule over this fit's own steps or those of all rounds."""
        optimizer = make_optimizer(
            self.optimizer_name,
            list(self.parameters()),
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            epsilon=self.adam_epsilon,
            fused=not self._scaled,
            sharded=self.device_mesh is not None,
        )
        budget = self.budget or Budget.of(self.trainer)
        steps = self.fit_steps(budget)
        total, done = steps * budget.parts, steps * budget.part
        factor, warmup = LR_SCHEDULES[self.lr_schedule], round(total * self.warmup)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: factor(at + done, total, warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def fit_steps(self, budget: Budget) -> int:
        """The number of optimizer steps of one fit of this length."""
        self.trainer.fit_loop.setup_data()  # has no effect if already set up
        by_epoch = math.ceil(self.trainer.num_training_batches / self.trainer.accumulate_grad_batches)
        limits = [n for n in (by_epoch * budget.epochs, budget.steps) if n >= 0]
        return max(1, min(limits))
