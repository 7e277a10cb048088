"""The demo's figure: metric against sparsity, and overlap against sparsity with its chance level."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from lnsub.runs.records import Record

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colour-blind safe palette."""


def draw(rounds: dict[str, list[Record]], overlaps: dict[float, tuple[float, float]], path: Path) -> Path:
    """Draws both panels.

    Args:
        rounds: each language's records, one per round.
        overlaps: mean overlap of the tickets and its chance level, by sparsity.
        path: the PNG file to write.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    for (language, records), colour, marker in zip(rounds.items(), COLOURS, "osD^vPX", strict=False):
        levels = [record.sparsity for record in records]
        left.plot(levels, [record.value for record in records], color=colour, marker=marker, ms=4, label=language)
    left.set(xlabel="sparsity", ylabel="F1 on validation", title="Fine-tuned under the mask", ylim=(0, 1))
    left.legend(title="language", frameon=False, loc="lower left")
    levels = list(overlaps)
    right.plot(levels, [found for found, _ in overlaps.values()], color=COLOURS[0], marker="o", ms=4, label="tickets")
    right.plot(levels, [chance for _, chance in overlaps.values()], color="0.4", ls="--", label="by chance")
    right.set(
        xlabel="sparsity", ylabel="overlap (Jaccard)", title="Tickets of two languages, mean over pairs", ylim=(0, 1)
    )
    right.legend(frameon=False, loc="lower left")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set(xlim=(-0.03, 0.93), xticks=[0, 0.1, 0.3, 0.5, 0.7, 0.9])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
