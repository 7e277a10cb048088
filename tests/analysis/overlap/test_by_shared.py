from itertools import combinations

import numpy as np
import pytest
from scipy.stats import t as t_distribution

from lnsub.analysis.overlap.by_shared import by_shared
from lnsub.analysis.overlap.jaccard import overlap
from tests.support.ticket_factory import kept_set, random_masks, ticket

RUNS = ({"rows": "half 0"}, {"condition": "sample1", "rows": "half 1"}, {"rows": "half 0", "seed": 1})
LANGUAGES = ("ar", "fr", "ur")


def test_means_and_intervals_over_languages_are_those_of_plain_sets() -> None:
    masks, made, keys = [], [], []
    for place, language in enumerate(LANGUAGES):
        for number, facts in enumerate(RUNS):
            masks.append(random_masks(0.5, 10 * place + number))
            made.append(ticket(masks[-1], **facts | {"language": language, "rows": f"{language} {facts['rows']}"}))
            keys.append((language, number))
    for language in ("ar", "fr"):
        facts = {"condition": "shuffled", "labels": "shuffled", "language": language, "rows": f"{language} half 0"}
        masks.append(random_masks(0.5, 50 + len(masks)))
        made.append(ticket(masks[-1], **facts))
        keys.append((language, 3))
    sets = [kept_set(m) for m in masks]
    rows = {(r["shared"], r["trained_on"]): r for r in by_shared(made, overlap(made)) if r["measure"] == "overlap"}
    assert next(iter(rows)) == ("head + order + language", "given")
    assert list(rows)[-1] == ("head + order", "shuffled")

    def mean(without: str, wanted: tuple[frozenset[int], ...], same: bool) -> float:
        by_pair: dict[frozenset[str], list[float]] = {}
        for i, j in combinations(range(len(made)), 2):
            (la, ra), (lb, rb) = keys[i], keys[j]
            if without not in {la, lb} and (la == lb) is same and frozenset((ra, rb)) in wanted:
                value = len(sets[i] & sets[j]) / len(sets[i] | sets[j])
                by_pair.setdefault(frozenset((la, lb)), []).append(value)
        return float(np.mean([np.mean(values) for values in by_pair.values()]))

    expected = {
        ("head + order + language", "given"): ((frozenset((0, 1)),), True),
        ("head + order", "given"): ((frozenset((0, 1)), frozenset((0,)), frozenset((1,)), frozenset((2,))), False),
        ("nothing", "given"): ((frozenset((0, 2)), frozenset((1, 2))), False),
        ("head + order + rows + language", "shuffled in one"): ((frozenset((0, 3)),), True),
    }
    for key, (wanted, same) in expected.items():
        row = rows[key]
        assert row["mean"] == pytest.approx(mean("", wanted, same))
        if row["languages"] == 3:
            left_out = [mean(language, wanted, same) for language in LANGUAGES]
            half = t_distribution.ppf(0.975, 2) * np.sqrt(2 * np.var(left_out))
            assert (row["low"], row["high"]) == pytest.approx((row["mean"] - half, row["mean"] + half))
        else:
            assert (row["low"], row["high"]) == (None, None)
    assert (rows["head + order", "given"]["pairs"], rows["head + order", "shuffled"]["pairs"]) == (15, 1)
