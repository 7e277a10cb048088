"""A tree of tickets whose pairs share a head, rows or a language as asked, made from formulas, no training."""

from pathlib import Path

import numpy as np

from lnsub.runs.condition import PLAIN, Condition
from lnsub.runs.folder import RunFolder
from lnsub.tickets.ticket import Ticket
from tests.support.report_tree import MODEL, inherited_ticket, magnitude_masks, theta_0
from tests.support.ticket_factory import ticket

LANGUAGES = ("es", "fa", "fr", "ur", "zh")
SPARSITIES = (0.3, 0.5, 0.8)
SEED = 57
RUNS = {
    "seed57": (SEED, PLAIN),
    "seed57-sample1": (SEED, Condition(train_sample=1)),
    "seed58": (58, PLAIN),
}
SHUFFLED = Condition(labels="shuffled")


def moved(language: str, seed: int, condition: Condition, share: float) -> dict[str, np.ndarray]:
    """theta_0 after a run: moved by its head, its rows and, unless labels were shuffled, by its language."""

    def part(*key: int) -> np.ndarray:
        return np.random.default_rng(key).standard_normal(theta.shape)

    found = {}
    place, sample, labels = LANGUAGES.index(language), condition.train_sample or 0, condition.labels is not None
    for number, (name, theta) in enumerate(theta_0().items()):
        of_language = np.zeros(theta.shape) if labels else part(number, 1, place)
        of_run = part(number, 2, seed) + part(number, 3, place, sample) + part(number, 4, place, sample, seed, labels)
        found[name] = theta + share * (of_language + of_run)
    return found


def run_ticket(language: str, seed: int, condition: Condition, sparsity: float) -> Ticket:
    masks = magnitude_masks(moved(language, seed, condition, 0.2), sparsity)
    rows = f"{language}, sample {condition.train_sample or 0} of 2000 rows"
    facts = {"base_model": MODEL, "task": "wikiann", "language": language, "seed": seed, "sparsity": sparsity}
    return ticket(masks, **facts, condition=condition.name(seed) or "", rows=rows, labels=condition.labels or "")


def write_controls(root: Path) -> Path:
    """Five languages in three sets of runs, two of them with shuffled labels, and the inherited masks."""
    runs = [(language, *run) for language in LANGUAGES for run in RUNS.values()]
    runs += [(language, SEED, SHUFFLED) for language in ("fr", "ur")]
    for language, seed, condition in runs:
        for sparsity in SPARSITIES:
            folder = RunFolder.of(root, "wikiann", language, seed, condition)
            run_ticket(language, seed, condition, sparsity).save(folder.ticket(sparsity))
    for sparsity in SPARSITIES:
        inherited_ticket(sparsity).save(root / "inherited" / f"s{sparsity}.safetensors")
    return root
