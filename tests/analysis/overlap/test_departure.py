from itertools import combinations
from typing import Any

import numpy as np
import pytest

from lnsub.analysis.overlap.departure import count_departures
from lnsub.analysis.overlap.inheritance import departures, inheritance
from lnsub.common.errors import UserError
from lnsub.tickets.parameters import layer_of
from lnsub.tickets.ticket import Ticket
from tests.support.ticket_factory import SHAPES, kept_set, random_masks, ticket

POOLER = "pooler.dense.weight"
BIG = {f"encoder.layer.{i}.attention.self.query.weight": (128, 96) for i in range(3)}


def inherited_ticket(masks: dict[str, np.ndarray], **changes: object) -> Ticket:
    return ticket(masks, **({"task": "inherited", "language": "inherited", "score": "magnitude_init"} | changes))


def magnitude_masks(weights: dict[str, np.ndarray], sparsity: float) -> dict[str, np.ndarray]:
    """The largest weights over all matrices together, by sorting."""
    threshold = np.quantile(np.concatenate([np.abs(w).ravel() for w in weights.values()]), sparsity)
    return {name: np.abs(w) >= threshold for name, w in weights.items()}


def theta(seed: int, shapes: dict[str, tuple[int, ...]] = BIG) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.04, shape).astype(np.float32) for name, shape in shapes.items()}


def tuned(weights: dict[str, np.ndarray], seed: int, scale: float = 0.003) -> dict[str, np.ndarray]:
    """Weights after a fine-tuning that moves each of them at random, independently of any other."""
    rng = np.random.default_rng([seed, 1])
    return {name: w + rng.normal(0, scale, w.shape).astype(np.float32) for name, w in weights.items()}


def jaccard(a: set, b: set) -> float:
    return len(a & b) / len(a | b)


def deviations(row: dict[str, Any]) -> float:
    """By how many standard deviations of independent rare flips what two departures share exceeds the null."""
    return float((row["departed_both"] - row["expected_both"]) / np.sqrt(row["expected_both"]))


@pytest.mark.parametrize("by", [(), ("layer",)])
def test_every_count_is_what_plain_sets_give(by: tuple[str, ...]) -> None:
    masks, base = [random_masks(0.5, i) for i in range(3)], random_masks(0.5, 9)
    made = [ticket(m, language=f"l{i}") for i, m in enumerate(masks)]
    layers = sorted({layer_of(name) for name in SHAPES}) if by else [None]
    rows = departures(made, [inherited_ticket(base)], by=by)
    alone = inheritance(made, [inherited_ticket(base)], by)
    assert (len(rows), len(alone)) == (3 * len(layers), 3 * len(layers))
    for layer in layers:
        names = {name for name in SHAPES if layer in (None, layer_of(name))}
        sets, inherited = [kept_set(m, names) for m in masks], kept_set(base, names)
        gone = [kept ^ inherited for kept in sets]
        for (i, j), row in zip(
            combinations(range(3), 2), (r for r in rows if not by or r["layer"] == layer), strict=True
        ):
            assert row["overlap"] == jaccard(sets[i], sets[j])
            assert row["inherited_a"] == jaccard(sets[i], inherited)
            assert row["inherited_b"] == jaccard(sets[j], inherited)
            assert (row["departure_a"], row["departure_b"]) == (len(gone[i]), len(gone[j]))
            assert row["departed_both"] == len(gone[i] & gone[j])
            assert row["departure_overlap"] == jaccard(gone[i], gone[j])
        for i, row in enumerate(r for r in alone if not by or r["layer"] == layer):
            n = row["weights"]
            a, b = len(sets[i]) / n, len(inherited) / n
            assert row["overlap"] == jaccard(sets[i], inherited)
            assert row["chance"] == pytest.approx(a * b / (a + b - a * b))
            assert row["corrected"] == pytest.approx((row["overlap"] - row["chance"]) / (1 - row["chance"]))
            assert row["kept_though_small"] == len(sets[i] - inherited)
            assert row["pruned_though_large"] == len(inherited - sets[i])
            assert row["departure"] == len(gone[i])
            assert row["departure_share"] == len(gone[i]) / n


def test_the_null_of_one_matrix_is_the_mean_of_random_draws() -> None:
    masks, base = [random_masks(0.5, i) for i in range(2)], random_masks(0.5, 9)
    counted = count_departures([ticket(m) for m in masks], inherited_ticket(base))
    rng = np.random.default_rng(0)
    for m, name in enumerate(counted.names):
        for direction, cell in enumerate((~base[name].ravel(), base[name].ravel())):
            n = int(cell.sum())
            a, b = (int(((mask[name] ^ base[name]).ravel() & cell).sum()) for mask in masks)
            drawn = [np.isin(rng.permutation(n)[:a], np.arange(b)).sum() for _ in range(4000)]
            deviation = max(np.std(drawn), 0.05)
            assert counted.expected[0, direction, m] == pytest.approx(np.mean(drawn), abs=4 * deviation / 4000**0.5)


def test_bins_of_theta_are_counted_like_a_plain_loop() -> None:
    """The cells again, from their definition: sort by distance to the threshold, cut at the ranks, count."""
    weights = theta(3)
    base = magnitude_masks(weights, 0.7)
    masks = [magnitude_masks(tuned(weights, i), 0.7) for i in range(2)]
    counted = count_departures([ticket(m) for m in masks], inherited_ticket(base), weights, bins=8)
    for m, name in enumerate(counted.names):
        magnitude, kept = np.abs(weights[name]).ravel(), base[name].ravel()
        for direction in (0, 1):
            inside = np.flatnonzero(kept == bool(direction))
            by_distance = inside[np.argsort(magnitude[inside] if direction else -magnitude[inside])]
            cuts = [max(int(inside.size * (k / 8) ** 3), 16 * k) for k in range(1, 8)]
            mean = 0.0
            for cell in np.split(by_distance, [c for c in cuts if c < inside.size]):
                a, b = (int((mask[name] ^ base[name]).ravel()[cell].sum()) for mask in masks)
                mean += a * b / cell.size
            assert counted.expected[0, direction, m] == pytest.approx(mean)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_independent_departures_lie_around_the_null(sparsity: float) -> None:
    weights = theta(0)
    base = inherited_ticket(magnitude_masks(weights, sparsity), sparsity=sparsity)
    made = [ticket(magnitude_masks(tuned(weights, i), sparsity), sparsity=sparsity, language=str(i)) for i in range(40)]
    # Pairs that share no ticket are independent draws of the null.
    pairs = [departures(made[i : i + 2], [base], weights)[0] for i in range(0, 40, 2)]
    z = np.array([deviations(row) for row in pairs])
    assert abs(z.mean()) < 1
    assert 0.5 < z.std() < 1.6


def test_without_theta_the_null_of_independent_departures_is_too_low() -> None:
    """Why theta_0 is worth giving: flips gather near the threshold whatever the runs have in common."""
    weights = theta(0)
    base = inherited_ticket(magnitude_masks(weights, 0.5))
    made = [ticket(magnitude_masks(tuned(weights, i), 0.5)) for i in range(2)]
    (blind,), (seeing,) = departures(made, [base]), departures(made, [base], weights)
    assert blind["departure_overlap"] == seeing["departure_overlap"]
    assert deviations(blind) > 20
    assert abs(deviations(seeing)) < 4


def test_independent_flips_anywhere_lie_around_the_null_without_theta() -> None:
    rng = np.random.default_rng(5)
    base = {name: rng.random(shape) < 0.5 for name, shape in BIG.items()}
    flipped = [
        ticket({name: mask ^ (rng.random(mask.shape) < 0.05) for name, mask in base.items()}, language=str(i))
        for i in range(2)
    ]
    (row,) = departures(flipped, [inherited_ticket(base)])
    assert abs(deviations(row)) < 3
    assert row["departure_corrected"] == pytest.approx(0, abs=0.02)


def test_departures_made_alike_lie_above_the_null() -> None:
    weights = theta(0)
    base = inherited_ticket(magnitude_masks(weights, 0.5))
    alike = tuned(weights, 99)
    made = [ticket(magnitude_masks(tuned(alike, i, scale=0.001), 0.5), language=str(i)) for i in range(2)]
    (row,) = departures(made, [base], weights)
    assert deviations(row) > 10
    (same,) = departures([made[0], made[0]], [base], weights)
    assert (same["departure_overlap"], same["departure_corrected"]) == (1, 1)


def test_tickets_that_did_not_depart_have_no_departure_overlap() -> None:
    base = random_masks(0.5, 1)
    (row,) = departures([ticket(base), ticket(base, language="de")], [inherited_ticket(base)])
    assert (row["overlap"], row["inherited_a"], row["departure_a"]) == (1, 1, 0)
    assert (row["departure_overlap"], row["null"]) == (None, None)


def test_a_parameter_that_theta_lacks_is_one_cell() -> None:
    weights = theta(0)
    masks = [magnitude_masks(tuned(weights, i), 0.5) for i in range(2)]
    made, base = [ticket(m) for m in masks], inherited_ticket(magnitude_masks(weights, 0.5))
    missing, *_ = sorted(BIG)
    part = {name: w for name, w in weights.items() if name != missing}
    counted, blind = count_departures(made, base, part), count_departures(made, base)
    seeing = count_departures(made, base, weights)
    assert np.array_equal(counted.expected[..., 0], blind.expected[..., 0])
    assert np.array_equal(counted.expected[..., 1:], seeing.expected[..., 1:])


def test_ties_at_the_borders_of_bins_are_counted_once() -> None:
    weights = {name: np.round(w, 2) for name, w in theta(0).items()}
    base = inherited_ticket(magnitude_masks(weights, 0.5))
    made = [ticket(random_masks(0.5, i, BIG)) for i in range(2)]
    (row,) = departures(made, [base], weights)
    assert abs(deviations(row)) < 3


def test_only_tickets_of_one_sparsity_are_compared() -> None:
    made = [ticket(random_masks(1 - s, i), sparsity=s, seed=i) for i, s in enumerate((0.5, 0.8, 0.5, 0.8))]
    bases = [inherited_ticket(random_masks(1 - s, 9), sparsity=s) for s in (0.8, 0.5)]
    assert [(r["a"], r["b"]) for r in departures(made, bases)] == [
        ("xnli/fr/seed0/s0.50", "xnli/fr/seed2/s0.50"),
        ("xnli/fr/seed1/s0.80", "xnli/fr/seed3/s0.80"),
    ]
    assert [r["ticket"][-4:] for r in inheritance(made, bases)] == ["0.50", "0.80", "0.50", "0.80"]


def test_each_ticket_is_held_against_the_mask_of_its_own_parameters() -> None:
    small = {name: shape for name, shape in SHAPES.items() if name != POOLER}
    made = [ticket(random_masks(0.5, i), seed=i) for i in range(2)]
    made += [ticket(random_masks(0.5, 2 + i, small), task="wikiann", seed=i) for i in range(2)]
    large, without = inherited_ticket(random_masks(0.5, 9)), inherited_ticket(random_masks(0.5, 8, small))
    rows = departures(made, [large, without])
    assert [(r["task_a"], r["task_b"], r["left_out"]) for r in rows] == [("xnli", "xnli", ""), ("wikiann",) * 2 + ("",)]
    assert len(departures(made, [large])) == 6
    assert {r["left_out"] for r in departures(made[:2], [without])} == {POOLER}
    across = next(r for r in departures(made, [large]) if r["task_a"] != r["task_b"])
    assert across["left_out"] == POOLER
    assert across["weights"] == sum(int(np.prod(shape)) for shape in small.values())


def test_a_missing_inherited_mask_is_named() -> None:
    made = [ticket(random_masks(0.5, i), scope="layer") for i in range(2)]
    for bases in ([], [inherited_ticket(random_masks(0.5, 9))]):
        with pytest.raises(UserError, match=r"no inherited mask for ticket xnli/fr/\S+: .* sparsity 0\.5, scope layer"):
            departures(made, bases)


def test_an_inherited_mask_of_another_model_is_refused() -> None:
    other = inherited_ticket(random_masks(0.5, 9), base_fingerprint="cd" * 32)
    with pytest.raises(UserError, match="different base models"):
        departures([ticket(random_masks(0.5, i)) for i in range(2)], [other])


def test_a_theta_that_does_not_fit_is_refused() -> None:
    made, base = [ticket(random_masks(0.5, i)) for i in range(2)], inherited_ticket(random_masks(0.5, 9))
    with pytest.raises(ValueError, match=r"theta_0 of pooler\S+ has the shape \[2, 2\], the tickets say \[6, 6\]"):
        departures(made, [base], {POOLER: np.ones((2, 2))})
    with pytest.raises(ValueError, match=r"theta_0 of pooler\.dense\.weight holds NaN"):
        departures(made, [base], {POOLER: np.full((6, 6), np.nan)})


def test_the_inherited_share_is_what_independent_departures_would_leave_of_the_overlap() -> None:
    weights = theta(0)
    kept = magnitude_masks(weights, 0.5)
    base = inherited_ticket(kept)
    alike = tuned(weights, 99)
    shares = []
    for start in (weights, alike):
        masks = [magnitude_masks(tuned(start, i), 0.5) for i in range(2)]
        (row,) = departures([ticket(m) for m in masks], [base], weights)
        a, b, inside = (kept_set(m) for m in (*masks, kept))
        n = row["weights"]
        chance = 1 / (n / len(a) + n / len(b) - 1)
        counted = count_departures([ticket(m) for m in masks], base, weights)
        small, large = counted.expected[0].sum(axis=1)  # shared if independent
        both = len(inside) - (len(inside - a) + len(inside - b) - large) + small
        either = len(inside) - large + len(a - inside) + len(b - inside) - small
        assert row["overlap_null"] == pytest.approx(both / either)
        assert row["inherited_share"] == pytest.approx((both / either - chance) / (jaccard(a, b) - chance))
        shares.append(row["inherited_share"])
    independent, shared = shares
    assert independent == pytest.approx(1, abs=0.005)
    assert shared < independent - 0.005


def test_zeros_of_theta_that_ties_keep_are_counted() -> None:
    weights = {name: np.where(np.abs(w) < 0.02, 0, w) for name, w in theta(0).items()}  # more than a third
    for sparsity, kept in ((0.1, True), (0.6, False)):
        order = np.argsort(np.concatenate([np.abs(w).ravel() for w in weights.values()]), kind="stable")
        flat = np.zeros(order.size, bool)
        flat[order[round(sparsity * order.size) :]] = True
        masks = dict(zip(weights, np.split(flat, len(weights)), strict=True))
        masks = {name: mask.reshape(weights[name].shape) for name, mask in masks.items()}
        made = [ticket(random_masks(1 - sparsity, i, BIG), sparsity=sparsity) for i in range(2)]
        (row,) = departures(made, [inherited_ticket(masks, sparsity=sparsity)], weights)
        assert row["zeros_kept"] == sum(int((mask & (weights[name] == 0)).sum()) for name, mask in masks.items())
        assert (row["zeros_kept"] > 0) == kept
