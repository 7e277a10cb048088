"""Small runs of IMP on XNLI that divide the same global batches among any number of processes."""

from pathlib import Path
from typing import Any

from lnsub.runs.records import read
from lnsub.tickets.ticket import Ticket

SETTINGS: dict[str, Any] = {
    "data": "lnsub.XNLI",
    "data.init_args.language": "en",
    "data.init_args.max_length": 32,
    "model.learning_rate": 5e-3,
    "trainer.max_epochs": 2,
    "trainer.gradient_clip_val": 1.0,
    "trainer.accelerator": "cpu",
    "trainer.callbacks": "lnsub.IMPCallback",
    "trainer.callbacks.sparsities": "[0.3,0.6]",
    "trainer.enable_progress_bar": "false",
}
GLOBAL_BATCH = 16


def command(base: str, tree: Path, name: str, processes: int, **changes: Any) -> list[str]:
    """The arguments of `lnsub fit`."""
    values = {
        **SETTINGS,
        "model.base_model": base,
        "data.init_args.dataset": tree / "xnli",
        "data.init_args.batch_size": GLOBAL_BATCH // processes,
        "trainer.devices": processes,
        "trainer.strategy": "ddp" if processes > 1 else "auto",
        "output": tree / name,
        **changes,
    }
    return ["fit", *(f"--{key}={value}" for key, value in values.items())]


def folder(tree: Path, name: str) -> Path:
    """The run's folder, which may not be there yet; what is named after a mixture was found on one."""
    return tree / name / "xnli" / ("en+fr" if name.startswith("mixture") else "en") / "seed57"


def tickets(tree: Path, name: str) -> list[Ticket]:
    """The run's tickets, by sparsity."""
    return [Ticket.load(path) for path in sorted((folder(tree, name) / "tickets").iterdir())]


def values(tree: Path, name: str) -> list[float]:
    """The recorded metrics."""
    return [record.value for record in read(folder(tree, name) / "results.jsonl")]
