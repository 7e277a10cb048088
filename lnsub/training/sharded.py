"""Models beyond one GPU: Lightning's FSDP2 strategy, configured for lnsub.

Importing this module registers the strategy ``sharded``.
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
    gathered and written by rank 0, so that a run can be resumed on any number of processes and with any strategy.

    Args:
        process_group_backend: ``nccl`` or ``gloo`` (for CPUs); None: the device's default.
        timeout: timeout of collective operations; None: torch's default.
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
        """Loads a checkpoint into the model and, if it has optimizer states, into the optimizers.

        Checkpoints between rounds have none, because the next round starts with a fresh optimizer; Lightning requires
        them.
        """
        checkpoint = torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=weights_only)
        optimizers: list[torch.optim.Optimizer] = self.optimizers  # type: ignore[has-type]
        if not checkpoint.get("optimizer_states"):
            self.optimizers = []
        try:
            return super().load_checkpoint(checkpoint_path, weights_only)
        finally:
            self.optimizers = optimizers


StrategyRegistry.register("sharded", ShardedStrategy, description="FSDP2: every process holds a shard of the model")


def check_strategy(strategy: Strategy) -> None:
    """Rejects strategies that flatten or move weights so that masks cannot follow, or need a model built for them.

    Raises:
        UserError: the strategy is not supported.
    """
    others = (FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy)
    if isinstance(strategy, others) and not isinstance(strategy, ShardedStrategy):
        raise UserError(
            f"Masks cannot follow the weights under {type(strategy).__name__}: to shard a model over processes, "
            "use --trainer.strategy=sharded."
        )


def compute_dtype(trainer: Trainer) -> torch.dtype | None:
    """The compute dtype of a sharded model for the trainer's precision; None: the dtype of its weights.

    Raises:
        UserError: the precision is not supported for sharded models.
    """
    if trainer.precision not in ("32-true", "bf16-mixed"):
        raise UserError(
            f"--trainer.strategy=sharded needs --trainer.precision=32-true or bf16-mixed, not {trainer.precision}."
        )
    return torch.bfloat16 if trainer.precision == "bf16-mixed" else None
