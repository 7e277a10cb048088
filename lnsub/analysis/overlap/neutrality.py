"""The neutrality index: the overlap of tickets of different languages, as a share of what noise allows.

Even two runs of one language with different seeds do not find the same ticket. Their overlap is the ceiling, and

    neutrality index = cross-language overlap / seed-to-seed overlap of one language.

It is 1 where another language changes a ticket no more than another seed does. Like is compared with like: runs of one
seed share the head's initial values and the order of the data, so the usual index is over pairs of different seeds,
across languages and within one, and only between languages that have a ceiling: the same runs, on equal terms. Pairs of
one seed are shown beside them. Where runs share a head or an order under a condition (:mod:`lnsub.runs.condition`), the
pairs that share the same make an index of their own.

Where theta_0 is known the headline is the index of departures above their null, ``departure_corrected``: most of an
overlap comes from theta_0 in every run, which draws the plain index to 1 whatever the languages do.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from lnsub.analysis.jackknife import FEWEST, interval
from lnsub.analysis.overlap.departure import Null
from lnsub.analysis.overlap.inheritance import departures
from lnsub.analysis.overlap.jaccard import COMPARABLE, comparable, labels, overlap, ratio, same_parameters
from lnsub.analysis.overlap.shared import in_words, shared
from lnsub.tickets.ticket import Ticket


def neutrality(
    tickets: Sequence[Ticket],
    by: Iterable[str] = (),
    *,
    inherited: Sequence[Ticket] = (),
    theta_0: Mapping[str, np.ndarray] | None = None,
    null: Null = "magnitude",
    over: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """The neutrality index of each task and sparsity, with the ceiling and a 95 % interval.

    A language's ceiling is the mean over its pairs of different seeds, a pair of languages' overlap the mean over
    their pairs of different seeds; ``ceiling`` and ``cross`` are the means of these, so that a language with many runs
    weighs no more than one with few. The interval is that of the jackknife over languages and seeds
    (:mod:`lnsub.analysis.jackknife`), since both are a sample. A seed under another condition counts as another seed.

    Args:
        tickets: tickets of one base model. Inherited masks and combined tickets are ignored.
        by: some of :data:`lnsub.tickets.parameters.GROUPS`.
        inherited: inherited masks as :func:`departures` takes them; with them, the index is
            also given for departures, which leaves out what theta_0 makes alike in all tickets.
        theta_0: the base model's weights, for the null of the departures.
        null: which null that is; see :func:`lnsub.analysis.overlap.departure.count_departures`.
        over: the parameters that count; None: those that all tickets of a set and the inherited masks have.

    Returns:
        Rows for each set of :func:`comparable` tickets with two languages or more that have two seeds or more, by what
        the pairs share (the usual index, of runs that share neither head nor order, first), each group of ``by`` and
        each ``measure``, the headline first: with theta_0 ``departure_corrected``, with inherited masks
        ``departure_overlap``, and always ``overlap`` and ``corrected``. A row has ``index``, ``index_low``,
        ``index_high``, ``interval`` (what was left out one at a time, or why there is no interval), ``ceiling``,
        ``cross``, ``cross_same_seed`` (None where there is no such pair), ``shared`` (what the pairs across languages
        share) and ``shared_ceiling`` (what those within one do), ``languages`` and ``runs`` (those of languages with a
        ceiling). No row at all where no set has such tickets.

    Raises:
        UserError: see :func:`overlap` and :func:`departures`.
    """
    by = tuple(by)
    rows = []
    for key, members in comparable(tickets).items():
        for terms, fair in _on_equal_terms(members):
            languages = len({t.provenance.language for t in fair})
            same = same_parameters(fair, inherited) if over is None else over
            # Without theta_0 the null is far too low, and so is what it leaves.
            departed = (*(("departure_corrected",) if theta_0 is not None else ()), "departure_overlap")
            tables = [(departures(fair, inherited, theta_0, by, null=null, over=same), departed)] if inherited else []
            for table, measures in [*tables, (overlap(fair, by, over=same), ("overlap", "corrected"))]:
                for group, pairs in _grouped(table, by).items():
                    for measure in measures:
                        rows.append(
                            dict(zip(COMPARABLE, key, strict=True))
                            | dict(zip(by, group, strict=True))
                            | {"measure": measure}
                            | _runs(fair, pairs, measure, terms).row()
                            | terms
                            | {"languages": languages, "runs": len(fair)}
                        )
    return rows


def _on_equal_terms(members: Sequence[Ticket]) -> list[tuple[dict[str, str], list[Ticket]]]:
    """The indices that a set's tickets have: what their pairs share across languages and within one, and the tickets.

    Each has the tickets of two languages or more, those that have a pair within their language that shares just this.
    """
    ceilings: dict[tuple[str, ...], dict[int, Ticket]] = {}
    for pair in combinations(members, 2):
        a, b = (ticket.provenance for ticket in pair)
        if a.language == b.language and a.run != b.run:
            ceilings.setdefault(shared(a, b), {}).update((id(ticket), ticket) for ticket in pair)
    found = []
    for within in sorted(ceilings, key=lambda words: ("order" in words, "head" in words, "rows" not in words)):
        fair = [ticket for ticket in members if id(ticket) in ceilings[within]]
        provenances = [ticket.provenance for ticket in fair]
        across = {shared(a, b) for a, b in combinations(provenances, 2) if a.language != b.language and a.run != b.run}
        # Two languages have rows in common only where the data are parallel.
        both = [tuple(w for w in within if w != "language"), tuple(w for w in within if w not in {"language", "rows"})]
        for alike in [words for words in both if words in across][:1]:
            found.append(({"shared": in_words(alike), "shared_ceiling": in_words(within)}, fair))
    return found


def _runs(tickets: Sequence[Ticket], pairs: list[dict[str, Any]], measure: str, terms: Mapping[str, str]) -> "Runs":
    """The runs of an index, of which those pairs count that share what it is of."""
    language_of = np.unique([t.provenance.language for t in tickets], return_inverse=True)[1]
    run_of = np.unique([t.provenance.run for t in tickets], return_inverse=True)[1]
    counted = np.zeros((len(tickets), len(tickets)), bool)
    for i, j in combinations(range(len(tickets)), 2):
        a, b = tickets[i].provenance, tickets[j].provenance
        wanted = terms["shared_ceiling" if a.language == b.language else "shared"]
        counted[i, j] = counted[j, i] = a.run != b.run and in_words(shared(a, b)) == wanted
    return Runs(pairs, measure, labels(tickets), language_of, run_of, counted)


def _grouped(rows: list[dict[str, Any]], by: tuple[str, ...]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[b] for b in by), []).append(row)
    return groups


class Runs:
    """The pairs of T runs of L languages and S seeds, each with one value, and the means that make the index.

    Args:
        pairs: rows of pairs with ``a`` and ``b``, the runs' labels.
        measure: the column of the values.
        named: the T labels.
        language_of: (T,) language of each run, from 0 to L - 1.
        seed_of: (T,) seed of each run, from 0 to S - 1.
        counted: (T, T) bool, the pairs that count; None for those of different seeds.
    """

    def __init__(
        self,
        pairs: list[dict[str, Any]],
        measure: str,
        named: list[str],
        language_of: np.ndarray,
        seed_of: np.ndarray,
        counted: np.ndarray | None = None,
    ) -> None:
        place = {name: t for t, name in enumerate(named)}
        self.values = np.zeros((len(named), len(named)))
        self.defined = np.zeros(self.values.shape, bool)
        for row in pairs:
            if row[measure] is not None:
                for at in ((place[row["a"]], place[row["b"]]), (place[row["b"]], place[row["a"]])):
                    self.values[at], self.defined[at] = row[measure], True
        self.same_seed = seed_of[:, None] == seed_of
        self.counted = ~self.same_seed if counted is None else counted
        self.seed_of = seed_of
        self.members = (language_of[:, None] == np.arange(language_of.max() + 1)).astype(float)

    def table(self, pairs: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean over the pairs of each two languages.

        Args:
            pairs: (T, T) bool, the pairs that count.
            seeds: (S,) how often each seed counts.

        Returns:
            (L, L) the means, and (L, L) bool, where there is a pair.
        """
        often = seeds[self.seed_of]
        weight = np.outer(often, often) * (pairs & self.defined)
        count = self.members.T @ weight @ self.members
        return (self.members.T @ (weight * self.values) @ self.members) / np.where(count > 0, count, 1), count > 0

    def means(self, weights: list[np.ndarray]) -> tuple[float | None, float | None]:
        """The mean across languages and the mean within one, over the pairs that count.

        Args:
            weights: (L,) and (S,) how often each language and each seed counts.

        Returns:
            The two means; None where no pair counts. A language that has no ceiling counts for neither.
        """
        languages, seeds = weights
        mean, there = self.table(self.counted, seeds)
        within = languages * np.diag(there)
        return _across(mean, there, within), ratio((within * np.diag(mean)).sum(), within.sum())

    def row(self) -> dict[str, Any]:
        """The index with its interval, and the means behind it."""
        sizes = self.members.shape[1], int(self.seed_of.max()) + 1
        languages, seeds = every = [np.ones(size) for size in sizes]
        cross, ceiling = self.means(every)
        low, high = interval(self.index, sizes)
        return {
            "index": self.index(every),
            "index_low": low,
            "index_high": high,
            "interval": _how(*sizes, found=low is not None),
            "ceiling": ceiling,
            "cross": cross,
            "cross_same_seed": _across(*self.table(self.same_seed, seeds), languages),
        }

    def index(self, weights: list[np.ndarray]) -> float | None:
        """The index, from how often each language and each seed counts: (L,) and (S,); None where it is not defined."""
        cross, ceiling = self.means(weights)
        return None if cross is None or ceiling is None else ratio(cross, ceiling)


def _across(mean: np.ndarray, there: np.ndarray, languages: np.ndarray) -> float | None:
    """The mean of (L, L) means over the pairs of two languages that are there."""
    weight = np.outer(languages, languages) * there
    np.fill_diagonal(weight, 0)
    return ratio((weight * mean).sum(), weight.sum())


def _how(languages: int, seeds: int, *, found: bool) -> str:
    """What an interval is over, or why there is none."""
    if found:
        return f"jackknife over {languages} languages and {seeds} seeds"
    few = [f"{n} {what}" for n, what in ((languages, "languages"), (seeds, "seeds")) if n < FEWEST]
    if few:
        return f"it takes {FEWEST} languages and {FEWEST} seeds, here {' and '.join(few)}"
    return "without one of the seeds or languages, a mean has no pair left"
