"""Statistics: how often intervals hold the truth, and tests reject what is true, in simulated studies.

No times: the rows are shares of the draws. What lnsub computes stands beside what is often done in its place.
"""

from collections.abc import Sequence
from itertools import combinations
from math import atanh, erfc, exp, sqrt

import numpy as np

from benchmarks.contrasts import contrasts
from benchmarks.harness import Row, at_least, at_most
from benchmarks.matching import matches
from benchmarks.mbert import provenance
from benchmarks.recovered import shares
from lnsub.analysis.correlation import FEWEST, correlation
from lnsub.analysis.jackknife import interval
from lnsub.analysis.overlap.departure import NULLS, count_departures
from lnsub.analysis.overlap.neutrality import Runs
from lnsub.tickets.ticket import Ticket

LEVEL = 0.05
"""Up to which p a test rejects."""

DRAWS = 300
"""Simulated studies a row: a share of 0.95 has a standard error of 0.013."""


def run(quick: bool, repeats: int) -> list[Row]:
    """Simulates what a report tests or gives an interval of; for transfers see :mod:`benchmarks.transfers`."""
    draws = 3 if quick else DRAWS
    return [
        *indices(draws, 20 if quick else 500),
        *contrasts(draws),
        *correlations(draws),
        *nulls(draws, 32 if quick else 192),
        *shares(draws),
        *matches(draws, 200 if quick else 1000),
    ]


COMMON, OF_LANGUAGE, OF_SEED, OF_RUN = 1.0, 0.7, 0.3, 0.5
"""Standard deviations of the parts that a run's departure is the sum of, in as many dimensions as below."""
DIMENSIONS = 40
STRENGTH = 0.05
"""Standard deviation of the logarithm of how far a language, or a seed, departs."""


def indices(draws: int, resamples: int) -> list[Row]:
    """Coverage of the index's intervals, by design: how many seeds each language has."""
    rows = []
    for design in ((3,) * 5, (3,) * 10, (5,) * 5, (2,) * 5, (2, 2, 1, 1, 1)):
        for uneven in (0.0, 0.3):
            rng = np.random.default_rng([1, *design])
            # Seeds' parts do not count, as pairs are of different seeds.
            truth = COMMON**2 / (COMMON**2 + OF_LANGUAGE**2 * exp(2 * uneven**2)) * exp(-(STRENGTH**2))
            held: dict[str, list[bool]] = {}
            for _ in range(draws):
                for name, (low, high) in bounds(rng, design, uneven, resamples).items():
                    held.setdefault(name, []).append(low <= truth <= high)
            shares = {name: round(float(np.mean(found)), 3) for name, found in held.items()}
            seeds = str(design[0]) if len(set(design)) == 1 else ", ".join(map(str, design))
            far = "equally" if not uneven else "unequally"
            values: dict[str, float | str] = {f"covered by {name}": share for name, share in shares.items()}
            if covered := shares.get("the jackknife"):
                claims = [at_least(covered, 0.88, "covered")]
            else:
                claims, values = [], {"by the jackknife": "no interval", **values}
            rows.append(
                Row(
                    f"index: {len(design)} languages of {seeds} seeds, {far} far apart",
                    None,
                    values=values,
                    claims=claims,
                )
            )
    return rows


def bounds(
    rng: np.random.Generator, design: Sequence[int], uneven: float, resamples: int
) -> dict[str, tuple[float, float]]:
    """Draws a study, and gives the intervals of its index by what they are made of; none where there is none."""
    values, language, seed = study(rng, design, uneven)
    found = {}
    counted = np.flatnonzero(np.array(design)[language] > 1)  # lnsub takes languages with a ceiling
    languages = np.unique(language[counted], return_inverse=True)[1]
    runs = runs_of(values[np.ix_(counted, counted)], languages, seed[counted])
    row, seeds = runs.row(), np.ones(max(design))

    def over_languages(weights: list[np.ndarray]) -> float | None:
        return runs.index([*weights, seeds])

    if row["index_low"] is not None:
        found["the jackknife"] = row["index_low"], row["index_high"]
        found["one over languages alone"] = interval(over_languages, [len(design)])
    found["the pigeonhole bootstrap"] = pigeonhole(rng, values, language, seed, resamples)
    return {name: (low, high) for name, (low, high) in found.items() if low is not None and high is not None}


def study(rng: np.random.Generator, design: Sequence[int], uneven: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws a study: what every two of its T runs share, (T, T), and the language and the seed of each, (T,).

    A run is a vector: a part that all have, one of its language, one of its seed and one of its own.
    """
    languages, seeds = len(design), max(design)
    at = [(language, seed) for language, often in enumerate(design) for seed in range(often)]
    language, seed = np.array(at).T
    reach = OF_LANGUAGE * np.exp(uneven * rng.standard_normal((languages, 1)))

    def part(members: int, scale: float | np.ndarray) -> np.ndarray:
        return np.asarray(scale * rng.standard_normal((members, DIMENSIONS)) / sqrt(DIMENSIONS))

    vectors = part(languages, reach)[language] + part(seeds, OF_SEED)[seed] + part(len(at), OF_RUN)
    vectors[:, 0] += COMMON
    strength = np.exp(STRENGTH * rng.standard_normal(languages))[language]
    strength = strength * np.exp(STRENGTH * rng.standard_normal(seeds))[seed]
    return (vectors @ vectors.T) * np.outer(strength, strength), language, seed


def runs_of(values: np.ndarray, language: np.ndarray, seed: np.ndarray) -> Runs:
    """The pairs of a study as lnsub takes them."""
    names = [str(t) for t in range(len(values))]
    pairs = [{"a": names[i], "b": names[j], "value": values[i, j]} for i, j in combinations(range(len(values)), 2)]
    return Runs(pairs, "value", names, language, seed)


def pigeonhole(
    rng: np.random.Generator, values: np.ndarray, language: np.ndarray, seed: np.ndarray, resamples: int
) -> tuple[float | None, float | None]:
    """The percentile interval of languages and seeds drawn with replacement, two of each at least (Owen, 2007)."""
    member = (language[:, None] == np.arange(language.max() + 1)).astype(float)
    other_seed, found = seed[:, None] != seed, list[float]()
    while len(found) < resamples:
        often = [np.bincount(rng.integers(0, n, n), minlength=n) for n in (language.max() + 1, seed.max() + 1)]
        if min(map(np.count_nonzero, often)) < 2:
            continue
        weight = np.outer(often[1][seed], often[1][seed]) * other_seed
        count = member.T @ weight @ member
        mean = member.T @ (weight * values) @ member / np.maximum(count, 1)
        within = often[0] * (np.diag(count) > 0)
        across = np.outer(often[0], often[0]) * (count > 0) * ~np.eye(len(count), dtype=bool)
        if not within.sum() or not across.sum():
            found.append(np.nan)
            continue
        found.append((across * mean).sum() / across.sum() / ((within * np.diag(mean)).sum() / within.sum()))
    if np.isnan(found).all():
        return None, None
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def correlations(draws: int) -> list[Row]:
    """Type I error and power of tests of a symmetric measure of pairs against a directed one."""
    rows = []
    for languages in (FEWEST, 10):
        for effects, related in ((0.0, 0.0), (1.0, 0.0), (3.0, 0.0), (0.0, 0.38), (1.0, 0.38)):
            rng = np.random.default_rng([2, languages])
            off = ~np.eye(languages, dtype=bool)
            pairs = [(str(s), str(t)) for s, t in np.argwhere(off)]
            rejected = []
            for number in range(draws):
                x, y = measures(rng, languages, effects, related)
                (row, _) = correlation(list(x[off]), list(y[off]), pairs, seed=number)
                tests = fisher(x[off], y[off]), plain_permutation(rng, x, y, 499), row["p"]
                rejected.append([p <= LEVEL for p in tests])
            shares = np.mean(rejected, axis=0)
            what = f"pairs related, r {related}" if related else "nothing related"
            also = f"languages' own effects {effects:g} times the pairs'" if effects else "no effects of languages"
            names = ("rejected by Fisher's z", "by permuted languages", "by permuted languages, double-centred")
            claims = [] if related else [at_most(float(shares[2]), 0.08, "rejected")]
            rows.append(
                Row(
                    f"correlation, {languages} languages: {what}, {also}",
                    values={name: round(float(share), 3) for name, share in zip(names, shares, strict=True)},
                    claims=claims,
                )
            )
    return rows


def measures(rng: np.random.Generator, languages: int, effects: float, related: float) -> tuple[np.ndarray, np.ndarray]:
    """Draws two (L, L) measures: a symmetric one, and a directed one whose pairs are related to it as asked.

    Languages have effects on both: what a language does to its overlaps it does to the transfers from it too.
    """
    of_pair = rng.standard_normal((languages, languages))
    of_pair = (of_pair + of_pair.T) / sqrt(2)
    source, target = effects * rng.standard_normal((2, languages))
    noise = sqrt(1 - related**2) * rng.standard_normal((languages, languages))
    return source[:, None] + source + of_pair, source[:, None] + target + related * of_pair + noise


def fisher(x: np.ndarray, y: np.ndarray) -> float:
    """The two-sided p of Fisher's z, as if pairs were independent."""
    return erfc(abs(atanh(np.corrcoef(x, y)[0, 1])) * sqrt(len(x) - 3) / sqrt(2))


def plain_permutation(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, permutations: int) -> float:
    """The two-sided p of permuted languages, their effects left in."""
    off = ~np.eye(len(x), dtype=bool)
    orders = [np.arange(len(x)), *(rng.permutation(len(x)) for _ in range(permutations))]
    values = np.abs([np.corrcoef(x[np.ix_(order, order)][off], y[off])[0, 1] for order in orders])
    return float((values >= values[0] - 1e-12).mean())


MOVED = 0.003
"""How far fine-tuning moves weights of standard deviation 0.04."""


def nulls(draws: int, side: int) -> list[Row]:
    """How far the nulls lie from what two runs share that have only the model in common."""
    rows = []
    for scales in (0.0, 0.3, 0.6):
        for what in ("how far weights move", "the chance to flip") if scales else ("",):
            rng = np.random.default_rng([3, int(10 * scales), len(what)])
            shared, expected = 0, dict.fromkeys(NULLS, 0.0)
            for _ in range(draws):
                pair, base, theta_0 = two_runs(rng, side, scales, product=what == "the chance to flip")
                for null in NULLS:
                    counted = count_departures(pair, base, theta_0, null=null)
                    expected[null] += float(counted.expected.sum())
                shared += int(counted.both.sum())
            off = {null: round(100 * (value / shared - 1), 1) for null, value in expected.items()}
            spread = f"rows and columns scale {what}, sd of logarithm {scales:g}" if scales else "no scales"
            rows.append(
                Row(
                    f"null: {spread}",
                    values={
                        "% off by |theta_0| alone": off["magnitude"],
                        "% off raked": off["raked"],
                    },
                    claims=[at_most(abs(off["raked"]), 5, "% off")],
                )
            )
    return rows


def two_runs(
    rng: np.random.Generator, side: int, scales: float, *, product: bool
) -> tuple[list[Ticket], Ticket, dict[str, np.ndarray]]:
    """Two tickets that share theta_0 and the scales of its rows and columns, the inherited mask, and theta_0.

    The scales are of how far a weight moves, or as a ``product`` of the probability of its flip.
    """
    theta_0 = rng.normal(0, 0.04, (side, side)).astype(np.float32)
    factor = np.exp(scales * (rng.standard_normal((side, 1)) + rng.standard_normal((1, side))))
    threshold = np.median(np.abs(theta_0))
    base = np.abs(theta_0) > threshold
    likely = 0.5 * np.exp(-np.abs(np.abs(theta_0) - threshold) / MOVED) * factor / factor.mean()

    def mask() -> np.ndarray:
        if product:
            return np.asarray(base ^ (rng.random(base.shape) < likely))
        return np.asarray(np.abs(theta_0 + MOVED * factor * rng.standard_normal(base.shape)) > threshold)

    return [_ticket(mask()) for _ in range(2)], _ticket(base), {_NAME: theta_0}


_NAME = "encoder.layer.0.attention.self.query.weight"


def _ticket(mask: np.ndarray) -> Ticket:
    packed = np.packbits(mask, axis=None, bitorder="little")
    return Ticket({_NAME: packed}, {_NAME: mask.shape}, provenance("fr", 0.5))
