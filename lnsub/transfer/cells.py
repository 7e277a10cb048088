"""The cells of a transfer: which fine-tunings there are, in which order, and what each is called.

A cell is one fine-tuning from theta_0 of a ticket, or of a baseline, on one language with one seed. Which cells there
are, and their numbers, follow from the arguments and the ticket files alone, so every process of a SLURM array counts
alike. Nothing here needs torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from lnsub.common.errors import UserError
from lnsub.common.lookup import lookup
from lnsub.common.names import plain_name
from lnsub.tickets.finding import FoundTicket, at, slug
from lnsub.transfer.baselines import BASELINES

# Dense first: the one-shot masks are made of it.
_ORDER = {name: place for place, name in enumerate(["dense", "ticket", "reinit", "shuffled", "oneshot", "random"])}


@dataclass(frozen=True)
class OneShot:
    """A one-shot mask: of one dense fine-tuning, in one pruning step.

    Attributes:
        sparsity: its sparsity.
        scope: what is ranked together, a key of :data:`lnsub.pruning.scopes.SCOPES`.
    """

    sparsity: float
    scope: str

    @property
    def name(self) -> str:
        """A name for files: ``s0.50``."""
        return at(self.sparsity) + ("" if self.scope == "global" else f"-{slug(self.scope)}")

    def mask_name(self, task: str, language: str, seed: int) -> str:
        """Names its ticket file."""
        return f"oneshot-{slug(task)}-{slug(language)}-seed{seed}-{self.name}.safetensors"


@dataclass(frozen=True)
class Cell:
    """One fine-tuning and what is measured after it.

    Attributes:
        kind: of its records: ``transfer``, or ``zero_shot`` (trained on the source, measured on the targets).
        variant: ``ticket``, or a key of :data:`~lnsub.transfer.baselines.BASELINES`.
        task: the task that it is trained on.
        language: the language that it is trained on.
        targets: the languages that it is measured on.
        seed: the seed of the fine-tuning, and of a random mask.
        found: the ticket that it is, or is compared with; None for ``dense``.
        prunes: for ``dense``: the one-shot masks to make of the trained weights.
    """

    kind: str
    variant: str
    task: str
    language: str
    targets: tuple[str, ...]
    seed: int
    found: FoundTicket | None = None
    prunes: tuple[OneShot, ...] = ()

    @cached_property
    def id(self) -> str:
        """The name of its folder: ``xnli-ur-seed57-from-xnli-fr-seed57-s0.50-1a2b3c4d``."""
        zero_shot = "zero_shot-" if self.kind == "zero_shot" else ""
        return f"{slug(self.task)}-{zero_shot}{slug(self.language)}-seed{self.seed}-{self._what}"

    @property
    def _what(self) -> str:
        if self.found is None:
            return "dense"
        if self.variant == "random":
            return f"random-{at(self.sparsity)}-{self.found.shapes_name}"
        if self.variant == "oneshot":
            return f"oneshot-from-{slug(self.found.provenance.language)}-{self.one_shot.name}"
        return f"{'' if self.variant == 'ticket' else f'{self.variant}-'}from-{self.found.name}"

    @property
    def sparsity(self) -> float:
        """The sparsity asked for, 0 for ``dense``."""
        return self.found.provenance.sparsity if self.found else 0.0

    @property
    def source(self) -> str | None:
        """The language that the mask owes something to; None where it owes nothing to any."""
        if self.kind == "zero_shot":
            return self.language
        return self.found.provenance.language if self.found and self.variant != "random" else None

    @property
    def one_shot(self) -> OneShot:
        """For ``oneshot``: which mask of the dense fine-tuning it is."""
        assert self.found is not None
        return OneShot(self.sparsity, self.found.provenance.scope)

    @property
    def mask_name(self) -> str | None:
        """The file of a mask that is made for this cell, and for others like it; None where it needs no such mask."""
        if self.found is None or self.variant in {"ticket", "reinit"}:
            return None
        if self.variant == "shuffled":
            return f"shuffled-{self.found.name}-seed{self.seed}.safetensors"
        if self.variant == "oneshot":
            return self.one_shot.mask_name(self.task, self.found.provenance.language, self.seed)
        return f"random-{at(self.sparsity)}-seed{self.seed}-{self.found.shapes_name}.safetensors"

    @cached_property
    def row(self) -> str:
        """What it is called in tables, whatever the target, sparsity and seed: ``fr``, ``fr shuffled``, ``random``."""
        if self.found is None or self.variant == "random":
            return self.variant if self.kind == "transfer" else f"{self.language} {self.variant}"
        p = self.found.provenance
        names = ((p.task, self.task), (p.score, "magnitude"), (p.scope, "global"))
        odd = ", ".join(name for name, usual in names if name != usual)
        words = [p.language, *([f"({odd})"] if odd else []), *([] if self.variant == "ticket" else [self.variant])]
        return " ".join(words)

    @property
    def title(self) -> str:
        """One line for a person: ``fr → ur · sparsity 0.50 · seed 57``."""
        arrow = "⇢" if self.kind == "zero_shot" else "→"
        sparsity = f" · sparsity {self.sparsity:.2f}" if self.found else ""
        return f"{self.row} {arrow} {','.join(self.targets)}{sparsity} · seed {self.seed}"


def plan(
    tickets: Sequence[FoundTicket],
    task: str,
    languages: Sequence[str],
    seeds: Sequence[int],
    baselines: Iterable[str] = (),
    *,
    zero_shot: bool = False,
) -> list[Cell]:
    """Lists the cells.

    A transfer trains each ticket on each language; a zero-shot transfer trains it on its own language only and measures
    it on each. A baseline that does not depend on the ticket is one cell for all tickets. ``oneshot`` brings the dense
    cells that its masks are made of.

    Args:
        tickets: see :func:`~lnsub.tickets.finding.find_tickets`.
        task: the task to train on.
        languages: the targets.
        seeds: each cell once for each.
        baselines: some of :data:`~lnsub.transfer.baselines.BASELINES`.
        zero_shot: list the cells of the zero-shot transfer.

    Returns:
        The cells, in an order that depends on the set of them alone.

    Raises:
        UserError: a language is not a plain name; there is no such baseline; ``zero_shot`` and a ticket was not found
            on one language; ``oneshot`` and no ticket was found on one language of this task.
    """
    baselines = list(baselines)
    for name in baselines:
        lookup("baseline", name, BASELINES)
    if zero_shot and (homeless := next((t for t in tickets if not t.has_one_source), None)):
        raise UserError(
            f"Ticket {homeless.path} was not found on one language but on {homeless.provenance.language}, so there is "
            "no source to fine-tune it on: leave it out, or --zero-shot."
        )
    at_once = [ticket for ticket in tickets if ticket.has_one_source and ticket.provenance.task == task]
    if "oneshot" in baselines and not at_once:
        raise UserError(
            "--baselines oneshot prunes after one dense fine-tuning, of this task and on a ticket's own language: "
            f"none of the tickets was found on one language of {task}."
        )
    prunes: dict[str, set[OneShot]] = {}
    for p in (ticket.provenance for ticket in at_once if "oneshot" in baselines):
        prunes.setdefault(p.language, set()).add(OneShot(p.sparsity, p.scope))
    kind = "zero_shot" if zero_shot else "transfer"
    targets = tuple(plain_name("language", language) for language in dict.fromkeys(languages))
    cells: dict[str, Cell] = {}

    def add(variant: str, language: str, seed: int, **of: object) -> None:
        measured = targets if zero_shot else (language,)
        cell = Cell(kind, variant, task, language, measured, seed, **of)  # type: ignore[arg-type]
        cells.setdefault(cell.id, cell)

    trained: set[str] = set()
    for seed in seeds:
        for ticket in tickets:
            for language in [ticket.provenance.language] if zero_shot else targets:
                trained.add(language)
                add("ticket", language, seed, found=ticket)
                for variant in baselines:
                    if variant != "dense" and (variant != "oneshot" or ticket in at_once):
                        add(variant, language, seed, found=ticket)
        for language in (trained if "dense" in baselines else set()) | prunes.keys():
            made = tuple(sorted(prunes.get(language, ()), key=lambda one_shot: (one_shot.sparsity, one_shot.scope)))
            add("dense", language, seed, prunes=made)
    return sorted(cells.values(), key=_cell_key)


def _cell_key(cell: Cell) -> tuple[object, ...]:
    # Of cells that stand for several tickets, which of them it was must not tell.
    ticket = cell.found.key if cell.found and cell.variant in {"ticket", "reinit", "shuffled"} else ()
    return (_ORDER[cell.variant], ticket, cell.sparsity, cell.language, cell.seed, cell.id)
