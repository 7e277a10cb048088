"""Models beyond one GPU: Lightning's strategy for FSDP2, set up for what lnsub does.

Importing this gives trainers the strategy ``sharded``.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    Strategy,
    StrategyRegistry,
)

from lnsub.common.errors import UserError
from lnsub.training.lightning_internals import shard_over_all


class ShardedStrategy(ModelParallelStrategy):
    """Shards the model over all processes: each holds its rows of weights, masks, gradients and optimizer state.

    Lightning's ModelParallelStrategy, with all processes in its data-parallel dimension. Checkpoints are plain files,
    gathered and written by rank 0, so that a run can be resumed on any number of processes, and by any strategy.

    Args:
        process_group_backend: ``nccl``, ``gloo``; None: what suits the device. CPUs work too, with gloo.
        timeout: how long a process waits for the others before it gives up; None: torch's own default.
    """

    def __init__(self, process_group_backend: str | None = None, timeout: timedelta | None = None) -> None:
        given = {} if timeout is None else {"timeout": timeout}
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            **given,
        )

    def setup_environment(self) -> None:
        """Starts the process group, with every process in the data-parallel dimension."""
        shard_over_all(self)
        super().setup_environment()

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Loads a checkpoint into the model and, where it has their state, into the optimizers.

        Between rounds there is none, as the next round starts afresh; Lightning would insist on it.
        """
        checkpoint = torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=weights_only)
        optimizers: list[torch.optim.Optimizer] = self.optimizers  # type: ignore[has-type]
        if not checkpoint.get("optimizer_states"):
            self.optimizers = []
        try:
            return super().load_checkpoint(checkpoint_path, weights_only)
        finally:
            self.optimizers = optimizers


StrategyRegistry.register("sharded", ShardedStrategy, description="FSDP2: every process holds a part of the model")


def check_strategy(strategy: Strategy) -> None:
    """Refuses a strategy that puts weights where no mask finds them, or that needs a model made for it.

    Raises:
        UserError: it is such a one.
    """
    others = (FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy)
    if isinstance(strategy, others) and not isinstance(strategy, ShardedStrategy):
        raise UserError(
            f"Masks cannot follow the weights under {type(strategy).__name__}: to shard a model over processes, "
            "use --trainer.strategy=sharded."
        )


def compute_dtype(trainer: Trainer) -> torch.dtype | None:
    """What a sharded model computes in, by the trainer's precision; None: the dtype of its weights.

    Raises:
        UserError: it is a precision that does not go with sharing out.
    """
    if trainer.precision not in ("32-true", "bf16-mixed"):
        raise UserError(
            f"--trainer.strategy=sharded goes with --trainer.precision=32-true or bf16-mixed, not {trainer.precision}."
        )
    return torch.bfloat16 if trainer.precision == "bf16-mixed" else None
