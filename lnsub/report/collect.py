"""Gathers what a report draws from: the records of a tree of runs, its tickets compared, and its settings.

A *study* is what is shown in one panel: one base model, one task, one score and one scope. Records do not say their
ticket's scope or the task that it was found on; the ticket itself does, so records are joined to the tickets of the
tree by checksum.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lnsub.combine import HOW
from lnsub.compare import compare
from lnsub.errors import UserError
from lnsub.frame import main_metric, read_frame
from lnsub.neutrality import neutrality
from lnsub.overlap import COMPARABLE
from lnsub.provenance import INHERITED, Provenance
from lnsub.report.settings import Run, read_runs
from lnsub.show import densities
from lnsub.tickets import Ticket, read_provenance

STUDY = ("model", "task", "score", "scope")
"""The columns that tell studies apart."""

TASKS: dict[str, str] = {"xnli": "XNLI", "wikiann": "NER", "mlm": "MLM"}
"""What tasks are called in figures, in the order in which they are shown."""

RESAMPLES = 1000
"""Bootstrap samples of a neutrality index."""

Bases = Mapping[str, Any]
StudyKey = tuple[str, str, str, str]


@dataclass
class Material:
    """What a report draws from; every frame may be empty. ``study`` is a study's label in all of them."""

    root: Path
    """The tree of runs."""
    records: pd.DataFrame
    """Records of each task's main metric, and of retrieval: :func:`lnsub.frame.read_frame` with ``study``, ``scope``
    and ``variant`` (see :func:`variant_of`)."""
    all_records: int
    """How many records there are, of whatever metric."""
    runs: list[Run]
    """The runs' folders with their settings."""
    pairs: pd.DataFrame
    """Pairs of comparable tickets: the rows of :func:`lnsub.compare.compare` over all weights."""
    layers: pd.DataFrame
    """The same by layer."""
    alone: pd.DataFrame
    """Tickets held against their inherited masks: the rows of :func:`lnsub.inherited.inheritance`."""
    densities: pd.DataFrame
    """Each ticket's density by layer and kind of matrix."""
    indices: pd.DataFrame
    """Neutrality indices."""
    studies: list[str]
    """The studies' labels, in the order in which they are shown."""
    languages: list[str]
    """All languages, sorted; a language's place is the number of its colour in every figure."""
    notes: list[str] = field(default_factory=list)
    """What was left out or looked odd, in sentences."""

    def style(self, language: str) -> int:
        """The number of a language's colour and marker."""
        return self.languages.index(language) if language in self.languages else len(self.languages)


def collect(root: Path, inherited_from: str | None = None) -> Material:
    """Reads a tree of runs and compares its tickets.

    Tickets are read one set at a time: those of one base model, task, score, scope and sparsity.

    Args:
        root: the tree.
        inherited_from: base model to make inherited masks from where the tree has none, and to take the null of the
            departures from; empty for the model that the tickets name, None for neither.

    Returns:
        The material.

    Raises:
        UserError: there is no such folder, it holds neither records nor tickets, or see
            :class:`lnsub.inherit.Theta0`.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}: name the tree of runs that `lnsub fit` and `transfer` wrote to")
    frame, notes = read_frame(root), list[str]()
    shelf = _Shelf.read(root, notes)
    if frame.empty and not shelf.paths:
        raise UserError(f"{root} holds no records (results.jsonl) and no tickets: run `lnsub fit` into it first")
    for key in _KEYS:
        shelf.rows[key] = []
    theta_0 = None
    for key, paths in sorted(shelf.sets().items()):
        tickets = _distinct(Ticket.load(path) for path in paths)
        masks = [Ticket.load(path) for path in shelf.inherited_of(tickets[0].provenance)]
        if inherited_from is not None:
            theta_0 = theta_0 or _theta_0(inherited_from or tickets[0].provenance.base_model)
            masks = _made(theta_0, tickets, masks)
        _compare_set(shelf, key, tickets, masks, theta_0)
    for path in shelf.aside:
        ticket = Ticket.load(path)
        shelf.by_checksum.setdefault(ticket.checksum, ticket.provenance)
    records = _annotated(main_metric(frame), shelf.by_checksum)
    frames = {key: pd.DataFrame(rows) for key, rows in shelf.rows.items()}
    keys = set(records.loc[records["variant"] == "ticket", list(STUDY)].itertuples(index=False, name=None))
    keys |= {key[:4] for key in shelf.sets()}
    names = study_labels(keys)
    for part in (records, *frames.values()):
        if not part.empty:
            part["study"] = [names.get(key, "") for key in part[list(STUDY)].itertuples(index=False, name=None)]
    spoken = {*records["source"].dropna(), *records["target"].dropna()}
    spoken |= {p.language for p in shelf.by_checksum.values()}
    return Material(
        root=root,
        records=records,
        all_records=len(frame),
        runs=read_runs(root, frame),
        studies=list(names.values()),
        languages=sorted(code for code in spoken if "+" not in code and code != INHERITED),
        notes=notes,
        **frames,
    )


def variant_of(kind: str, task: str, score: str, init: str, ticket: str | None, found: Provenance | None) -> str:
    """Says what kind of sub-network a record measured.

    Args:
        kind: the record's.
        task: the record's.
        score: the record's; of a baseline its name.
        init: the record's.
        ticket: the record's.
        found: the ticket's provenance, where it is known.

    Returns:
        ``ticket`` (found by pruning in rounds, on this task), or a baseline: ``dense``, ``reinit`` (a ticket on weights
        drawn anew), ``random`` and ``shuffled`` masks, ``oneshot``, ``inherited``; ``combined`` tickets, and
        ``other task``: found on another task.
    """
    plain = score.lower().replace("-", "").replace("_", "")
    if kind == "imp":
        return "ticket"
    if ticket is None:
        return "dense"
    if init == "random":
        return "reinit"
    for name, word in (("random", "random"), ("shuffled", "shuffl"), ("oneshot", "oneshot")):
        if word in plain or (name == "oneshot" and found and word in found.schedule.replace("-", "")):
            return "inherited" if found and found.task == INHERITED else name
    if score in HOW or (found and found.sources):
        return "combined"
    return "other task" if found and found.task != task and kind != "retrieval" else "ticket"


def study_labels(keys: Iterable[StudyKey]) -> dict[StudyKey, str]:
    """Names studies: by their task, and by what else is needed to tell them apart.

    Args:
        keys: model, task, score and scope of each.

    Returns:
        A label for each, in the order in which studies are shown: ``NER``, or ``NER (taylor)`` beside
        ``NER (magnitude)``.
    """
    order = list(TASKS)
    ordered = sorted(keys, key=lambda k: (order.index(k[1]) if k[1] in order else len(order), k[1], k))
    varying = [part for part in (0, 2, 3) if len({key[part] for key in ordered}) > 1]
    labels = {}
    for key in ordered:
        extra = ", ".join(key[part] for part in varying if key[part])
        labels[key] = TASKS.get(key[1], key[1]) + (f" ({extra})" if extra else "")
    return labels


def model_name(name: str) -> str:
    """The last part of a base model's name or path, the same however it was spelled."""
    return name.rstrip("/").rsplit("/", 1)[-1]


_KEYS = ("pairs", "layers", "alone", "densities", "indices")


@dataclass
class _Shelf:
    """The ticket files of a tree by what their headers say, and the rows that their comparison gives."""

    paths: dict[Path, Provenance]
    inherited: list[Path]
    aside: list[Path]
    by_checksum: dict[str, Provenance] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path, notes: list[str]) -> "_Shelf":
        paths = {}
        for path in sorted(root.rglob("*.safetensors")):
            # What `save_pretrained` writes: an exported sub-network's weights.
            if not path.name.startswith("model"):
                try:
                    paths[path] = read_provenance(path)
                except UserError as error:
                    notes.append(f"Left out: {error}.")
        inherited = [path for path, p in paths.items() if p.task == INHERITED]
        return cls(paths, inherited, [path for path, p in paths.items() if p.task != INHERITED and _baseline(p)])

    def sets(self) -> dict[tuple[str, str, str, str, float, str], list[Path]]:
        """The tickets that differ in language and seed alone."""
        found: dict[tuple[str, str, str, str, float, str], list[Path]] = {}
        for path, p in self.paths.items():
            if p.task != INHERITED and not _baseline(p):
                study = (model_name(p.base_model), p.task, p.score, p.scope)
                found.setdefault((*study, round(p.sparsity, 6), p.base_fingerprint), []).append(path)
        return found

    def inherited_of(self, served: Provenance) -> list[Path]:
        return [
            path
            for path in self.inherited
            if (p := self.paths[path]).base_fingerprint == served.base_fingerprint
            and p.scope == served.scope
            and round(p.sparsity - served.sparsity, 6) == 0
        ]


def _baseline(p: Provenance) -> bool:
    return variant_of("transfer", p.task, p.score, "pretrained", "", p) != "ticket"


def _distinct(tickets: Iterable[Ticket]) -> list[Ticket]:
    """Leaves out copies: the same mask under the same language and seed."""
    return list({(t.checksum, t.provenance.language, t.provenance.seed): t for t in tickets}.values())


def _theta_0(base_model: str) -> Any:
    # torch and transformers: only for those who ask for it.
    from lnsub.inherit import Theta0

    return Theta0.load(base_model)


def _made(theta_0: Any, tickets: list[Ticket], ready: list[Ticket]) -> list[Ticket]:
    from lnsub.inherit import inherited_masks

    return inherited_masks(theta_0, tickets, ready)


def _compare_set(
    shelf: _Shelf, key: tuple[Any, ...], tickets: list[Ticket], inherited: list[Ticket], theta_0: Bases | None
) -> None:
    study = dict(zip(STUDY, key, strict=False))
    for ticket in tickets:
        p = ticket.provenance
        shelf.by_checksum[ticket.checksum] = p
        facts = {"language": p.language, "seed": p.seed, "sparsity": round(p.sparsity, 6)}
        shelf.rows["densities"] += [study | facts | row for row in densities(ticket)]
    if len(tickets) < 2 and not inherited:
        return
    found = compare(tickets, [("layer",)], inherited=inherited, theta_0=theta_0)
    for target, rows, by in (
        ("pairs", found.pairs, ()),
        ("layers", found.pairs, ("layer",)),
        ("alone", found.inheritance, ()),
    ):
        shelf.rows[target] += [study | {"sparsity": key[4]} | row for row in found.by(rows, by)]
    several = len({t.provenance.seed for t in tickets}) > 1 and len({t.provenance.language for t in tickets}) > 1
    for row in neutrality(tickets, inherited=inherited, theta_0=theta_0, resamples=RESAMPLES) if several else ():
        rest = {column: value for column, value in row.items() if column not in COMPARABLE}
        if theta_0 is not None or row["measure"] != "departure_corrected":
            shelf.rows["indices"].append(study | {"sparsity": key[4]} | rest)


def _annotated(records: pd.DataFrame, tickets: Mapping[str, Provenance]) -> pd.DataFrame:
    """Adds ``scope`` and ``variant``; evens out how the model was spelled, and an absent score."""
    records = records.copy()
    records["model"] = records["model"].map(model_name)
    found = [tickets.get(checksum) if isinstance(checksum, str) else None for checksum in records["ticket"]]
    records["scope"] = [p.scope if p else None for p in found]
    # A dense round has no ticket; it has the scope of its run. A run whose tickets are gone had the usual scope.
    records["scope"] = records.groupby("run")["scope"].transform(_first_known)
    records["score"] = records["score"].astype(object).where(records["score"].notna(), "")
    columns = ("kind", "task", "score", "init", "ticket")
    records["variant"] = [
        variant_of(kind, task, score, init, checksum if isinstance(checksum, str) else None, p)
        for (kind, task, score, init, checksum), p in zip(
            records[list(columns)].itertuples(index=False, name=None), found, strict=True
        )
    ]
    return records


def _first_known(scopes: "pd.Series[Any]") -> "pd.Series[Any]":
    known = scopes.dropna()
    return scopes.fillna(known.iloc[0] if len(known) else "global")
