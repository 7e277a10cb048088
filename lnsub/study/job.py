"""One job of a study: a plain `lnsub` command, what it needs, and what it leaves."""

import shlex
from dataclasses import dataclass
from typing import Any

from lnsub.study.leaves import Leaves, from_plain, to_plain

KINDS = {
    "fetch": "fetch models and data",
    "tokenise": "tokenise",
    "fit": "find tickets",
    "transfer": "transfer",
    "zero-shot": "zero-shot transfer",
    "across": "transfer across tasks",
    "retrieve": "sentence retrieval",
    "similarity": "similarity of states",
    "report": "report",
}
"""Kinds of jobs in the order that data flows, and what they are called."""

ON_GPU = frozenset({"fit", "transfer", "zero-shot", "across", "retrieve", "similarity"})
"""Kinds that compute on a GPU where there is one."""

DISTRIBUTED = frozenset({"fit", "transfer", "zero-shot", "across"})
"""Kinds that can run on several processes."""

RESUMABLE = frozenset({"fit", "transfer", "zero-shot", "across"})
"""Kinds that save when a signal stops them; the others are short and start anew."""


@dataclass(frozen=True)
class Work:
    """How much a job computes, as far as it can be known before it runs.

    Attributes:
        task: what its speed is compared among; empty where there is no task.
        languages: whose receipts tell the number of tokens.
        seed: of a mixture, whose rows depend on it.
        fits: how many fine-tunings.
        epochs: of each; None where ``steps`` bound it.
        steps: of each; None where ``epochs`` bound it.
        batch: rows in a training batch, over all processes.
        rows: training rows before they are tokenised, as limited by the configuration; None: unknown.
        measured: passes over validation splits in all.
        weights: prunable weights of the model; 0: unknown.
    """

    task: str = ""
    languages: tuple[str, ...] = ()
    seed: int | None = None
    fits: int = 0
    epochs: int | None = None
    steps: int | None = None
    batch: int = 32
    rows: int | None = None
    measured: int = 0
    weights: int = 0


@dataclass(frozen=True)
class Job:
    """A job.

    Attributes:
        id: its name, also of its folder: ``fit-wikiann-fr-seed57``.
        kind: a key of :data:`KINDS`.
        args: the command line after ``lnsub``.
        leaves: what it leaves.
        needs: jobs that must be done before.
        after: jobs that must have ended before, one way or the other.
        place: its number among the jobs of its kind that other kinds' jobs correspond to; the index in a SLURM array.
        work: how much it computes.
    """

    id: str
    kind: str
    args: tuple[str, ...]
    leaves: Leaves
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    place: int = 0
    work: Work = Work()

    @property
    def command(self) -> str:
        """The command as one would type it."""
        return shlex.join(("lnsub", *self.args))

    def to_plain(self) -> dict[str, Any]:
        """Itself, JSON-able."""
        return {**vars(self), "leaves": to_plain(self.leaves), "work": vars(self.work)}

    @classmethod
    def from_plain(cls, found: dict[str, Any]) -> "Job":
        """The inverse of :meth:`to_plain`.

        Raises:
            KeyError, TypeError: it is not what that returned.
        """
        lists = {name: tuple(found[name]) for name in ("args", "needs", "after")}
        work = Work(**{**found["work"], "languages": tuple(found["work"]["languages"])})
        return cls(**{**found, **lists, "leaves": from_plain(found["leaves"]), "work": work})
