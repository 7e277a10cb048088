from itertools import combinations

import numpy as np
import pytest

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
    assert (row["languages"], row["ceiling_languages"], row["runs"]) == (4, 4, 12)
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


def test_one_language_with_several_seeds_is_enough_for_a_ceiling() -> None:
    _, made = runs(4, 3)
    some = [t for t in made if t.provenance.seed == 0 or t.provenance.language == "l0"]
    row = next(r for r in neutrality(some) if r["measure"] == "overlap")
    assert (row["languages"], row["ceiling_languages"]) == (4, 1)
    assert 0 < row["index"] < 1
    assert row["index_low"] <= row["index"] <= row["index_high"]


def test_the_bootstrap_is_repeatable_and_its_seed_matters() -> None:
    _, made = runs(4, 3)
    first, again, other = (neutrality(made, seed=seed)[0] for seed in (3, 3, 4))
    assert first == again
    assert (first["index_low"], first["index_high"]) != (other["index_low"], other["index_high"])
    assert first["index"] == other["index"]


@pytest.mark.parametrize(("languages", "seeds"), [(1, 3), (3, 1)])
def test_there_is_no_index_without_two_languages_and_a_ceiling(languages: int, seeds: int) -> None:
    assert neutrality(runs(languages, seeds)[1]) == []


def test_too_few_runs_for_an_interval_have_none() -> None:
    row = neutrality(runs(2, 2)[1])[0]
    assert row["index"] is not None
    assert (row["index_low"], row["index_high"]) == (None, None)


def test_the_interval_can_be_left_out() -> None:
    row = neutrality(runs(3, 3)[1], resamples=0)[0]
    assert (row["index_low"], row["index_high"]) == (None, None)


def test_the_index_of_departures_and_by_layer_is_given_too() -> None:
    _, made = runs(3, 2)
    core = {name: np.random.default_rng([0]) for name in SHAPES}
    rng = core[next(iter(SHAPES))]
    base = ticket({name: rng.random(shape) < 0.5 for name, shape in SHAPES.items()}, task="inherited")
    rows = neutrality(made, ["layer"], inherited=[base], resamples=50)
    assert [(r["layer"], r["measure"]) for r in rows] == [
        ("0", "overlap"),
        ("0", "corrected"),
        ("1", "overlap"),
        ("1", "corrected"),
        ("0", "departure_overlap"),
        ("0", "departure_corrected"),
        ("1", "departure_overlap"),
        ("1", "departure_corrected"),
    ]
    found = {(r["layer"], r["measure"]): r["index"] for r in rows}
    # Departures hold what languages have of their own: the shared mask no longer hides that they differ.
    assert found["0", "departure_overlap"] < found["0", "overlap"] < 1
