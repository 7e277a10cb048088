"""Gathers the data of a report: the records of a tree of runs, comparisons of its tickets, and its settings.

A *study* is what one panel shows: one base model, task, score and scope. Records have neither their ticket's scope nor
the task that it was found on; the ticket does, so records are joined to the tree's tickets by checksum.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lnsub.analysis.main_metric import MainMetric, main_metrics, of_main_metric, task_title
from lnsub.common.errors import UserError
from lnsub.report.language_pairs import language_pairs
from lnsub.report.settings import Run, run_settings
from lnsub.report.ticket_index import TicketIndex, model_name
from lnsub.runs.records import ABLATION, BY_LAYER
from lnsub.runs.tree import read_runs_noting
from lnsub.tickets.combining import is_combined
from lnsub.tickets.provenance import INHERITED, Provenance, start_sparsity

STUDY = ("model", "task", "score", "scope")
"""The columns that tell studies apart."""

LARGEST = 1e12
"""Values from here on are not drawn: of a fit that diverged, and too large to compute means and axes of."""

StudyKey = tuple[str, str, str, str]


@dataclass(frozen=True)
class Material:
    """The data of a report. Every frame may be empty; ``study`` is a study's label in all of them."""

    root: Path
    """The tree of runs."""
    records: pd.DataFrame
    """Records of each task's main metric on the split that was asked for, see
    :func:`lnsub.analysis.main_metric.of_main_metric`, with ``study``, ``scope`` and ``variant`` (see
    :func:`variant_of`)."""
    parts: pd.DataFrame
    """Likewise, records of what was trained on a mixture of languages and measured on one of them (kind ``part``)."""
    retrieval: pd.DataFrame
    """Records of retrieval, with the same columns."""
    similarity: pd.DataFrame
    """Records of similarity, likewise."""
    runs: list[Run]
    """The runs with their settings."""
    pairs: pd.DataFrame
    """Pairs of tickets of a study and sparsity over all weights: :func:`comparison.compare`'s rows."""
    layers: pd.DataFrame
    """The same by layer."""
    alone: pd.DataFrame
    """Tickets held against their inherited masks: the rows of :func:`inheritance`."""
    densities: pd.DataFrame
    """Each ticket's density by layer and kind of matrix."""
    indices: pd.DataFrame
    """Neutrality indices, the rows of :func:`lnsub.analysis.overlap.neutrality.neutrality`."""
    studies: list[str]
    """The studies' labels, in the order in which they are shown."""
    metrics: dict[str, MainMetric]
    """Each study's main metric; none of studies without records."""
    languages: list[str]
    """All languages, sorted; a language's place gives its colour in every figure."""
    mixtures: list[str]
    """The mixtures of languages that tickets were found on, sorted; their colours follow those of the languages."""
    facts: dict[str, int]
    """How many ``records`` (of any metric and split), ``tickets`` and ``seeds`` there are."""
    notes: list[str]
    """Sentences on what was left out or looked odd."""
    ablation: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Records of ablations, of all metrics."""
    controls: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Pairs of tickets as in ``pairs``, with those of runs under a condition."""
    about: str = ""
    """What the page says of itself in place of how much there is; for numbers that are not of runs."""

    @cached_property
    def language_pairs(self) -> pd.DataFrame:
        """The pairs averaged by pair of languages, see :func:`lnsub.report.language_pairs.language_pairs`."""
        return language_pairs(self.pairs)

    @property
    def order(self) -> list[str]:
        """The languages and mixtures in the order of their colours and markers."""
        return [*self.languages, *self.mixtures]


def collect(root: Path, split: str = "validation", inherited_from: str | None = None) -> Material:
    """Reads a tree of runs and compares its tickets.

    Args:
        root: the tree.
        split: the split that metrics are shown of.
        inherited_from: base model to make inherited masks from where the tree has none, and to take the null of the
            departures from; empty for the model that the tickets name, None for neither.

    Returns:
        The material.

    Raises:
        UserError: there is no such folder, or it holds neither records nor tickets; see also
            :meth:`lnsub.report.ticket_index.TicketIndex.compare`.
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}: name a tree of runs that `lnsub fit` and `lnsub transfer` wrote.")
    frame, notes = read_runs_noting(root)
    ticket_index, problems = TicketIndex.read(root)
    if frame.empty and not ticket_index.tickets:
        raise UserError(f"{root} holds no records (results.jsonl) and no tickets: run `lnsub fit` there first.")
    known = ticket_index.by_checksum
    unmeasured = ~(frame["value"].astype(float).abs() < LARGEST)
    if unmeasured.any():
        notes.append(
            f"{int(unmeasured.sum())} values that are no number, infinite or beyond {LARGEST:g} are not drawn."
        )
        frame = frame[~unmeasured]
    runs, every = run_settings(root, frame), len(frame)
    frame, apart = _plain(frame)
    notes += apart
    measured = frame[~frame["kind"].isin(BY_LAYER) & (frame["split"] == split)]
    whole, parts = measured[~measured["kind"].isin({"part", ABLATION})], measured[measured["kind"] == "part"]
    ablation = measured[measured["kind"] == ABLATION]
    records, parts = (_annotated(of_main_metric(rows), known) for rows in (whole, parts))
    retrieval = frame[(frame["kind"] == "retrieval") & frame["metric"].str.startswith("accuracy")]
    retrieval = _annotated(retrieval, known)
    similarity = _annotated(frame[frame["kind"] == "similarity"], known)
    compared, unfit = ticket_index.compare(inherited_from)
    tables = {name: pd.DataFrame(rows) for name, rows in compared.items()}
    names = study_labels(
        {
            *records.loc[records["variant"] == "ticket", list(STUDY)].itertuples(index=False, name=None),
            *(key[:4] for key in ticket_index.sets()),
        }
    )
    for rows in (records, parts, *tables.values()):
        if not rows.empty:
            rows["study"] = [names.get(key, "") for key in rows[list(STUDY)].itertuples(index=False, name=None)]
    metrics = main_metrics(measured)
    return Material(
        root=root,
        records=records.assign(study=records.get("study", pd.Series(dtype=object))),
        parts=parts,
        retrieval=retrieval,
        similarity=similarity,
        ablation=ablation.assign(model=[model_name(name) for name in ablation["model"]]),
        runs=runs,
        studies=list(names.values()),
        metrics={label: metrics[key[1]] for key, label in names.items() if key[1] in metrics},
        languages=_languages(frame, known.values()),
        mixtures=_mixtures(records),
        facts={
            "records": every,
            "tickets": sum(len(members) for members in ticket_index.sets().values()),
            # The dense model's states are not random, so the seed of their records is not one of the study's.
            "seeds": frame.loc[~frame["kind"].isin(BY_LAYER), "seed"].nunique(),
        },
        notes=notes + problems + unfit + _unread(root, runs) + _oddities(records, frame, split),
        pairs=tables["pairs"],
        layers=tables["layers"],
        alone=tables["alone"],
        densities=tables["densities"],
        indices=tables["indices"],
        controls=tables["controls"],
    )


def variant_of(record: Mapping[Any, Any], found: Provenance | None) -> str:
    """Tells what kind of sub-network a record measured.

    Args:
        record: a record's ``kind``, ``task``, ``score``, ``init``, ``ticket`` and, where it has one, ``source_task``.
        found: the ticket's provenance, where the ticket is known; else ``source_task`` stands in for it.

    Returns:
        ``ticket`` (found by pruning in rounds, on the record's task); a baseline of `lnsub transfer`: ``dense``,
        ``reinit``, ``random``, ``random_from:0.1``, ``shuffled`` or ``oneshot``; ``inherited``; ``combined``; or
        ``other task``, a ticket
        that was found on another task.
    """
    score = record["score"]
    if record["kind"] == "imp":
        return "ticket"
    if not isinstance(record["ticket"], str):
        return "dense"
    if record["init"] == "random":
        return "reinit"
    if score in {"random", "shuffled", "oneshot"} or start_sparsity(str(score)) is not None:
        return str(score)
    origin = found.task if found else record.get("source_task")
    # A run by this score finds the same masks, and then `found` is its ticket.
    if INHERITED in {origin, record.get("source_task")}:
        return "inherited"
    if is_combined(score) or (found and found.sources):
        return "combined"
    elsewhere = isinstance(origin, str) and origin != record["task"] and record["kind"] not in BY_LAYER
    return "other task" if elsewhere else "ticket"


def study_labels(keys: Iterable[StudyKey]) -> dict[StudyKey, str]:
    """Names studies: by their task, and by what else is needed to tell them apart.

    Args:
        keys: model, task, score and scope of each.

    Returns:
        A label for each, in the order in which studies are shown: ``NER``, or ``NER (taylor)`` beside
        ``NER (magnitude)``.
    """
    ordered = sorted(keys, key=lambda key: (task_title(key[1]), key))
    varying = [part for part in (0, 2, 3) if len({key[part] for key in ordered}) > 1]
    labels = {}
    for key in ordered:
        extra = ", ".join(key[part] for part in varying if key[part])
        labels[key] = task_title(key[1]) + (f" ({extra})" if extra else "")
    return labels


def _annotated(records: pd.DataFrame, known: Mapping[str, Provenance]) -> pd.DataFrame:
    """Adds ``scope``, ``variant`` and ``found_on`` (the ticket's task); unifies model names and missing scores."""
    records = records.copy()
    found = [known.get(checksum) if isinstance(checksum, str) else None for checksum in records["ticket"]]
    records["model"] = [model_name(name) for name in records["model"]]
    records["score"] = records["score"].astype(object).where(records["score"].notna(), "")
    records["scope"] = pd.Series([p.scope if p else None for p in found], index=records.index, dtype=object)
    # A dense round has no ticket, and takes the scope of its run: the default one where the run has no tickets.
    scopes = records.dropna(subset="scope").groupby("run")["scope"].first().to_dict()
    records["scope"] = [
        scope if isinstance(scope, str) else scopes.get(run, "global")
        for scope, run in zip(records["scope"], records["run"], strict=True)
    ]
    columns = ["kind", "task", "score", "init", "ticket", "source_task"]
    rows = records[columns].to_dict("records")
    records["variant"] = [variant_of(row, p) for row, p in zip(rows, found, strict=True)]
    # An inherited mask that sentences were embedded under is in no file.
    made = [INHERITED if task == INHERITED else "unknown" for task in records["source_task"]]
    records["found_on"] = pd.Series(
        [p.task if p else other for p, other in zip(found, made, strict=True)], index=records.index, dtype=object
    )
    return records


def _plain(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The records of plain runs and their tickets, and a sentence on the others, which are of other settings."""
    apart = frame["condition"].notna() | frame["source_condition"].notna()
    if not apart.any():
        return frame, []
    runs = frame.loc[apart, "run"].nunique()
    note = f"{int(apart.sum())} records of {runs} runs under a condition are drawn in no figure of plain runs."
    return frame[~apart], [note]


def _languages(frame: pd.DataFrame, tickets: Iterable[Provenance]) -> list[str]:
    spoken = {*frame["source"].dropna(), *frame["target"].dropna(), *(p.language for p in tickets)}
    return sorted(code for code in spoken if "+" not in code and code not in {INHERITED, "random"})


def _mixtures(records: pd.DataFrame) -> list[str]:
    found = records[records["variant"] == "ticket"]
    return sorted({name for name in {*found["source"].dropna(), *found["target"].dropna()} if "+" in name})


def _unread(root: Path, runs: Iterable[Run]) -> list[str]:
    """The configurations that give no settings."""
    paths = (root / run.folder / "config.yaml" for run in runs if not run.settings)
    return [f"{path} cannot be read: its settings are not shown." for path in paths if path.exists()]


def _oddities(records: pd.DataFrame, frame: pd.DataFrame, split: str) -> list[str]:
    """What to know of the records before trusting the figures."""
    notes = []
    splits = sorted(set(frame.loc[~frame["kind"].isin(BY_LAYER), "split"]))
    if splits and split not in splits:
        notes.append(f"No record is of the split {split}; there are records of {', '.join(splits)}.")
    cell = ["kind", "model", "task", "score", "scope", "source", "target", "sparsity", "seed", "init", "ticket"]
    spread = records.groupby(cell, dropna=False)["value"].nunique()
    if (spread > 1).any():
        notes.append(
            f"{int((spread > 1).sum())} measurements are there more than once with different values, as the tree holds "
            "runs of different settings. Figures show their mean; report such runs separately."
        )
    combined = int((records["variant"] == "combined").sum())
    if combined:
        notes.append(f"{combined} records of combined tickets are not drawn.")
    return notes
