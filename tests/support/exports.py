"""Tickets of a tiny model, and fits under them, to export."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lnsub.models.inherited import Theta0
from lnsub.tasks import tasks
from lnsub.training.module import SubnetModule
from tests.support.ticket_factory import ticket

WORDS = ["the", "cat", "sat", "on", "a", "mat"]
SEED = 3
POOLER = "pooler.dense.weight"


def masks_of(theta_0: Theta0, task: str = "xnli", density: float = 0.4) -> dict[str, np.ndarray]:
    """Random masks of what a task's model has: classifiers of pairs have a pooler, which the checkpoint lacks."""
    rng = np.random.default_rng(len(task))
    shapes = {name: theta_0[name].shape for name in theta_0} | ({POOLER: (16, 16)} if task == "xnli" else {})
    return {name: rng.random(shape) < density for name, shape in shapes.items()}


def saved(folder: Path, theta_0: Theta0, task: str = "xnli", density: float = 0.4, **changes: Any) -> Path:
    facts = {"base_model": theta_0.base_model, "base_fingerprint": theta_0.fingerprint, "task": task, "seed": SEED}
    made = ticket(masks_of(theta_0, task, density), **(facts | {"sparsity": 1 - density} | changes))
    return made.save(folder / f"{task}-{density}.ticket")


def inputs(vocabulary: int = 11) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(5)
    return {
        "input_ids": torch.randint(0, vocabulary, (4, 9), generator=rng),
        "attention_mask": torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] * 7 + [0] * 2, [1] * 9]),
    }


@torch.no_grad()
def logits(model: torch.nn.Module) -> Tensor:
    return model.eval()(**inputs()).logits


def trained(folder: Path, ticket_file: Path | None, theta_0: Theta0, task: str, steps: int = 2) -> tuple[Path, Tensor]:
    """Fine-tunes under a ticket with the real trainer; its checkpoint, and the logits of what it trained."""
    module = SubnetModule(
        tasks()[task](theta_0.base_model), theta_0.base_model, ticket=ticket_file and str(ticket_file), seed=SEED
    )
    labels = {"xnli": torch.arange(4) % 3, "wikiann": torch.arange(36).view(4, 9) % 7, "mlm": torch.arange(4)}[task]
    batch = inputs() | {"labels": labels} | ({"positions": torch.arange(4)} if task == "mlm" else {})
    trainer = Trainer(
        default_root_dir=folder,
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader([batch] * 2, batch_size=None))
    path = folder / "checkpoints" / "last.ckpt"
    trainer.save_checkpoint(path)
    return path, logits(module.model)
