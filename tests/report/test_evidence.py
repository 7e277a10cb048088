"""What findings are judged on: comparable numbers alone."""

import pandas as pd

from lnsub.report.evidence import comparable_retrieval

GROUP = ("m", "magnitude", "global")


def rows(*measured: tuple[str, int, str, float]) -> pd.DataFrame:
    """Systems, numbers that count, targets and values."""
    found = pd.DataFrame(measured, columns=["system", "top", "target", "value"])
    pruned = found["system"] != "dense"
    facts = {"model": "m", "score": "magnitude", "scope": "global", "sparsity": pruned.map({True: 0.5, False: 0.0})}
    return found.assign(**facts, layer=1)


def test_retrieval_counts_the_first_five_and_the_dense_model_on_the_tickets_languages():
    measured = rows(
        ("dense", 1, "fr", 0.1),
        ("dense", 5, "fr", 0.2),
        ("dense", 5, "ru", 0.9),
        ("dense", 10, "fr", 0.95),
        ("xnli", 1, "fr", 0.3),
        ("xnli", 5, "fr", 0.4),
    )
    assert list(comparable_retrieval(measured, GROUP)["value"]) == [0.2, 0.4]
    # Without a five, the most that count; without tickets, all languages.
    assert list(comparable_retrieval(measured[measured["top"] != 5], GROUP)["value"]) == [0.95]
    assert list(comparable_retrieval(rows(("dense", 5, "fr", 0.2), ("dense", 5, "ru", 0.9)), GROUP)["value"]) == [
        0.2,
        0.9,
    ]


def test_retrieval_of_another_model_or_sparsity_is_left_out():
    measured = rows(("dense", 5, "fr", 0.2), ("xnli", 5, "fr", 0.4))
    assert comparable_retrieval(measured.assign(model="other"), GROUP).empty
    assert list(comparable_retrieval(measured.assign(sparsity=[0.0, 0.8]), GROUP)["value"]) == [0.2]
