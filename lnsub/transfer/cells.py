"""The cells of a transfer: their order, names and numbers.

A cell is one fine-tuning run from theta_0, of a ticket or a baseline, on one language with one seed. The cells and
their numbers depend only on the arguments and the ticket files, so that all tasks of a SLURM array agree on them.
Nothing here needs torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from lnsub.common.errors import UserError
from lnsub.common.names import plain_name
from lnsub.common.printable import printable
from lnsub.tickets.finding import FoundTicket, lower_tickets, slug, sparsity_label
from lnsub.tickets.provenance import INHERITED, RANDOM_FROM
from lnsub.transfer.baselines import parse_baseline

# Dense first: one-shot masks are made from it.
_VARIANTS = ("dense", "ticket", "reinit", "shuffled", "oneshot", RANDOM_FROM, "inherited", "random")
_ORDER = {name: place for place, name in enumerate(_VARIANTS)}
# Masks that owe nothing to a language, so that all tickets of a sparsity share them.
_UNSOURCED = frozenset({"random", "inherited"})


@dataclass(frozen=True)
class OneShot:
    """A one-shot mask: one pruning step on a fine-tuned dense model.

    Attributes:
        sparsity: its sparsity.
        scope: which weights are ranked together, a key of :data:`lnsub.pruning.scopes.SCOPES`.
        granularity: what is pruned as a whole.
    """

    sparsity: float
    scope: str
    granularity: str = "weight"

    @property
    def name(self) -> str:
        """A name for files: ``s0.50``."""
        odd = [slug(text) for text, usual in ((self.scope, "global"), (self.granularity, "weight")) if text != usual]
        return "-".join([sparsity_label(self.sparsity), *odd])

    def mask_name(self, task: str, language: str, seed: int) -> str:
        """The name of its ticket file."""
        return f"oneshot-{slug(task)}-{slug(language)}-seed{seed}-{self.name}.safetensors"


@dataclass(frozen=True)
class Cell:
    """One fine-tuning run and its evaluation.

    Attributes:
        kind: the kind of its records: ``transfer``, or ``zero_shot`` (trained on the source, evaluated on the targets).
        variant: ``ticket``, or a key of :data:`~lnsub.transfer.baselines.BASELINES`.
        task: the task that it is trained on.
        language: the language that it is trained on.
        targets: the languages that it is evaluated on.
        seed: seed of the fine-tuning run, and of a random mask.
        found: its ticket, or the ticket that a baseline is compared with; None for ``dense``.
        start: for ``random_from``: the ticket of a lower sparsity that its mask is drawn from.
        prunes: for ``dense``: the one-shot masks to make from the trained weights.
    """

    kind: str
    variant: str
    task: str
    language: str
    targets: tuple[str, ...]
    seed: int
    found: FoundTicket | None = None
    start: FoundTicket | None = None
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
            return f"random-{sparsity_label(self.sparsity)}-{self.found.shapes_name}"
        if self.variant == "inherited":
            return f"inherited-{self.one_shot.name}-{self.found.shapes_name}"
        if self.start is not None:
            return f"{self.variant}-{self.start.name}-to-{sparsity_label(self.sparsity)}"
        if self.variant == "oneshot":
            return f"oneshot-from-{slug(self.found.provenance.language)}-{self.one_shot.name}"
        return f"{'' if self.variant == 'ticket' else f'{self.variant}-'}from-{self.found.name}"

    @property
    def sparsity(self) -> float:
        """The requested sparsity; 0 for ``dense``."""
        return self.found.provenance.sparsity if self.found else 0.0

    @property
    def mask_of(self) -> FoundTicket | None:
        """The ticket that the mask owes something to; None for ``dense``, and for masks of no language."""
        return None if self.variant in _UNSOURCED else self.found

    @property
    def score(self) -> str:
        """For a baseline whose mask is made for it: what stands as the score in the mask's provenance."""
        return f"{self.variant}:{self.start.provenance.sparsity:g}" if self.start else self.variant

    @property
    def source(self) -> str | None:
        """The language that the mask depends on, or None."""
        if self.kind == "zero_shot":
            return self.language
        return self.mask_of.provenance.language if self.mask_of else None

    @property
    def one_shot(self) -> OneShot:
        """For ``oneshot`` and ``inherited``: the mask that it trains under."""
        assert self.found is not None
        p = self.found.provenance
        return OneShot(p.sparsity, p.scope, p.granularity)

    @property
    def mask_name(self) -> str | None:
        """The file name of a mask to be made for this cell, possibly shared with others; None if it needs none."""
        if self.found is None or self.variant in {"ticket", "reinit"}:
            return None
        if self.variant == "shuffled":
            return f"shuffled-{self.found.name}-seed{self.seed}.safetensors"
        if self.variant == "oneshot":
            return self.one_shot.mask_name(self.task, self.found.provenance.language, self.seed)
        if self.variant == "inherited":
            return f"{self._what}.safetensors"
        if self.start is not None:
            return f"{self._what}-seed{self.seed}.safetensors"
        return f"random-{sparsity_label(self.sparsity)}-seed{self.seed}-{self.found.shapes_name}.safetensors"

    @cached_property
    def row(self) -> str:
        """Its row label in tables, without target, sparsity and seed: ``fr``, ``fr shuffled``, ``random``."""
        variant = self.variant
        if self.start is not None:
            variant = f"random from {100 * self.start.provenance.sparsity:g} %"
        if self.found is None or self.variant in _UNSOURCED:
            if self.variant == "inherited" and self.one_shot.scope != "global":
                variant += f" ({self.one_shot.scope})"
            return variant if self.kind == "transfer" else f"{self.language} {variant}"
        p = self.found.provenance
        names = ((p.task, self.task), (p.ranked_by, "magnitude"), (p.scope, "global"))
        odd = ", ".join(name for name, usual in names if name != usual)
        words = [p.language, *([f"({odd})"] if odd else []), *([] if variant == "ticket" else [variant])]
        return " ".join(words)

    @property
    def title(self) -> str:
        """A description for the progress display: ``fr → ur · sparsity 0.50 · seed 57``."""
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
    baselines_on: Sequence[str] | None = None,
    zero_shot: bool = False,
) -> list[Cell]:
    """Lists the cells.

    A transfer trains each ticket on each language; a zero-shot transfer trains it only on its own language and
    evaluates it on each. A baseline that does not depend on the ticket is one cell for all tickets. ``oneshot`` adds
    the dense cells that its masks are made from.

    Args:
        tickets: see :func:`~lnsub.tickets.finding.find_tickets`.
        task: the task to train on.
        languages: the targets.
        seeds: seeds of each cell.
        baselines: see :func:`~lnsub.transfer.baselines.parse_baseline`.
        baselines_on: the languages on which baselines that are the same for all tickets (``dense``, ``random``,
            ``inherited``) are trained; None: all. Commands for different tickets then share no cell.
        zero_shot: plan a zero-shot transfer.

    Returns:
        The cells, in an order that depends only on the set of cells.

    Raises:
        UserError: a language is not a plain name; a baseline is unknown; ``zero_shot`` with a ticket of several
            languages; ``oneshot`` without a ticket of a single language and this task; ``random_from`` without a ticket
            of a lower sparsity; ``baselines_on`` names a language on which nothing is trained.
    """
    named = [parse_baseline(text) for text in baselines]
    baselines = {name for name, _ in named}
    starts = _starts(tickets, [sparsity for name, sparsity in named if name == RANDOM_FROM])
    if zero_shot and (unsourced := next((t for t in tickets if not t.has_one_source), None)):
        raise UserError(
            f"Ticket {unsourced.path} has no single source language to fine-tune it on, but "
            f"{unsourced.provenance.language}: remove it, or --zero-shot."
        )
    at_once = [ticket for ticket in tickets if ticket.has_one_source and ticket.provenance.task == task]
    if "oneshot" in baselines and not at_once:
        raise UserError(
            "--baselines oneshot prunes a dense model fine-tuned on a ticket's task and language, so it needs a ticket "
            f"found on a single language of {task}: there is none."
        )
    prunes: dict[str, set[OneShot]] = {}
    for p in (ticket.provenance for ticket in at_once if "oneshot" in baselines):
        prunes.setdefault(p.language, set()).add(OneShot(p.sparsity, p.scope, p.granularity))
    kind = "zero_shot" if zero_shot else "transfer"
    targets = tuple(plain_name("language", language) for language in dict.fromkeys(languages))
    known = {*targets, *(ticket.provenance.language for ticket in tickets)}
    if odd := next((language for language in baselines_on or () if language not in known), None):
        raise UserError(f"--baselines-on has {printable(odd)[:40]}, which is neither a target nor a ticket's language.")
    cells: dict[str, Cell] = {}

    def trained_on(variant: str, language: str) -> bool:
        return baselines_on is None or variant not in {"dense", *_UNSOURCED} or language in baselines_on

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
                for variant in baselines - {"dense", RANDOM_FROM}:
                    applies = variant != "oneshot" or ticket in at_once
                    if applies and not _is_itself(variant, ticket) and trained_on(variant, language):
                        add(variant, language, seed, found=ticket)
                for start in starts.get(ticket.name, ()):
                    add(RANDOM_FROM, language, seed, found=ticket, start=start)
        dense = {language for language in trained if "dense" in baselines and trained_on("dense", language)}
        for language in dense | prunes.keys():
            made = tuple(sorted(prunes.get(language, ()), key=lambda one_shot: (one_shot.sparsity, one_shot.name)))
            add("dense", language, seed, prunes=made)
    return sorted(cells.values(), key=_cell_key)


def _starts(tickets: Sequence[FoundTicket], wanted: Sequence[float | None]) -> dict[str, list[FoundTicket]]:
    """The tickets that masks are drawn from for ``random_from``, by the name of the ticket that they are compared with.

    Args:
        tickets: all tickets.
        wanted: sparsities to start from; None is any, and an empty sequence none.
    """
    found = {ticket.name: lower_tickets(ticket, tickets) for ticket in tickets} if wanted else {}
    starts: dict[str, list[FoundTicket]] = {name: [] for name in found}
    for sparsity in dict.fromkeys(wanted):
        fitting = {
            name: [t for t in lower if sparsity is None or abs(t.provenance.sparsity - sparsity) < 1e-6]
            for name, lower in found.items()
        }
        if not any(fitting.values()):
            below = "a lower sparsity" if sparsity is None else f"sparsity {sparsity:g}, and below theirs"
            raise UserError(
                f"--baselines {RANDOM_FROM} starts from tickets of {below} of the same run, and there are none beside "
                "the tickets or among --tickets: name tickets in the folder of a run that has them."
            )
        for name, lower in fitting.items():
            starts[name] += [ticket for ticket in lower if ticket not in starts[name]]
    return starts


def _is_itself(variant: str, ticket: FoundTicket) -> bool:
    """Whether a ticket is an inherited mask, and thus its own baseline."""
    return variant == "inherited" and ticket.provenance.task == INHERITED


def _cell_key(cell: Cell) -> tuple[object, ...]:
    # The order of a cell shared by several tickets must not depend on which of them it holds.
    ticket = cell.found.key if cell.found and cell.variant in {"ticket", "reinit", "shuffled"} else ()
    ticket = cell.start.key if cell.start else ticket
    return (_ORDER[cell.variant], ticket, cell.sparsity, cell.language, cell.seed, cell.id)
