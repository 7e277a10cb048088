from itertools import product

import numpy as np
import pytest

from lnsub.analysis import many_comparisons
from lnsub.analysis.many_comparisons import FEWEST, LEVEL, cells_beyond_effects, smallest_q

Values = list[tuple[str, str, int, float]]


def table(languages: int, seeds: int, *, symmetric: bool = False, seed: int = 0) -> Values:
    """Noise and effects of source, target and seed; none of pairs."""
    rng = np.random.default_rng(seed)
    names = [f"l{i}" for i in range(languages)]
    source, target = rng.normal(0, 3, (2, languages))
    target = source if symmetric else target
    return [
        (names[s], names[t], k, source[s] + target[t] + k + rng.normal())
        for k in range(seeds)
        for s, t in product(range(languages), repeat=2)
        if s < t or not symmetric
    ]


def left_over(values: Values, seed: int, *, symmetric: bool) -> dict[tuple[str, str], float]:
    """Takes effects of languages away by sweeping means until none is left."""
    cells = {(s, t): v for s, t, k, v in values if k == seed and s != t}
    languages = sorted({name for place in cells for name in place})
    for _ in range(200):
        for side, name in product((0, 1), languages):
            of = [place for place in cells if (name in place if symmetric else place[side] == name)]
            middle = float(np.mean([cells[place] for place in of])) * (0.5 if symmetric else 1)
            for place in of:
                cells[place] -= middle
    return cells


@pytest.mark.parametrize("symmetric", [False, True])
def test_p_is_the_share_of_draws_of_a_cell_a_seed_that_lie_as_far_out(symmetric: bool) -> None:
    values = table(5, 3, symmetric=symmetric)
    tables = [left_over(values, seed, symmetric=symmetric) for seed in range(3)]
    sums = [abs(sum(draw)) for draw in product(*(cells.values() for cells in tables))]
    tested = cells_beyond_effects(values, symmetric=symmetric)
    for place in tables[0]:
        own = abs(sum(cells[place] for cells in tables))
        assert tested.p[place] == pytest.approx(np.mean([s >= own - 1e-9 for s in sums]))
        assert not symmetric or tested.p[place[::-1]] == tested.p[place]


def test_draws_in_place_of_all_of_them_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = table(6, 3)
    exact = cells_beyond_effects(values)
    monkeypatch.setattr(many_comparisons, "DRAWS", 20_000)
    drawn = cells_beyond_effects(values)
    assert max(abs(drawn.p[place] - p) for place, p in exact.p.items()) < 0.02


def test_effects_of_languages_and_seeds_change_nothing() -> None:
    values = table(5, 3)
    moved = [(s, t, k, 2 * v + 10 * int(s[1]) - 7 * int(t[1]) * k) for s, t, k, v in values]
    assert cells_beyond_effects(moved).p == pytest.approx(cells_beyond_effects(values).p)


def test_q_is_benjamini_and_hochbergs_and_a_pair_that_stands_out_is_marked() -> None:
    values = [(s, t, k, v + 12 * ((s, t) == ("l0", "l3"))) for s, t, k, v in table(8, 3)]
    tested = cells_beyond_effects(values)
    ranked = sorted(tested.p, key=lambda place: tested.p[place])
    for at, place in enumerate(ranked):
        assert tested.q[place] == pytest.approx(
            min(len(ranked) * tested.p[other] / (rank + 1) for rank, other in enumerate(ranked) if rank >= at)
        )
    assert tested.marked == {("l0", "l3")}


def test_a_cell_is_seldom_marked_where_there_is_nothing() -> None:
    found = [bool(cells_beyond_effects(table(6, 2, seed=seed)).marked) for seed in range(200)]
    assert np.mean(found) <= LEVEL + 0.03


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (table(FEWEST - 1, 3), "it takes 5 languages, and there are 4"),
        (table(6, 1), "with one seed of 6 languages no q can be less than 1"),
        (table(5, 2, symmetric=True), "no q can be less than 0.1"),
        (table(6, 2)[:-2], "one of 2 seeds has every cell of the 6 languages, and it takes two"),
        ([], "there are 0"),
    ],
)
def test_what_cannot_be_told_says_why(values: Values, words: str) -> None:
    symmetric = {(s, t) for s, t, _, _ in values}.isdisjoint({(t, s) for s, t, _, _ in values})
    tested = cells_beyond_effects(values, symmetric=symmetric)
    assert words in tested.reason
    assert not tested.p
    assert not tested.marked


def test_the_smallest_q_is_that_of_a_cell_that_is_the_farthest_out_in_every_seed() -> None:
    values = [(s, t, k, 1000.0 * ((s, t) == ("l1", "l2")) + v) for s, t, k, v in table(6, 2)]
    assert min(cells_beyond_effects(values).q.values()) == pytest.approx(smallest_q(30, 2))


def test_mixtures_and_cells_of_one_language_are_left_out_and_whole_seeds_are_kept() -> None:
    values = table(6, 3)
    more = [("l0+l1", "l2", 0, 99.0), ("l3", "l3", 0, 99.0), ("l0", "l1", 9, 99.0)]
    assert cells_beyond_effects(values + more).p == cells_beyond_effects(values).p
