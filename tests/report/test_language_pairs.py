import pandas as pd
import pytest

from lnsub.report.language_pairs import equal_terms, mean_pairs, shown_pairs


def pairs_of(runs: list[tuple[str, int]]) -> pd.DataFrame:
    rows = []
    for i, (a, seed_a) in enumerate(runs):
        for b, seed_b in runs[i + 1 :]:
            relation = "same language, " if a == b else "cross-language, "
            relation += "same seed" if seed_a == seed_b else "different seeds"
            rows.append({"language_a": a, "language_b": b, "relation": relation, "overlap": 0.5})
    return pd.DataFrame(rows)


def test_languages_are_compared_on_equal_terms_with_the_ceiling() -> None:
    cross, ceiling = equal_terms(pairs_of([("fr", 1), ("fr", 2), ("ru", 1), ("ru", 2)]))
    assert set(cross["relation"]) == {"cross-language, different seeds"}
    assert len(cross) == len(ceiling) == 2
    cross, ceiling = equal_terms(pairs_of([("fr", 1), ("ru", 1), ("zh", 1)]))
    assert (len(cross), len(ceiling)) == (3, 0)


def test_all_pairs_of_languages_are_shown_on_one_footing() -> None:
    cross, ceiling = shown_pairs(pairs_of([("fr", 1), ("fr", 2), ("ru", 1), ("zh", 1)]))
    assert set(cross["relation"]) == {"cross-language, same seed"}
    assert (len(cross), len(ceiling)) == (3, 0)
    cross, ceiling = shown_pairs(pairs_of([("fr", 1), ("fr", 2), ("ru", 1), ("ru", 2)]))
    assert (len(cross), len(ceiling)) == (2, 2)


def test_a_pair_of_languages_counts_once_however_many_runs_it_has() -> None:
    pairs = pairs_of([("fr", 1), ("fr", 2), ("ru", 1), ("ru", 2), ("zh", 1), ("zh", 2)]).assign(study="s", sparsity=0.5)
    fr_ru = pairs[["language_a", "language_b"]].isin(["fr", "ru"]).all(axis=1)
    pairs.loc[fr_ru & (pairs["relation"] == "cross-language, different seeds"), "overlap"] = [0.8, 0.9]
    dropped = pairs.drop(pairs[(pairs["language_b"] == "zh") & (pairs.index % 2 == 0)].index)
    (row,) = mean_pairs(dropped, []).to_dict("records")
    assert row["pairs"] == 3
    assert row["overlap"] == pytest.approx((0.85 + 0.5 + 0.5) / 3)
