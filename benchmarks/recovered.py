"""How often the intervals of the recovered share hold the truth, in simulated transfers: rows of the statistics."""

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.harness import Row, at_least
from lnsub.analysis.recovered import recovered_cells, recovered_changes, recovered_shares

SHARES = {0.5: 0.6, 0.8: 0.4}
"""The recovered share at each sparsity."""


def shares(draws: int) -> list[Row]:
    """Coverage of the intervals of the recovered share and of its change, by languages, seeds and own tickets' gain."""
    rows = []
    for languages, seeds, gain in ((5, 2, 0.06), (5, 3, 0.06), (10, 2, 0.06), (5, 2, 0.03), (3, 2, 0.06)):
        rng = np.random.default_rng([4, languages, seeds, int(1000 * gain)])
        held: dict[str, list[bool]] = {name: [] for name in ("share", "change", "naive")}
        for _ in range(draws):
            cells = recovered_cells(transfers(rng, languages, seeds, gain))
            (share, _), (change,) = (
                table.to_dict("records") for table in (recovered_shares(cells), recovered_changes(cells))
            )
            for name, row, truth in (("share", share, SHARES[0.5]), ("change", change, SHARES[0.8] - SHARES[0.5])):
                if pd.notna(row[f"{name}_low"]):
                    held[name].append(row[f"{name}_low"] <= truth <= row[f"{name}_high"])
            ratios = cells.loc[cells["sparsity"] == 0.5, "share"].dropna()
            held["naive"].append(
                bool(abs(ratios.mean() - SHARES[0.5]) <= 1.96 * ratios.std(ddof=1) / np.sqrt(len(ratios)))
            )
        covered = {name: round(float(np.mean(found)), 3) for name, found in held.items() if found}
        words = {
            "share": "covered",
            "change": "of the change covered",
            "naive": "covered by the mean of ratios, cells as the sample",
        }
        values: dict[str, float | str] = {"of studies have a share": round(len(held["share"]) / draws, 3)}
        values |= {words[name]: value for name, value in covered.items()}
        rows.append(
            Row(
                f"recovered share: {languages} languages of {seeds} seeds, own tickets gain {gain:g}",
                values=values,
                claims=[at_least(covered["share"], 0.88, "covered")] if "share" in covered else [],
            )
        )
    return rows


def transfers(rng: np.random.Generator, languages: int, seeds: int, gain: float) -> pd.DataFrame:
    """Draws the records of a transfer: languages differ in what they gain, sources and targets in what is recovered."""
    names: list[str] = [f"l{place}" for place in range(languages)]
    rows: list[tuple[Any, ...]] = []
    for sparsity, share in SHARES.items():
        gains = gain + 0.02 * rng.standard_normal(languages)
        source, target = 0.1 * rng.standard_normal((2, languages))
        for t, name in enumerate(names):
            for seed in range(seeds):
                base, noise = 0.4 + 0.05 * rng.standard_normal(), 0.01 * rng.standard_normal(languages + 1)
                rows.append(("inherited", None, name, sparsity, seed, base + noise[-1]))
                for s, other in enumerate(names):
                    reached = 1.0 if s == t else share + source[s] + target[t]
                    rows.append(("ticket", other, name, sparsity, seed, base + gains[t] * reached + noise[s]))
    return pd.DataFrame(rows, columns=["variant", "source", "target", "sparsity", "seed", "value"])
