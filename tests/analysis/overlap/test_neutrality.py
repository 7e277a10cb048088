from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import t as t_distribution

from lnsub.analysis.overlap.neutrality import neutrality
from lnsub.tickets.ticket import Ticket
from tests.support.ticket_factory import kept_set, ticket

SHAPES = {"encoder.layer.0.attention.self.query.weight": (60, 50), "encoder.layer.1.output.dense.weight": (40, 50)}


def run_masks(language: int, seed: int, language_noise: float, seed_noise: float) -> dict[str, np.ndarray]:
    """A mask all languages share, flipped in part by the language and in part by the run."""
    core, mine, run = (np.random.default_rng(key) for key in ([0], [1, language], [2, language, seed]))
    return {
        name: (core.random(shape) < 0.5) ^ (mine.random(shape) < language_noise) ^ (run.random(shape) < seed_noise)
        for name, shape in SHAPES.items()
    }


def runs(
    languages: int, seeds: int, language_noise: float = 0.1, seed_noise: float = 0.1
) -> tuple[list[dict[str, np.ndarray]], list[Ticket]]:
    keys = [(language, seed) for language in range(languages) for seed in range(seeds)]
    masks = [run_masks(language, seed, language_noise, seed_noise) for language, seed in keys]
    made = [ticket(m, language=f"l{key[0]}", seed=key[1]) for m, key in zip(masks, keys, strict=True)]
    return masks, made


def test_ceiling_cross_and_index_follow_their_definition() -> None:
    masks, made = runs(4, 3)
    row = next(r for r in neutrality(made) if r["measure"] == "overlap")
    sets = [kept_set(m) for m in masks]
    found: dict[str, list[float]] = {"ceiling": [], "cross": [], "cross_same_seed": []}
    for i, j in combinations(range(12), 2):
        (la, sa), (lb, sb) = divmod(i, 3), divmod(j, 3)
        kind = "ceiling" if la == lb else "cross_same_seed" if sa == sb else "cross"
        found[kind].append(len(sets[i] & sets[j]) / len(sets[i] | sets[j]))
    for kind, values in found.items():
        assert row[kind] == pytest.approx(np.mean(values))
    assert row["index"] == pytest.approx(np.mean(found["cross"]) / np.mean(found["ceiling"]))
    assert (row["languages"], row["runs"]) == (4, 12)
    assert row["interval"] == "jackknife over 4 languages and 3 seeds"
    assert row["index_low"] < row["index"] < row["index_high"] < 1


def test_languages_weigh_alike_however_many_runs_they_have() -> None:
    masks, made = runs(2, 5)
    keep = [0, 1, 2, 3, 4, 5, 6]
    sets = [kept_set(masks[i]) for i in keep]

    def overlap(i: int, j: int) -> float:
        return len(sets[i] & sets[j]) / len(sets[i] | sets[j])

    row = next(r for r in neutrality([made[i] for i in keep]) if r["measure"] == "overlap")
    within = [np.mean([overlap(i, j) for i, j in combinations(range(5), 2)]), overlap(5, 6)]
    assert row["ceiling"] == pytest.approx(np.mean(within))


def test_tickets_that_differ_by_seed_alone_have_index_one() -> None:
    _, made = runs(5, 3, language_noise=0)
    row = next(r for r in neutrality(made) if r["measure"] == "overlap")
    assert row["index"] == pytest.approx(1, abs=0.02)
    assert row["index_low"] <= 1 <= row["index_high"]


def test_more_of_a_languages_own_lowers_the_index() -> None:
    indices = [
        next(r["index"] for r in neutrality(runs(4, 2, noise)[1]) if r["measure"] == "overlap")
        for noise in (0.02, 0.1, 0.3)
    ]
    assert indices == sorted(indices, reverse=True)
    assert indices[0] - indices[-1] > 0.1


def test_only_languages_with_a_ceiling_count() -> None:
    _, made = runs(5, 3)
    alone = ("l3", "l4")
    some = [t for t in made if t.provenance.seed == 0 or t.provenance.language not in alone]
    without = [t for t in made if t.provenance.language not in alone]
    assert neutrality(some) == neutrality(without)
    assert (neutrality(some)[0]["languages"], neutrality(some)[0]["runs"]) == (3, 9)


def test_the_interval_is_the_jackknifes_over_languages_and_seeds() -> None:
    _, made = runs(5, 3)

    def index(kept: Callable[[Ticket], bool]) -> float:
        return neutrality([t for t in made if kept(t)])[0]["index"]

    without_languages = [index(lambda t, i=i: t.provenance.language != f"l{i}") for i in range(5)]
    without_seeds = [index(lambda t, i=i: t.provenance.seed != i) for i in range(3)]
    a, b = 4 * np.var(without_languages), 2 * np.var(without_seeds)
    half = t_distribution.ppf(0.975, (a + b) ** 2 / (a**2 / 4 + b**2 / 2)) * np.sqrt(a + b)
    row = neutrality(made)[0]
    assert (row["index_low"], row["index_high"]) == pytest.approx((row["index"] - half, row["index"] + half))


@pytest.mark.parametrize(("languages", "seeds"), [(1, 3), (3, 1)])
def test_there_is_no_index_without_two_languages_and_a_ceiling(languages: int, seeds: int) -> None:
    assert neutrality(runs(languages, seeds)[1]) == []


@pytest.mark.parametrize(
    ("languages", "seeds", "why"), [(2, 2, "2 languages and 2 seeds"), (5, 2, "here 2 seeds"), (2, 3, "2 languages")]
)
def test_too_few_runs_for_an_interval_have_none_and_say_why(languages: int, seeds: int, why: str) -> None:
    row = neutrality(runs(languages, seeds)[1])[0]
    assert row["index"] is not None
    assert (row["index_low"], row["index_high"]) == (None, None)
    assert row["interval"].startswith("it takes 3 languages and 3 seeds, here ")
    assert why in row["interval"]


def test_departures_above_their_null_come_first_where_theta_0_is_known() -> None:
    _, made = runs(3, 2)
    theta_0 = {name: np.random.default_rng(9).normal(size=shape) for name, shape in SHAPES.items()}
    middle = np.median(np.abs(np.concatenate([w.ravel() for w in theta_0.values()])))
    base = ticket({name: np.abs(w) > middle for name, w in theta_0.items()}, task="inherited")
    measures = [r["measure"] for r in neutrality(made, inherited=[base], theta_0=theta_0)]
    assert measures == ["departure_corrected", "departure_overlap", "overlap", "corrected"]


def test_the_index_of_departures_and_by_layer_is_given_too() -> None:
    _, made = runs(3, 2)
    core = {name: np.random.default_rng([0]) for name in SHAPES}
    rng = core[next(iter(SHAPES))]
    base = ticket({name: rng.random(shape) < 0.5 for name, shape in SHAPES.items()}, task="inherited")
    rows = neutrality(made, ["layer"], inherited=[base])
    assert [(r["layer"], r["measure"]) for r in rows] == [
        ("0", "departure_overlap"),  # corrected by a null only where theta_0 is known
        ("1", "departure_overlap"),
        ("0", "overlap"),
        ("0", "corrected"),
        ("1", "overlap"),
        ("1", "corrected"),
    ]
    found = {(r["layer"], r["measure"]): r["index"] for r in rows}
    # Departures hold what languages have of their own: the shared mask no longer hides that they differ.
    assert found["0", "departure_overlap"] < found["0", "overlap"] < 1


def test_pairs_that_share_a_head_make_an_index_of_their_own() -> None:
    """Seed 0 on two samples of rows, and seed 1: each index is what plain sets give over its pairs alone."""
    conditions = ({"seed": 0}, {"seed": 0, "condition": "sample1", "rows": "other"}, {"seed": 1})
    masks, made = [], []
    for language, (run, facts) in product(range(3), enumerate(conditions)):
        masks.append(run_masks(language, run, 0.1, 0.1))
        made.append(ticket(masks[-1], language=f"l{language}", **facts))
    rows = [row for row in neutrality(made) if row["measure"] == "overlap"]
    assert [(row["shared"], row["shared_ceiling"]) for row in rows] == [
        ("nothing", "rows + language"),
        ("nothing", "language"),
        ("head + order", "head + order + language"),
    ]
    sets = [kept_set(m) for m in masks]
    for row, runs_of_it in zip(rows, ((0, 2), (1, 2), (0, 1)), strict=True):
        found: dict[bool, list[float]] = {True: [], False: []}
        for i, j in combinations(range(9), 2):
            (la, ra), (lb, rb) = divmod(i, 3), divmod(j, 3)
            if {ra, rb} == set(runs_of_it):
                found[la == lb].append(len(sets[i] & sets[j]) / len(sets[i] | sets[j]))
        assert row["index"] == pytest.approx(np.mean(found[False]) / np.mean(found[True]))
        assert row["runs"] == 6
    plain = [t for t in made if not t.provenance.condition]
    assert [row for row in neutrality(plain) if row["measure"] == "overlap"] == rows[:1]


def test_tickets_of_shuffled_labels_are_in_no_index_with_others() -> None:
    _, made = runs(3, 3)
    floor = [replace(t, provenance=replace(t.provenance, labels="shuffled", condition="shuffled")) for t in made]
    rows = neutrality([*made, *floor])
    assert [row["labels"] for row in rows] == ["", "", "shuffled", "shuffled"]
    assert rows[:2] == neutrality(made)
