"""Transfers: how often the mixed model's intervals hold the truth, and how often a heat map marks what is not there.

No times: the rows are shares of simulated transfers with crossed effects of source, target and seed. What lnsub
computes stands beside what is often done in its place.
"""

from itertools import product

import numpy as np

from benchmarks.harness import Row, at_least, at_most
from lnsub.analysis.many_comparisons import LEVEL, cells_beyond_effects, smallest_q
from lnsub.analysis.mixed_model import FOREIGN, OWN, Fit, mixed_model, one_model

DRAWS, DRAWS_OF_FIVE, DRAWS_OF_TEN = 300, 200, 50
"""Simulated heat maps a row, transfers of five languages, and of ten, each of which takes a second or more."""
DESIGNS = ((5, 1, 0.0), (5, 1, 2.0), (5, 2, 0.0), (5, 2, 2.0), (5, 3, 0.0), (5, 3, 2.0), (10, 3, 1.0))
"""Languages, seeds, and the standard deviation of what is about pairs."""
SOURCE, TARGET, SEED, TOGETHER, REST = 1.0, 3.0, 0.5, 1.0, 1.0
"""Standard deviations of the effects, in those of what is left of one fit."""
SHUFFLED, SCATTER = -20.0, 10.0
"""Mean and standard deviation of shuffled masks."""
EFFECTS = {FOREIGN: -1.0, "inherited": -2.0}
"""The truth: what other kinds reach less than own tickets."""
NAMES = {FOREIGN: "foreign", "inherited": "inherited"}


def run(quick: bool, repeats: int) -> list[Row]:
    """Simulates the mixed model's intervals, and the marks of heat maps."""
    five, ten = (3, 1) if quick else (DRAWS_OF_FIVE, DRAWS_OF_TEN)
    return [*intervals(five, ten), beside_shuffled_masks(five), *marks(3 if quick else DRAWS)]


def intervals(draws: int, draws_of_ten: int) -> list[Row]:
    """Coverage of the intervals of foreign less own and of inherited less own."""
    rows = []
    for languages, seeds, pairs in DESIGNS:
        rng = np.random.default_rng([4, languages, seeds])
        held: dict[str, list[bool]] = {}
        for _ in range(draws_of_ten if languages == 10 else draws):
            fits = transfer(rng, languages, seeds, pairs)
            for row in mixed_model(fits).effects:
                held.setdefault(f"{NAMES[row['kind']]} covered by the mixed model", []).append(
                    row["low"] <= EFFECTS[row["kind"]] <= row["high"]
                )
            low, high = over_cells(fits)
            held.setdefault("foreign covered by a t interval over cells", []).append(low <= EFFECTS[FOREIGN] <= high)
        shares = {name: round(float(np.mean(found)), 3) for name, found in sorted(held.items())}
        what = f"pairs differ by {pairs:g}" if pairs else "nothing about pairs"
        claims = [at_least(shares[name], 0.9, "covered") for name in shares if "mixed" in name]
        rows.append(
            Row(f"interval: {languages} languages, {_seeds(seeds)}, {what}", values=dict(shares), claims=claims)
        )
    return rows


def beside_shuffled_masks(draws: int) -> Row:
    """Foreign less own where masks that scatter widely are in the same transfer: apart from them, and in one model."""
    rng = np.random.default_rng(6)
    found: dict[str, list[bool]] = {}
    for _ in range(draws):
        fits = transfer(rng, 5, 2, 1.0)
        fits += [
            Fit("shuffled", "", f"l{t}", f"l{t}", k, float(SHUFFLED + SCATTER * rng.standard_normal()))
            for t, k in product(range(5), range(2))
        ]
        for name, model in (("the mixed model", mixed_model(fits)), ("one model of all kinds", one_model(fits))):
            row = next(row for row in model.effects if row["kind"] == FOREIGN)
            found.setdefault(f"foreign covered by {name}", []).append(row["low"] <= EFFECTS[FOREIGN] <= row["high"])
            found.setdefault(f"foreign told from own by {name}", []).append(row["high"] < 0 or row["low"] > 0)
    shares = {name: round(float(np.mean(values)), 3) for name, values in found.items()}
    claims = [at_least(shares["foreign covered by the mixed model"], 0.9, "covered")]
    what = f"pairs differ by 1, shuffled masks by {SCATTER:g}"
    return Row(f"interval: 5 languages, 2 seeds, {what}", values=dict(shares), claims=claims)


def transfer(rng: np.random.Generator, languages: int, seeds: int, pairs: float) -> list[Fit]:
    """Every language's ticket, and the inherited mask, on every language with every seed."""
    source, target = SOURCE * rng.standard_normal(languages), TARGET * rng.standard_normal(languages)
    of_seed, together = SEED * rng.standard_normal(seeds), TOGETHER * rng.standard_normal((languages, seeds))
    pair = pairs * rng.standard_normal((languages + 1, languages))
    fits = []
    for s, t, k in product(range(languages + 1), range(languages), range(seeds)):
        kind = "inherited" if s == languages else OWN if s == t else FOREIGN
        value = EFFECTS.get(kind, 0.0) + target[t] + of_seed[k] + together[t, k] + pair[s, t]
        value += (0.0 if s == languages else source[s]) + REST * rng.standard_normal()
        fits.append(Fit(kind, "" if s == languages else f"l{s}", "", f"l{t}", k, float(value)))
    return fits


def over_cells(fits: list[Fit]) -> tuple[float, float]:
    """The 95 % t interval of the mean change of foreign cells against own, as if cells were independent."""
    from scipy.special import stdtrit

    means: dict[tuple[str, str], list[float]] = {}
    for fit in fits:
        if fit.source:
            means.setdefault((fit.source, fit.target), []).append(fit.value)
    changes = [np.mean(v) - np.mean(means[t, t]) for (s, t), v in means.items() if s != t]
    half = float(stdtrit(len(changes) - 1, 0.975)) * float(np.std(changes, ddof=1)) / len(changes) ** 0.5
    return float(np.mean(changes)) - half, float(np.mean(changes)) + half


def marks(draws: int) -> list[Row]:
    """How often a heat map has a mark where there is nothing, and which share of the marks is wrong where there is."""
    rows = []
    for languages, seeds in ((5, 2), (5, 3), (10, 2), (10, 3)):
        cells = languages * (languages - 1)
        for real, size in ((0, 0.0), (cells // 10, 4.0)):
            rng = np.random.default_rng([5, languages, seeds])
            false, found, alone, any_mark = [], [], [], []
            for _ in range(draws):
                values, there = heat_map(rng, languages, seeds, real, size)
                tested = cells_beyond_effects(values)
                wrong = len(tested.marked - there)
                any_mark.append(bool(tested.marked))
                false.append(wrong / max(len(tested.marked), 1))
                found.append(len(tested.marked & there) / max(real, 1))
                alone.append(len({place for place, p in tested.p.items() if p <= LEVEL} - there))
            shares: dict[str, float | str] = {"of marks wrong, on average": round(float(np.mean(false)), 3)}
            if real:
                shares["of the pairs found"] = round(float(np.mean(found)), 3)
            shares["cells a heat map wrong by p alone"] = round(float(np.mean(alone)), 2)
            shares["the smallest q"] = float(f"{smallest_q(cells, seeds):.2g}")
            what = f"{real} pairs off by {size:g}" if real else "nothing about pairs"
            claims = [] if real else [at_most(float(np.mean(any_mark)), 0.08, "heat maps with a mark")]
            rows.append(Row(f"marks: {languages} languages, {_seeds(seeds)}, {what}", values=shares, claims=claims))
    return rows


def heat_map(
    rng: np.random.Generator, languages: int, seeds: int, real: int, size: float
) -> tuple[list[tuple[str, str, int, float]], set[tuple[str, str]]]:
    """The cells of a transfer, of which ``real`` are off by ``size`` up or down, and which."""
    source, target = SOURCE * rng.standard_normal(languages), TARGET * rng.standard_normal(languages)
    places = [(s, t) for s, t in product(range(languages), repeat=2) if s != t]
    off = {places[at]: size * rng.choice([-1, 1]) for at in rng.permutation(len(places))[:real]}
    together = TOGETHER * rng.standard_normal((languages, seeds))
    values = [
        (f"l{s}", f"l{t}", k, float(source[s] + target[t] + together[t, k] + off.get((s, t), 0) + REST * e))
        for k in range(seeds)
        for (s, t), e in zip(places, rng.standard_normal(len(places)), strict=True)
    ]
    return values, {(f"l{s}", f"l{t}") for s, t in off}


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
