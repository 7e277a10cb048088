"""How often a model of one seed matches the dense one, in simulated pairs of models of which the truth is known."""

from math import sqrt
from statistics import NormalDist

import numpy as np

from benchmarks.harness import Row, at_most
from lnsub.analysis.criteria import MARGIN, standard_error
from lnsub.analysis.non_inferiority import matched

ACCURACY, ALIKE = 0.8, 0.8
"""The dense model's accuracy, and the correlation of how hard an example is for either model."""


def matches(draws: int, resamples: int) -> list[Row]:
    """How often a model of one seed matches the dense one, by how much worse it is and how many examples there are."""
    rows = []
    for n in (200, 2000, 10_000):
        for worse in (0.0, MARGIN, 0.03):
            rng, held = np.random.default_rng([4, n, round(100 * worse)]), []
            for _ in range(draws):
                dense, model = answers(rng, n, worse)
                test = matched(model, dense, margin=MARGIN, chance=1 / 3, resamples=resamples)
                share = float(dense[:, 0].mean())
                held.append([test.difference >= -standard_error(share, n), test.matches])
            by_error, by_test = (round(float(found), 3) for found in np.mean(held, axis=0))
            what = f"{100 * worse:g} points worse" if worse else "equal"
            values: dict[str, float | str] = {
                "accepted within one binomial standard error": by_error,
                "by non-inferiority": by_test,
            }
            claims = [at_most(by_test, 0.08, "accepted")] if worse else []
            rows.append(Row(f"matching dense, {n:,} examples: {what}", None, values=values, claims=claims))
    return rows


def answers(rng: np.random.Generator, n: int, worse: float) -> tuple[np.ndarray, np.ndarray]:
    """What the dense model and one so much worse get right of n examples, (n, 2) each."""
    hard, own = rng.standard_normal(n), rng.standard_normal((2, n))
    skill = sqrt(ALIKE) * hard + sqrt(1 - ALIKE) * own
    least = [NormalDist().inv_cdf(1 - share) for share in (ACCURACY, ACCURACY - worse)]
    dense, model = (np.stack([found > at, np.ones(n)], axis=1) for found, at in zip(skill, least, strict=True))
    return dense, model
