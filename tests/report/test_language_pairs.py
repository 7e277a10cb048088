import pandas as pd

from lnsub.report.language_pairs import equal_terms, shown_pairs


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
