from itertools import combinations

import numpy as np
import pytest

from lnsub.analysis.overlap.counts import count, count_rows
from lnsub.analysis.overlap.jaccard import (
    ALIKE,
    chance_level,
    comparable,
    corrected_share,
    labels,
    overlap,
    summary,
)
from lnsub.common.errors import UserError
from lnsub.tickets.parameters import kind_of, layer_of
from tests.support.ticket_factory import SHAPES, kept_set, random_masks, random_ticket, ticket

DENSITIES = (0.3, 0.5, 0.8, 0.5)
POOLER = "pooler.dense.weight"


def jaccard(a: set, b: set) -> float:
    return len(a & b) / len(a | b)


def weights_of(names: set[str]) -> int:
    return sum(int(np.prod(SHAPES[name])) for name in names)


GROUPINGS = {
    (): lambda name: (),
    ("layer",): lambda name: (layer_of(name),),
    ("kind",): lambda name: (kind_of(name),),
    ("matrix",): lambda name: (name,),
    ("layer", "kind"): lambda name: (layer_of(name), kind_of(name)),
}


@pytest.mark.parametrize("by", GROUPINGS)
def test_every_number_is_what_plain_sets_give(by: tuple[str, ...]) -> None:
    masks = [random_masks(density, seed) for seed, density in enumerate(DENSITIES)]
    rows = overlap([ticket(m, language=f"l{i}") for i, m in enumerate(masks)], by)
    groups = {GROUPINGS[by](name) for name in SHAPES}
    assert len(rows) == 6 * len(groups)
    for row in rows:
        group = tuple(row[b] for b in by)
        names = {name for name in SHAPES if GROUPINGS[by](name) == group}
        a, b = (kept_set(masks[int(row[side][len("xnli/l")])], names) for side in ("a", "b"))
        weights = weights_of(names)
        expected_chance = len(a) / weights * len(b) / weights
        expected_chance /= len(a) / weights + len(b) / weights - expected_chance
        assert row["overlap"] == pytest.approx(jaccard(a, b), abs=1e-15)
        assert row["chance"] == pytest.approx(expected_chance, abs=1e-15)
        assert row["corrected"] == pytest.approx((jaccard(a, b) - expected_chance) / (1 - expected_chance))
        assert (row["kept_a"], row["kept_b"], row["kept_both"]) == (len(a), len(b), len(a & b))
        assert (row["weights"], row["matrices"], row["left_out"]) == (weights, len(names), "")
        assert row["density_a"] == len(a) / weights
    assert {tuple(row[b] for b in by) for row in rows} == groups


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 128, 200, 1023])
@pytest.mark.parametrize("block", [8, 64, 1 << 16])
def test_counts_are_right_across_block_and_word_borders(size: int, block: int) -> None:
    rng = np.random.default_rng(size)
    rows = [rng.integers(0, 256, size, dtype=np.uint8) for _ in range(4)]
    bits = [set(np.flatnonzero(np.unpackbits(row)).tolist()) for row in rows]
    counted = count_rows(rows, block)
    assert counted.kept.tolist() == [len(b) for b in bits]
    assert counted.both.tolist() == [len(a & b) for a, b in combinations(bits, 2)]
    assert counted.every == len(set.intersection(*bits))
    assert counted.some == len(set.union(*bits))


def test_a_ticket_overlaps_itself_wholly_and_its_complement_not_at_all() -> None:
    masks = random_masks(0.4, 1)
    opposite = {name: ~mask for name, mask in masks.items()}
    same, disjoint, _ = overlap([ticket(masks), ticket(masks), ticket(opposite)], ())
    assert (same["overlap"], same["corrected"]) == (1, 1)
    assert disjoint["overlap"] == 0


@pytest.mark.parametrize(("a", "b"), [(0.1, 0.1), (0.5, 0.5), (0.9, 0.9), (0.2, 0.7)])
def test_random_masks_overlap_as_chance_says(a: float, b: float) -> None:
    shapes = {"w": (1000, 1000)}
    (row,) = overlap([random_ticket(a, 1, shapes), random_ticket(b, 2, shapes)])
    level = a * b / (a + b - a * b)
    # Five standard deviations of the share of a million independent weights.
    assert row["overlap"] == pytest.approx(level, abs=5 * (level * (1 - level) / (1e6 * (a + b - a * b))) ** 0.5)
    assert row["chance"] == pytest.approx(level, abs=0.005)
    assert row["corrected"] == pytest.approx(0, abs=0.01)


def test_shares_that_are_not_defined_are_none() -> None:
    assert chance_level(0, 0) is None
    assert chance_level(0.9, 0.9) == pytest.approx(0.81 / 0.99)
    assert corrected_share(1.0, 1.0) is None
    assert corrected_share(None, 0.5) is None
    (row,) = overlap([random_ticket(0, 1), random_ticket(0, 2)])
    assert (row["overlap"], row["chance"], row["corrected"]) == (None, None, None)
    (row,) = overlap([random_ticket(2, 1), random_ticket(2, 2)])
    assert (row["overlap"], row["chance"], row["corrected"]) == (1, 1, None)


def test_a_pair_is_compared_over_the_parameters_that_both_have() -> None:
    small = {name: shape for name, shape in SHAPES.items() if name != POOLER}
    masks = [random_masks(0.5, 1), random_masks(0.5, 2), random_masks(0.5, 3, small)]
    both, with_ner, _ = overlap([ticket(m, task=t) for m, t in zip(masks, ("xnli", "xnli", "wikiann"), strict=True)])
    assert (both["matrices"], both["left_out"]) == (6, "")
    assert both["overlap"] == jaccard(*(kept_set(m) for m in masks[:2]))
    assert (with_ner["matrices"], with_ner["left_out"], with_ner["weights"]) == (5, POOLER, weights_of(set(small)))
    assert with_ner["overlap"] == jaccard(*(kept_set(m, set(small)) for m in (masks[0], masks[2])))
    by_layer = overlap([ticket(masks[0]), ticket(masks[2])], ("layer",))
    assert [row["layer"] for row in by_layer] == ["0", "1", "10"]


def test_groups_come_by_number_and_by_kind() -> None:
    two = [random_ticket(0.5, 1), random_ticket(0.5, 2)]
    assert [row["layer"] for row in overlap(two, ["layer"])] == ["0", "1", "10", "pooler"]
    assert [row["kind"] for row in overlap(two, ["kind"])] == ["query", "attention output", "output", "pooler"]


def test_an_unknown_grouping_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be taken by 'head': choose from layer, kind, matrix, stack"):
        overlap([random_ticket(0.5, 1), random_ticket(0.5, 2)], ["head"])


def test_one_ticket_is_not_enough() -> None:
    with pytest.raises(UserError, match="takes at least two; there is 1 here"):
        count([random_ticket(0.5, 1)])
    with pytest.raises(UserError, match="takes at least two; there is none here"):
        count([])


def test_tickets_of_two_models_are_refused_and_named() -> None:
    other = random_ticket(0.5, 2, language="de", base_model="other-bert", base_fingerprint="cd" * 32)
    with pytest.raises(
        UserError, match=r"xnli/fr/\S+ and xnli/de/\S+ .*tiny-bert \(fingerprint abab.* other-bert \(cd"
    ):
        overlap([random_ticket(0.5, 1), other])


def test_tickets_with_other_shapes_are_refused_and_named() -> None:
    other = random_ticket(0.5, 2, {POOLER: (6, 7)}, language="de")
    with pytest.raises(UserError, match=r"fr/\S+ and xnli/de/\S+ differ in the shape of pooler.*\[6, 6\] and \[6, 7\]"):
        overlap([random_ticket(0.5, 1), other])


def test_tickets_with_nothing_in_common_are_refused_and_named() -> None:
    with pytest.raises(UserError, match=r"xnli/fr/\S+ and xnli/de/\S+ have no parameter in common"):
        overlap([random_ticket(0.5, 1, {"a": (3, 3)}), random_ticket(0.5, 1, {"b": (3, 3)}, language="de")])


def test_tickets_named_alike_are_told_apart() -> None:
    a, b, c = random_ticket(0.5, 1), random_ticket(0.5, 2), random_ticket(0.5, 3, language="de")
    assert labels([a, b, c]) == [f"xnli/fr/seed0/s0.50@{t.checksum[:8]}" for t in (a, b)] + ["xnli/de/seed0/s0.50"]


def tickets_of(task: str, languages: str, seeds: tuple[int, ...], sparsity: float, start: int) -> tuple[list, list]:
    masks, made = [], []
    for language in languages:
        for seed in seeds:
            masks.append(random_masks(1 - sparsity, start + len(masks)))
            made.append(ticket(masks[-1], task=task, language=language, seed=seed, sparsity=sparsity))
    return masks, made


def test_the_summary_gives_means_and_all_way_overlap_per_task_and_sparsity() -> None:
    half, half_tickets = tickets_of("xnli", "abc", (0, 1), 0.5, 0)
    most, most_tickets = tickets_of("mlm", "ab", (0,), 0.8, 50)
    extra = random_ticket(0.5, 9, task="inherited", language="inherited")
    rows = summary([*half_tickets, extra, *most_tickets])
    found = {(row["task"], row["sparsity"], row["relation"]): row for row in rows}
    assert list(found) == [
        ("mlm", 0.8, "all"),
        ("mlm", 0.8, "cross-language, same seed"),
        ("xnli", 0.5, "all"),
        ("xnli", 0.5, "cross-language, same seed"),
        ("xnli", 0.5, "cross-language, different seeds"),
        ("xnli", 0.5, "same language, different seeds"),
    ]
    sets = [kept_set(m) for m in half]
    every = [jaccard(a, b) for a, b in combinations(sets, 2)]
    row = found["xnli", 0.5, "all"]
    assert (row["tickets"], row["pairs"]) == (6, 15)
    assert row["overlap"] == pytest.approx(np.mean(every))
    assert (row["lowest"], row["highest"]) == (min(every), max(every))
    assert (row["kept_in_all"], row["kept_in_any"]) == (len(set.intersection(*sets)), len(set.union(*sets)))
    assert row["all_way"] == len(set.intersection(*sets)) / len(set.union(*sets))
    # Tickets are in the order a0 a1 b0 b1 c0 c1.
    same = [jaccard(sets[i], sets[i + 1]) for i in (0, 2, 4)]
    assert found["xnli", 0.5, "same language, different seeds"]["overlap"] == pytest.approx(np.mean(same))
    one_seed = [jaccard(sets[i], sets[j]) for i, j in combinations(range(6), 2) if i % 2 == j % 2]
    assert found["xnli", 0.5, "cross-language, same seed"]["overlap"] == pytest.approx(np.mean(one_seed))
    assert found["xnli", 0.5, "cross-language, different seeds"]["pairs"] == 6
    assert found["mlm", 0.8, "all"]["overlap"] == jaccard(*(kept_set(m) for m in most))


def test_independent_masks_meet_the_all_way_chance_level() -> None:
    shapes = {"w": (1000, 1000)}
    (row, _) = summary([random_ticket(0.5, seed, shapes, language=str(seed)) for seed in range(3)])
    assert row["all_way_chance"] == pytest.approx(0.125 / 0.875, abs=0.001)
    assert row["all_way"] == pytest.approx(row["all_way_chance"], abs=0.002)


def test_the_summary_by_layer_agrees_with_the_pairs() -> None:
    _, made = tickets_of("xnli", "abc", (0,), 0.5, 0)
    by_layer = {row["layer"]: row for row in summary(made, ["layer"]) if row["relation"] == "all"}
    pairs = [row["overlap"] for row in overlap(made, ["layer"]) if row["layer"] == "10"]
    assert by_layer["10"]["overlap"] == pytest.approx(np.mean(pairs))


def test_tickets_are_pooled_only_with_their_like() -> None:
    kinds = [{}, {"language": "de"}, {"score": "random"}, {"scope": "layer"}, {"sparsity": 0.6}, {"sources": "{}"}]
    kinds += [{"labels": "shuffled"}]
    made = [random_ticket(0.5, i, **changes) for i, changes in enumerate(kinds)]
    assert comparable(made) == {("xnli", "magnitude", "global", 0.5, ""): made[:2]}
    assert comparable(made, ALIKE) == {("xnli", "magnitude", "global", 0.5): [*made[:2], made[-1]]}


def test_chance_by_matrix_is_that_of_masks_random_within_each() -> None:
    densities = dict(zip(SHAPES, (0.9, 0.1, 0.7, 0.3, 0.5, 0.2), strict=True))
    rng = np.random.default_rng(0)
    masks = [{name: rng.random(shape) < densities[name] for name, shape in SHAPES.items()} for _ in range(2)]
    (row,) = overlap([ticket(m) for m in masks])
    shared = []
    for _ in range(300):
        shuffled = {name: rng.permutation(mask.ravel()) for name, mask in masks[0].items()}
        shared.append(sum(int((shuffled[name] & masks[1][name].ravel()).sum()) for name in SHAPES))
    mean = float(np.mean(shared))
    assert row["chance_by_matrix"] == pytest.approx(mean / (row["kept_a"] + row["kept_b"] - mean), rel=0.02)
    assert row["chance_by_matrix"] > row["chance"] + 0.05
