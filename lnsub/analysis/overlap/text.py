"""A comparison of tickets for the terminal: tables that fit its width, with a sentence on what each means."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lnsub.analysis.overlap.comparison import Comparison, Rows
from lnsub.analysis.overlap.jaccard import ALIKE, COMPARABLE, labels
from lnsub.analysis.overlap.sentences import (
    HEADLINE,
    clusters_named,
    contrasts_named,
    coverage,
    departures_named,
    verdicts,
)
from lnsub.common.tables import to_table
from lnsub.runs.folder import ticket_filename
from lnsub.tickets.ticket import Ticket

Row = dict[str, Any]

_LEGEND = (
    "overlap: kept in both / kept in either. chance: the overlap of random masks of these densities. corrected: "
    "(overlap - chance) / (1 - chance)."
)
_DEPARTURE_LEGEND = (
    "inherited: overlap with the magnitude mask of theta_0, which a ticket would be without any training, or with "
    "the --reference. departures: overlap of the {unit}s in which two tickets differ from it."
)
_NULL_LEGEND = (
    "null: the departures' overlap if they were independent given theta_0, a centre without a spread over runs."
)
_NO_NULL = "--inherited adds the null, what two departures share by chance given theta_0, from the base model."
_INDEX_LEGEND = (
    "index: cross, the overlap across languages, over ceiling, that of two seeds of one language, all of different "
    "seeds, as runs of one seed share the head's initial values and the order of the data. 95 %: a t interval by the "
    "jackknife, for which languages and seeds are left out one at a time."
)
_HEADLINE_LEGEND = (
    "departure corrected, the share of departures above their null, is the one to go by: theta_0 makes most of any "
    "overlap, which draws the other indices to 1."
)
_CLUSTER_LEGEND = (
    "clusters: average linkage of 1 - overlap, cut where two successive merges lie furthest apart (gap), or into as "
    "many as asked for. place: order of the leaves. held: share of seeds in which a language is with its cluster."
)

_SHARED = "shared: what the two have in common beside the base model."
_SHARED_LEGEND = (
    f"{_SHARED} trained on: their labels. 95 %: a t interval by the jackknife over languages, which says nothing of "
    "other seeds."
)
_CONTRAST_LEGEND = (
    "same, other: the mean of one language's runs in the two sets, and of two languages'; ratio: other / same. 95 %: a "
    "t interval by the jackknife over languages. p: the share of all pairings of the languages of the two sets whose "
    "mean is as high as that of each language with itself; at least 1 / number of pairings (smallest)."
)

NO_CONTRAST = (
    "No contrast of languages with data samples: it takes tickets of two languages or more in both sets of runs, of "
    "one task, score, scope and sparsity."
)
"""Shown where two sets of runs have no contrast."""

NO_CLUSTERS = "No clusters: they take tickets of three languages or more of one task, score, scope and sparsity."
"""Shown where no tickets have clusters."""

NO_INDEX = (
    "No neutrality index: it takes tickets of one task, score, scope and sparsity, of two seeds of each of two "
    "languages or more."
)
"""Shown where no tickets have a neutrality index."""


def comparison_text(comparison: Comparison, width: int | None = None) -> str:
    """Writes a comparison as tables and sentences.

    Args:
        comparison: what to write.
        width: characters a line. Where a table would be wider, its less important columns are left out, and a line
            below names them. None lets everything be as wide as it needs.

    Returns:
        The text, without colours.
    """
    page = _Page(comparison, width)
    page.pairs()
    page.inheritance()
    page.means()
    page.shared()
    page.contrasts()
    page.indices()
    page.clusters()
    return "\n\n".join(page.parts) + "\n"


class _Page:
    """The text as it grows: tables and paragraphs."""

    def __init__(self, comparison: Comparison, width: int | None) -> None:
        self.comparison = comparison
        self.width = width
        self.parts: list[str] = []
        self.conditions = any(ticket.provenance.condition for ticket in comparison.tickets)
        self.short, self.common = _short_labels(comparison.tickets)

    def pairs(self) -> None:
        self._tables("overlap of pairs", self.comparison.pairs, self._pair_cells, _PAIR_OPTIONAL)
        overall = self.comparison.by(self.comparison.pairs, ())
        if overall:
            self._say(coverage(overall, self.comparison.unit))
            legends = [_LEGEND, *([_SHARED] if self.conditions else [])]
            if "departure_overlap" in overall[0]:
                legends += [
                    _DEPARTURE_LEGEND.format(unit=self.comparison.unit),
                    _NULL_LEGEND if "null" in overall[0] else _NO_NULL,
                ]
            self._say(*legends)

    def inheritance(self) -> None:
        rows = self.comparison.inheritance
        self._tables("each ticket and the mask that it inherits", rows, self._ticket_cells, _TICKET_OPTIONAL)
        self._say(*departures_named(self.comparison))
        if self.comparison.without_inherited:
            aside = ", ".join(ticket.label for ticket in self.comparison.without_inherited)
            self._say(f"No inherited mask for tickets of several scopes, or that keep nothing: {aside}.")

    def means(self) -> None:
        rows = self.comparison.means
        if rows is not None:
            self._tables("means over pairs", rows, self._mean_cells, _MEAN_OPTIONAL)
            if not rows:
                self._say("No means: no two of these tickets are of one task, score, scope and sparsity.")

    def shared(self) -> None:
        rows = self.comparison.shared
        if rows is not None:
            self._tables("means over pairs by what they share", rows, self._shared_cells, _SHARED_OPTIONAL)
            self._say(_SHARED_LEGEND)

    def contrasts(self) -> None:
        rows = self.comparison.contrasts
        if rows is not None:
            self._tables("language against data sample", rows, self._contrast_cells, _CONTRAST_OPTIONAL)
            self._say(*([_CONTRAST_LEGEND, *contrasts_named(self.comparison)] if rows else [NO_CONTRAST]))

    def indices(self) -> None:
        rows = self.comparison.indices
        if rows is not None:
            self._tables("neutrality index = cross / ceiling", rows, self._index_cells, _INDEX_OPTIONAL)
            legends = [_INDEX_LEGEND, *([_HEADLINE_LEGEND] if rows and rows[0]["measure"] == HEADLINE else [])]
            self._say(*([*legends, *verdicts(self.comparison)] if rows else [NO_INDEX]))

    def clusters(self) -> None:
        rows = self.comparison.clusters
        if rows is not None:
            self._tables("clusters of languages by overlap", rows, self._cluster_cells, _CLUSTER_OPTIONAL)
            self._say(*([_CLUSTER_LEGEND, *clusters_named(rows)] if rows else [NO_CLUSTERS]))

    def _pair_cells(self, row: Row) -> Row:
        cells: Row = {"a": self.short[row["a"]], "b": self.short[row["b"]]} | _group_cells(row)
        cells |= {share: row[share] for share in ("overlap", "chance", "corrected")}
        if "departure_overlap" in row:
            cells |= {"departures": row["departure_overlap"]}
            cells |= {"null": row["null"]} if "null" in row else {}
            cells |= {"inherited a": row["inherited_a"], "inherited b": row["inherited_b"]}
        cells |= {"density a": row["density_a"], "density b": row["density_b"]}
        return cells | ({"shared": row["shared"]} if self.conditions else {})

    def _ticket_cells(self, row: Row) -> Row:
        cells = {"ticket": self.short[row["ticket"]]} | _group_cells(row)
        cells |= {share: row[share] for share in ("overlap", "chance", "corrected", "departure")}
        cells |= {"departure share": row["departure_share"]}
        return cells | {
            "kept though small": row["kept_though_small"],
            "pruned though large": row["pruned_though_large"],
        }

    def _mean_cells(self, row: Row) -> Row:
        cells = self._set_cells(row) | _group_cells(row) | {"relation": row["relation"], "pairs": row["pairs"]}
        cells |= {share: row[share] for share in ("overlap", "chance", "corrected")}
        cells |= {"departures": row["departure_overlap"]} if "departure_overlap" in row else {}
        cells |= {"null": row["null"]} if "null" in row else {}
        cells |= {"all-way": row.get("all_way"), "all-way chance": row.get("all_way_chance")}
        return cells | {"lowest": row["lowest"], "highest": row["highest"]}

    def _shared_cells(self, row: Row) -> Row:
        cells = self._set_cells(row, ALIKE) | _group_cells(row) | {"shared": row["shared"]}
        cells |= {"trained on": row["trained_on"], "measure": row["measure"].replace("_", " "), "mean": row["mean"]}
        return cells | {
            "95 %": _interval(row["low"], row["high"]),
            "pairs": row["pairs"],
            "languages": row["languages"],
        }

    def _contrast_cells(self, row: Row) -> Row:
        cells = self._set_cells(row, ALIKE) | _group_cells(row) | {"runs": f"{row['runs_a']}, {row['runs_b']}"}
        cells |= {"measure": row["measure"].replace("_", " ")}
        cells |= {"same": row["same_language"], "other": row["other_language"], "difference": row["difference"]}
        cells |= {"95 %": _interval(row["difference_low"], row["difference_high"]), "ratio": row["ratio"]}
        cells |= {"95 % of ratio": _interval(row["ratio_low"], row["ratio_high"]), "p": row["p"]}
        return cells | {"smallest": row["smallest_p"], "languages": row["languages"]}

    def _index_cells(self, row: Row) -> Row:
        cells = (
            self._set_cells(row) | _group_cells(row) | self._terms(row) | {"measure": row["measure"].replace("_", " ")}
        )
        cells |= {"index": row["index"], "95 %": _interval(row["index_low"], row["index_high"])}
        cells |= {"cross": row["cross"], "ceiling": row["ceiling"], "cross, same seed": row["cross_same_seed"]}
        return cells | {"languages": row["languages"], "runs": row["runs"]}

    def _cluster_cells(self, row: Row) -> Row:
        cells = self._set_cells(row) | {"place": row["place"], "language": row["language"], "cluster": row["cluster"]}
        return cells | {"held": row["held"], "clusters": row["clusters"], "gap": row["gap"], "seeds": row["seeds"]}

    def _terms(self, row: Row) -> Row:
        """What the pairs of an index share, where there are several indices of the same tickets."""
        terms = {tuple(row[c] for c in ("shared", "shared_ceiling")) for row in self.comparison.indices or ()}
        return {"sharing": row["shared"], "ceiling's": row["shared_ceiling"]} if len(terms) > 1 else {}

    def _set_cells(self, row: Row, alike: Sequence[str] = COMPARABLE) -> Row:
        """What a set of comparable tickets has in common, where not all tickets have it."""
        provenances = [t.provenance for t in self.comparison.tickets]
        return {column: row[column] for column in alike if len({getattr(p, column) for p in provenances}) > 1}

    def _tables(self, title: str, rows: Rows, cells: Callable[[Row], Row], optional: Sequence[tuple[str, ...]]) -> None:
        """Adds a table for each grouping, without the first of ``optional`` columns where it would be too wide."""
        for by in self.comparison.groupings:
            shown = [cells(row) for row in self.comparison.by(rows, by)]
            if shown:
                named = f"{title} by {' and '.join(by)}" if by else title
                self._table(f"{named} ({self.common})" if self.common else named, shown, optional)

    def _table(self, title: str, shown: Rows, optional: Sequence[tuple[str, ...]]) -> None:
        columns, left_out = list(shown[0]), []
        text = to_table(shown, columns)
        for group in optional:
            if self.width is None or max(map(len, text.splitlines())) <= self.width:
                break
            left_out += [column for column in group if column in columns]
            columns = [column for column in columns if column not in group]
            text = to_table(shown, columns)
        if self.width is not None and max(map(len, text.splitlines())) > self.width:
            text = to_table(shown, columns, width=self.width)
        self._say(title)
        self.parts[-1] += f"\n{text}"
        if left_out:
            self._say(f"Left out to fit {self.width} characters: {', '.join(left_out)}.")

    def _say(self, *sentences: str) -> None:
        """Adds a paragraph, each sentence on lines of its own."""
        if sentences:
            wrapped = [textwrap.fill(s, self.width, break_on_hyphens=False) if self.width else s for s in sentences]
            self.parts.append("\n".join(wrapped))


# What a narrow terminal does without, in this order.
_PAIR_OPTIONAL = (("density a", "density b"), ("shared",), ("inherited a", "inherited b"), ("corrected",), ("null",))
_TICKET_OPTIONAL = (("kept though small", "pruned though large"), ("corrected",), ("departure",))
_MEAN_OPTIONAL = (("lowest", "highest"), ("all-way chance",), ("pairs",), ("corrected",), ("all-way",))
_INDEX_OPTIONAL = (("languages", "runs"), ("cross, same seed",), ("ceiling", "cross"), ("ceiling's",))
_SHARED_OPTIONAL = (("languages",), ("pairs",))
_CONTRAST_OPTIONAL = (("languages", "smallest"), ("95 % of ratio",), ("same", "other"))

_CLUSTER_OPTIONAL = (("seeds",), ("gap",), ("clusters",), ("held",))


def _group_cells(row: Row) -> Row:
    return {column: row[column] for column in ("layer", "kind", "matrix", "stack") if column in row}


def _interval(low: float | None, high: float | None) -> str | None:
    return None if low is None or high is None else f"{low:.4f}-{high:.4f}"


def _short_labels(tickets: Sequence[Ticket]) -> tuple[dict[str, str], str]:
    """From the tickets' labels to short ones, of the parts that tell them apart; and the parts that all have."""
    all_of = [t.provenance for t in tickets]
    parts = [(p.task, p.language, p.run, Path(ticket_filename(p.sparsity)).stem) for p in all_of]
    differs = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
    short = {}
    for label, part in zip(labels(tickets), parts, strict=True):
        _, at, checksum = label.partition("@")
        told = "/".join(text for text, told in zip(part, differs, strict=True) if told)
        short[label] = f"{told or part[1]}{at}{checksum}"
    return short, ", ".join(text for text, told in zip(parts[0], differs, strict=True) if not told)
