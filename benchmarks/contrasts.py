"""The contrast of language with data sample in simulated studies: how often it rejects, and what its interval holds."""

from math import exp, sqrt

import numpy as np

from benchmarks.harness import Row, at_least, at_most
from lnsub.analysis.overlap.contrast import contrast

LEVEL = 0.05
COMMON, OF_SET, OF_RUN, DIMENSIONS = 1.0, 0.3, 0.5, 40
"""Standard deviations of the parts of a run, in as many dimensions: as in :mod:`benchmarks.statistics`."""


def contrasts(draws: int) -> list[Row]:
    """Level, power and coverage, by how much of a run is its language's, and how unequally far languages depart."""
    rows = []
    for languages in (5, 10):
        for of_language, strength in ((0.0, 0.0), (0.0, 0.1), (0.0, 0.3), (0.3, 0.0), (0.7, 0.0), (0.7, 0.1)):
            rng = np.random.default_rng([4, languages, int(10 * of_language), int(10 * strength)])
            truth = of_language**2 + (COMMON**2 + of_language**2) * _spread(strength)
            found = [contrast(table(rng, languages, of_language, strength), seed=n) for n in range(draws)]
            rejected = float(np.mean([row["p"] <= LEVEL for row in found]))
            t_test = float(np.mean([row["difference_low"] > 0 for row in found]))
            held = float(np.mean([row["difference_low"] <= truth <= row["difference_high"] for row in found]))
            what = f"language sd {of_language:g}" if of_language else "no effect of language"
            far = f"languages depart unequally far, sd of logarithm {strength:g}" if strength else "equally far"
            claims = [] if strength else [at_least(held, 0.88, "covered")]
            claims += [] if strength or of_language else [at_most(rejected, 0.08, "rejected")]
            rows.append(
                Row(
                    f"contrast, {languages} languages: {what}, {far}",
                    values={
                        "rejected by permuted languages": round(rejected, 3),
                        "by an interval above 0": round(t_test, 3),
                        "of the difference covered by the jackknife": round(held, 3),
                    },
                    claims=claims,
                )
            )
    return rows


def table(rng: np.random.Generator, languages: int, of_language: float, strength: float) -> np.ndarray:
    """Draws what each run of one set shares with each of another: (L, L).

    A run is a vector: a part that all have, one of its language, one of its set and one of its own. Its length is the
    language's in both sets: a language that departs far does so on any sample.
    """

    def part(members: int, scale: float) -> np.ndarray:
        return np.asarray(scale * rng.standard_normal((members, DIMENSIONS)) / sqrt(DIMENSIONS))

    language, far = part(languages, of_language), np.exp(strength * rng.standard_normal((languages, 1)))
    both = []
    for _ in range(2):
        vectors = language + part(1, OF_SET) + part(languages, OF_RUN)
        vectors[:, 0] += COMMON
        both.append(far * vectors)
    return np.asarray(both[0] @ both[1].T)


def _spread(strength: float) -> float:
    """What unequal lengths add: the mean of a squared length less the square of the mean."""
    return exp(2 * strength**2) - exp(strength**2)
