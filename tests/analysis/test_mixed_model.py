import math
import warnings

import numpy as np
import pytest
from scipy import stats

from lnsub.analysis.mixed_model import FACTORS, FOREIGN, REST, Fit, mixed_model, one_model


def crossed(languages: int, seeds: int, *, seed: int = 1, inherited: bool = False) -> list[Fit]:
    """Every language's ticket on every language; own tickets are better by 0.5."""
    rng = np.random.default_rng(seed)
    source, target = 2 * rng.standard_normal(languages), 3 * rng.standard_normal(languages)
    of_seed, pair = 2 * rng.standard_normal(seeds), rng.standard_normal((languages + 1, languages))
    together = rng.standard_normal((languages, seeds))
    fits = []
    for s in range(languages + inherited):
        for t in range(languages):
            for k in range(seeds):
                kind = "inherited" if s == languages else "own" if s == t else FOREIGN
                value = target[t] + of_seed[k] + pair[s, t] + together[t, k] + 0.5 * rng.standard_normal()
                value += source[s] + 0.5 * (s == t) if s < languages else -1.0
                fits.append(Fit(kind, "" if kind == "inherited" else f"l{s}", "", f"l{t}", k, float(value)))
    return fits


def mean_squares(fits: list[Fit], languages: int, seeds: int) -> dict[str, tuple[float, int]]:
    """The balanced analysis of variance: mean square and degrees of freedom of each stratum."""
    y = np.array([fit.value for fit in fits]).reshape(languages, languages, seeds)
    grand = y.mean()

    def main(axes: tuple[int, ...]) -> np.ndarray:
        return y.mean(axis=axes, keepdims=True)

    s, t, k = main((1, 2)) - grand, main((0, 2)) - grand, main((0, 1)) - grand
    pair, together = main((2,)) - grand - s - t, main((0,)) - grand - t - k
    own = np.eye(languages)[..., None] - 1 / languages  # what own tickets are better by, a contrast within pairs
    effect = (own * pair).sum() / (own**2).sum()
    rest = y - grand - s - t - k - pair - together
    n, r = languages, seeds
    squares = {
        "source": (n * r * (s**2).sum(), n - 1),
        "target": (n * r * (t**2).sum(), n - 1),
        "seed": (n * n * (k**2).sum(), r - 1),
        "source and target": (r * ((pair - effect * own) ** 2).sum(), (n - 1) ** 2 - 1),
        "target and seed": (n * (together**2).sum(), (n - 1) * (r - 1)),
        REST: ((rest**2).sum(), (n * n - n) * (r - 1)),
    }
    return {name: (float(total) / freedom, freedom) for name, (total, freedom) in squares.items()}


@pytest.mark.parametrize(("languages", "seeds"), [(4, 3), (7, 4)])
def test_a_balanced_transfer_gives_what_the_analysis_of_variance_gives(languages: int, seeds: int) -> None:
    fits = crossed(languages, seeds, seed=4)
    square = {name: value for name, (value, _) in mean_squares(fits, languages, seeds).items()}
    pair, together, rest = square["source and target"], square["target and seed"], square[REST]
    cells = languages * seeds
    variances = {
        "source": (square["source"] - pair) / cells,
        "target": (square["target"] - pair - together + rest) / cells,
        "seed": (square["seed"] - together) / languages**2,
        "source and target": (pair - rest) / seeds,
        "target and seed": (together - rest) / languages,
        REST: rest,
    }
    assert min(variances.values()) > 0  # else restricted maximum likelihood is not the analysis of variance
    model = mixed_model(fits)
    total = sum(variances.values())
    assert model.deviation == pytest.approx(math.sqrt(total), rel=0.02)
    assert model.shares == pytest.approx({name: v / total for name, v in variances.items()}, rel=0.05, abs=0.003)
    (row,) = model.effects
    own = np.mean([fit.value for fit in fits if fit.kind == "own"])
    error = math.sqrt(pair / seeds * (1 / languages + 1 / (languages * (languages - 1))))
    freedom = (languages - 1) ** 2 - 1
    assert row["effect"] == pytest.approx(np.mean([f.value for f in fits if f.kind == FOREIGN]) - own)
    assert row["error"] == pytest.approx(error, rel=0.01)
    assert row["freedom"] == pytest.approx(freedom, rel=0.01)
    assert row["high"] - row["low"] == pytest.approx(2 * stats.t.ppf(0.975, freedom) * error, rel=0.01)
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(row["effect"]) / error, freedom), rel=0.05)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held: dict[str, list[bool]] = {FOREIGN: [], "inherited": []}
    for seed in range(40):
        for row in mixed_model(crossed(4, 2, seed=seed, inherited=True)).effects:
            truth = {FOREIGN: -0.5, "inherited": -1.5}[row["kind"]]
            held[row["kind"]].append(row["low"] <= truth <= row["high"])
    assert min(np.mean(found) for found in held.values()) > 0.85


def test_the_scatter_of_one_kind_of_mask_does_not_count_as_that_of_others() -> None:
    tickets = crossed(5, 2)
    rng = np.random.default_rng(3)
    random = [
        Fit("shuffled", "", f"l{t}", f"l{t}", k, float(-30 + 20 * rng.standard_normal()))
        for t in range(5)
        for k in range(2)
    ]
    inherited = [fit for fit in crossed(5, 2, inherited=True) if fit.kind == "inherited"]
    apart = {row["kind"]: row for row in mixed_model([*tickets, *random, *inherited]).effects}
    assert apart[FOREIGN] == mixed_model(tickets).effects[0]
    assert apart["inherited"] == one_model([*tickets, *inherited]).effects[0]
    together = {row["kind"]: row for row in one_model([*tickets, *random, *inherited]).effects}
    assert together[FOREIGN]["error"] > 3 * apart[FOREIGN]["error"]
    assert together["shuffled"]["effect"] == pytest.approx(apart["shuffled"]["effect"], abs=3)
    assert mixed_model([*tickets, *random]).shares == mixed_model(tickets).shares


def test_factors_that_cannot_be_told_apart_are_left_out() -> None:
    one_seed = mixed_model(crossed(5, 1))
    assert list(one_seed.shares or {}) == ["source", "target", REST]
    assert list(mixed_model(crossed(5, 2)).shares or {}) == [*FACTORS, REST]


@pytest.mark.parametrize(
    ("fits", "words"),
    [
        ([], "it takes own tickets of 3 languages"),
        (crossed(2, 3), "it takes own tickets of 3 languages"),
        ([fit for fit in crossed(4, 2) if fit.kind == "own"], "tickets or masks of another kind"),
        ([Fit("own" if s == t else FOREIGN, s, "", t, 1, 0.5) for s in "abc" for t in "abc"], "all values are equal"),
        ([Fit("own", s, "", s, 1, float(v)) for v, s in enumerate("abc")] + [Fit(FOREIGN, "a", "", "b", 1, 9.0)],
         "too few fits share a source or a target"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_says_why(fits: list[Fit], words: str) -> None:
    assert words in mixed_model(fits).reason


@pytest.mark.parametrize("kept", ["everything", "no residual", "one source", "holes"])
def test_singular_fits_warn_of_nothing(kept: str, capfd: pytest.CaptureFixture[str]) -> None:
    fits = crossed(4, 2, inherited=True)
    if kept == "no residual":
        fits = [
            Fit(f.kind, f.source, f.mask, f.target, f.seed, float(ord(f.target[1]) + (f.kind == "own"))) for f in fits
        ]
    if kept == "one source":
        fits = [fit for fit in fits if fit.kind != FOREIGN or fit.source == "l0"]
    if kept == "holes":
        fits = fits[::2] + fits[1::3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = mixed_model(fits)
    assert model.effects or model.reason
    assert all(math.isfinite(row["effect"]) and math.isfinite(row["error"]) for row in model.effects)
    assert capfd.readouterr() == ("", "")
