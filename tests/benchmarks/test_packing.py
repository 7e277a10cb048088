"""The benchmark of packing runs, and compares like with like."""

from benchmarks.packing import run


def test_packed_batches_have_no_padding_and_the_padded_ones_losses():
    rows = {row.case: row for row in run(quick=True, repeats=1)}
    assert len(rows) == 10
    for task in ("XNLI", "WikiANN"):
        share = {case: row.values["% padding"] for case, row in rows.items() if case.startswith(task)}
        assert share[f"{task}: packed, random batches"] == share[f"{task}: packed, grouped by length"] == 0
        assert share[f"{task}: padded, grouped by length"] < share[f"{task}: padded, random batches"]
        assert share[f"{task}: padded, random batches"] <= share[f"{task}: padded to 128"]
        claims = [claim for case, row in rows.items() if case.startswith(task) for claim in row.claims]
        assert len(claims) == 2
        assert all(claim.met for claim in claims)
