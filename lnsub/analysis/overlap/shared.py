"""What the two tickets of a pair share beside the base model: what else may make them alike.

Two runs may start from the same head, see their batches in the same order, train on the same rows or in the same
language. A comparison that is to show the effect of one of these holds the others equal.
"""

from collections.abc import Mapping
from typing import Any

from lnsub.tickets.provenance import Provenance

NOTHING = "nothing"
"""What two tickets share that have none of the rest in common."""

GIVEN, SHUFFLED, ONE_SHUFFLED = "given", "shuffled", "shuffled in one"
"""The labels that the two runs of a pair trained on."""

CROSS_SAME = "cross-language, same seed"
CROSS_OTHER = "cross-language, different seeds"
CEILING = "same language, different seeds"

RELATIONS: tuple[str, ...] = (
    CROSS_SAME,
    CROSS_OTHER,
    "cross-language, same head",
    "cross-language, same order",
    "same language, same seed",
    CEILING,
    "same language, same head",
    "same language, same order",
)
"""How the two tickets of a pair are related. Runs of one seed share the head's initial values and the data's order;
under a condition they may share one of them alone."""


def shared(a: Provenance, b: Provenance) -> tuple[str, ...]:
    """Tells what two tickets share.

    A head is shared by runs of one task with the same seed for it, and where it came from the checkpoint; the order of
    the data by runs of one task. Tickets of earlier versions do not name their rows, which were the same for all runs
    of a task and language, as plain runs' are. Of inherited and combined tickets, which are of no one run, only the
    language is known.

    Returns:
        Those of ``head``, ``order``, ``rows`` and ``language`` that they share, in this order.
    """
    of_runs, task, language = min(a.seed, b.seed) >= 0, a.task == b.task, a.language == b.language
    found = {
        "head": of_runs and _head(a) == _head(b) and (task or _head(a) == "pretrained"),
        "order": of_runs and task and (a.order or str(a.seed)) == (b.order or str(b.seed)),
        "rows": of_runs and task and _same_rows(a, b),
        "language": language,
    }
    return tuple(word for word, there in found.items() if there)


def _same_rows(a: Provenance, b: Provenance) -> bool:
    if a.rows and b.rows:
        return a.rows == b.rows
    others = any(word in p.condition for p in (a, b) for word in ("sample", "subset"))
    return a.language == b.language and not others


def _head(p: Provenance) -> str:
    return p.head or str(p.seed)


def in_words(what: tuple[str, ...]) -> str:
    """Joins what is shared: ``head + order``, or ``nothing``."""
    return " + ".join(what) or NOTHING


def pair_labels(row: Mapping[str, Any]) -> str:
    """Says what labels the two runs of a pair's row trained on: :data:`GIVEN`, :data:`SHUFFLED` or one of them."""
    shuffled = bool(row["labels_a"]) + bool(row["labels_b"])
    return (GIVEN, ONE_SHUFFLED, SHUFFLED)[shuffled]


def is_plain(row: Mapping[str, Any]) -> bool:
    """Whether both runs of a pair's row are plain ones of their seeds; rows that name no runs are of such."""
    return all(row.get(f"run_{side}", f"seed{row[f'seed_{side}']}") == f"seed{row[f'seed_{side}']}" for side in "ab")


def relation_of(row: Mapping[str, Any]) -> str:
    """Tells which of :data:`RELATIONS` the pair of a row is; see :func:`lnsub.analysis.overlap.jaccard.pair_facts`."""
    language = "same language" if row["language_a"] == row["language_b"] else "cross-language"
    if is_plain(row):
        return f"{language}, {'same seed' if row['seed_a'] == row['seed_b'] else 'different seeds'}"
    head, order = (word in row["shared"].split(" + ") for word in ("head", "order"))
    how = ("same seed" if order else "same head") if head else ("same order" if order else "different seeds")
    return f"{language}, {how}"
