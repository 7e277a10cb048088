"""A run's folder, which keeps everything that one (task, language, seed) leaves behind.

::

    runs/<task>/<language>/seed<k>/      seed<k>-sample1/ under a condition (:mod:`lnsub.runs.condition`)
        config.yaml                      the resolved configuration; `lnsub fit --config` of it repeats the run
        tickets/s0.10.safetensors ...    one per sparsity
        results.jsonl                    one record per line
        examples/dense-fr-validation.npz ... what was right of each example, one per evaluation
        checkpoints/last.ckpt            to resume from; previous.ckpt is the one before
        metrics.csv, wandb/              the loggers' own
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lnsub.common.names import plain_name
from lnsub.runs.condition import PLAIN, Condition
from lnsub.runs.examples import FOLDER, file_name
from lnsub.runs.records import FILE_NAME, Record, append, read


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run.

    Attributes:
        path: the folder itself; made on the first write.
    """

    path: Path

    @classmethod
    def of(cls, output: str | Path, task: str, language: str, seed: int, condition: Condition = PLAIN) -> "RunFolder":
        """The folder of one (task, language, seed), and condition, in the tree of runs ``output``.

        Raises:
            UserError: the task or language is not one plain path component, and might lead out of ``output``.
        """
        apart = condition.name(seed)
        name = f"seed{seed}" + (f"-{apart}" if apart else "")
        return cls(Path(output) / plain_name("task", task) / plain_name("language", language) / name)

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        """What an interrupted run is resumed from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def previous_checkpoint(self) -> Path:
        """The one before, in case that is damaged."""
        return self.checkpoint.with_name("previous.ckpt")

    @property
    def started(self) -> bool:
        """Whether it holds anything of a run that could be resumed."""
        return self.results.exists() or self.checkpoint.exists() or self.previous_checkpoint.exists()

    @property
    def results(self) -> Path:
        """The file of records."""
        return self.path / FILE_NAME

    def examples(self, record: Record) -> Path:
        """The file of what was counted of each example in a record's evaluation; there need not be one."""
        return self.path / FOLDER / file_name(record)

    def sweep(self) -> None:
        """Removes what killed processes left half-written; call it only while no other process writes here."""
        for folder in (self.path, self.path / "tickets", self.path / FOLDER, self.checkpoint.parent):
            for path in folder.glob("*.partial"):
                path.unlink()

    def ticket(self, sparsity: float) -> Path:
        """The file of the ticket at ``sparsity``."""
        return self.path / "tickets" / ticket_filename(sparsity)

    def records(self, kind: str) -> list[Record]:
        """The existing records of one kind."""
        return [record for record in read(self.results) if record.kind == kind]

    def measured(self, kind: str, metrics: Collection[str]) -> set[tuple[int | None, str, str]]:
        """Returns what is completely recorded, as triples of round, target and split.

        Args:
            kind: the kind of record.
            metrics: the metrics of a complete measurement; a crash may have written only some of them.
        """
        there: dict[tuple[int | None, str, str], set[str]] = {}
        for record in self.records(kind):
            there.setdefault((record.round, record.target, record.split), set()).add(record.metric)
        return {measurement for measurement, names in there.items() if names >= set(metrics)}

    def record(self, records: list[Record]) -> None:
        """Adds records, except for measurements that are recorded already."""
        there = {_key(record) for record in read(self.results)}
        append(self.results, [record for record in records if _key(record) not in there])


def _key(record: Record) -> tuple[object, ...]:
    return (record.kind, record.round, record.target, record.split, record.metric, record.ticket, record.layer)


def ticket_filename(sparsity: float) -> str:
    """Names a ticket's file for its sparsity: ``s0.10.safetensors``, ``s0.875.safetensors``.

    Args:
        sparsity: pruned share, in [0, 1].

    Returns:
        The name: two decimals, and up to six where the value needs them.

    Raises:
        ValueError: ``sparsity`` is outside [0, 1].
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"a sparsity lies between 0 and 1, not at {sparsity}")
    whole, _, decimals = f"{sparsity:.6f}".partition(".")
    return f"s{whole}.{decimals.rstrip('0').ljust(2, '0')}.safetensors"
