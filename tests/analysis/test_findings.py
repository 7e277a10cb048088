from dataclasses import replace

import pandas as pd
import pytest

from lnsub.analysis.criteria import judged
from lnsub.analysis.findings import CONFIRMED, FINDINGS, NOT_TESTED, REFUTED, Evidence, findings
from lnsub.analysis.findings.tickets import (
    overlap_differs_by_task,
    retrieval_in_the_middle,
    seeds_overlap_more,
    winning_tickets_exist,
)
from lnsub.analysis.findings.transfers import (
    drop_grows,
    mixture_transfers_better,
    mlm_transfers_badly,
    overlap_predicts_little,
    transfer_at_half,
)
from lnsub.analysis.main_metric import MainMetric
from lnsub.analysis.mixtures import mixture_data
from lnsub.analysis.transfer_cells import transfer_cells

METRICS = {
    "xnli": MainMetric("accuracy", "accuracy"),
    "wikiann": MainMetric("f1", "F1"),
    "mlm": MainMetric("perplexity", "perplexity", higher_is_better=False, is_share=False),
}


def frame(columns: str, *rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


def cells(task: str, values: dict[tuple[str, str], float], sparsity: float = 0.5) -> pd.DataFrame:
    rows = [
        {"kind": "transfer", "task": task, "metric": task, "higher_is_better": task != "mlm", "sparsity": sparsity}
        | {"source": s, "target": t, "value": value, "seed": 1, "ticket": s, "n": 2500}
        for (s, t), value in values.items()
    ]
    return judged(transfer_cells(pd.DataFrame(rows)), METRICS, published=True)


def square(
    change: float, own: float, names: tuple[str, ...] = ("en", "fr", "sw", "ur")
) -> dict[tuple[str, str], float]:
    return {(s, t): own if s == t else own + change for s in names for t in names}


def test_without_evidence_nothing_is_tested() -> None:
    found = findings(Evidence())
    assert [finding.number for finding in found] == list(range(1, 10))
    assert {finding.verdict for finding in found} == {NOT_TESTED}
    assert all(finding.numbers.startswith("Not tested: ") for finding in found)
    assert all((judge.__doc__ or "").startswith(f"{number}. ") for number, judge in enumerate(FINDINGS, start=1))


def test_1_winning_tickets_and_how_fast_tasks_fall_off() -> None:
    winning = frame("task language sparsity", ("xnli", "fr", 0.3), ("mlm", "fr", 0.6))
    assert winning_tickets_exist(Evidence(winning=winning)).verdict == CONFIRMED
    none = frame("task language sparsity", ("xnli", "fr", 0.2), ("mlm", "fr", float("nan")))
    assert winning_tickets_exist(Evidence(winning=none)).verdict == REFUTED
    columns = "task language sparsity value dense higher_is_better"
    steep = frame(columns, ("xnli", "fr", 0.9, 0.7, 0.8, True), ("mlm", "fr", 0.9, 6.0, 3.0, False))
    found = winning_tickets_exist(Evidence(winning=winning, rounds=steep))
    assert found.verdict == CONFIRMED
    assert "MLM 100.0\u00a0%" in found.numbers
    assert "XNLI 12.5\u00a0%" in found.numbers
    flat = steep.assign(value=[0.4, 3.1])
    assert winning_tickets_exist(Evidence(winning=winning, rounds=flat)).verdict == REFUTED


def test_2_and_3_overlap() -> None:
    rows = [(task, "languages", value) for task, value in (("wikiann", 0.94), ("xnli", 0.85), ("mlm", 0.68))]
    seeds = [(task, "seeds", 0.95) for task in ("wikiann", "xnli", "mlm")]
    evidence = Evidence(overlap=frame("task relation value", *rows, *seeds))
    assert overlap_differs_by_task(evidence).verdict == CONFIRMED
    assert seeds_overlap_more(evidence).verdict == CONFIRMED
    assert overlap_differs_by_task(Evidence(overlap=frame("task relation value", *rows[::2]))).verdict == CONFIRMED
    turned = frame("task relation value", *[(task, relation, 1 - value) for task, relation, value in rows], *seeds[:1])
    assert overlap_differs_by_task(Evidence(overlap=turned)).verdict == REFUTED
    assert seeds_overlap_more(Evidence(overlap=turned.assign(value=0.5))).verdict == REFUTED
    hill = [("mlm", layer, 0.7 - 0.01 * abs(layer - 6)) for layer in range(12)]
    rising = [("wikiann", layer, 0.8 + 0.01 * layer) for layer in range(12)]
    layered = replace(evidence, layers=frame("task layer value", *hill, *rising))
    assert overlap_differs_by_task(layered).verdict == CONFIRMED
    assert "MLM is highest in layer 6 of 11" in overlap_differs_by_task(layered).numbers
    swapped = frame("task layer value", *[("mlm", layer, value) for _, layer, value in rising])
    assert overlap_differs_by_task(replace(evidence, layers=swapped)).verdict == REFUTED


def test_4_transfer_at_50_percent() -> None:
    mlm, ner = cells("mlm", square(0.3, 4.0)), cells("wikiann", square(-0.01, 0.9))
    xnli = square(0.0, 0.8)
    xnli |= {("ur", t): 0.75 for t in ("en", "fr", "sw")} | {("sw", "en"): 0.78}
    evidence = Evidence(cells=pd.concat([mlm, ner, cells("xnli", xnli)]))
    found = transfer_at_half(evidence)
    assert found.verdict == CONFIRMED
    for part in ("MLM: 0 of 12", "loses 0.30 of perplexity", "12 of 12 at 98 %", "XNLI: 8 of 12", "en on 3 of 3"):
        assert part in found.numbers
    assert "not tested: random masks" in found.numbers
    random = frame("task target sparsity value", ("mlm", "en", 0.5, 9.0), ("wikiann", "en", 0.5, 0.7))
    assert "6 of 6 are nearer" in transfer_at_half(replace(evidence, random=random)).numbers
    close = frame("task target sparsity value", ("mlm", "en", 0.5, 4.31))
    assert transfer_at_half(replace(evidence, random=close)).verdict == REFUTED
    assert transfer_at_half(Evidence(cells=cells("mlm", square(-0.1, 4.0)))).verdict == REFUTED
    assert transfer_at_half(Evidence(cells=cells("xnli", square(-0.1, 0.8)))).verdict == REFUTED
    assert transfer_at_half(Evidence(cells=cells("mlm", square(0.3, 4.0), sparsity=0.8))).verdict == NOT_TESTED


@pytest.mark.parametrize(("later", "verdict"), [(-0.1, CONFIRMED), (0.0, REFUTED)])
def test_5_the_drop_grows(later: float, verdict: str) -> None:
    both = [cells("xnli", square(-0.01, 0.8)), cells("xnli", square(later, 0.8), sparsity=0.8)]
    assert drop_grows(Evidence(cells=pd.concat(both))).verdict == verdict


def test_6_overlap_and_transfer() -> None:
    overlap = frame("task relation value", ("wikiann", "languages", 0.94), ("xnli", "languages", 0.85))
    apart = pd.concat([cells("wikiann", square(-0.05, 0.9)), cells("xnli", square(-0.01, 0.8))])
    together = pd.concat([cells("wikiann", square(-0.01, 0.9)), cells("xnli", square(-0.05, 0.8))])
    assert overlap_predicts_little(Evidence(overlap=overlap, cells=apart)).verdict == CONFIRMED
    assert overlap_predicts_little(Evidence(overlap=overlap, cells=together)).verdict == REFUTED
    for p, verdict in ((0.4, CONFIRMED), (0.01, REFUTED)):
        rows = frame("task p", ("xnli", p))
        assert overlap_predicts_little(Evidence(correlations=rows)).verdict == verdict


@pytest.mark.parametrize(("value", "verdict"), [(0.9, CONFIRMED), (0.6, REFUTED)])
def test_7_a_mixture(value: float, verdict: str) -> None:
    table = cells("wikiann", square(-0.1, 0.8) | {("en+fr", "sw"): value, ("en+fr", "ur"): 0.85})
    assert mixture_transfers_better(Evidence(mixtures=mixture_data(table))).verdict == verdict


def test_8_mlm_tickets_on_other_tasks() -> None:
    columns = "target_task source_task language difference successful sparsity"
    rows = [("xnli", "mlm", code, -2.0, False, 0.5) for code in ("en", "fr", "ur")]
    across = frame(columns, *rows, ("xnli", "wikiann", "en", -2.5, False, 0.5))
    found = mlm_transfers_badly(Evidence(across=across))
    assert found.verdict == CONFIRMED
    assert found.numbers.startswith("On XNLI 3 of 3 fall short (mean points: MLM -2.00, NER -2.50)")
    assert mlm_transfers_badly(Evidence(across=across.assign(successful=True))).verdict == REFUTED


def test_9_retrieval() -> None:
    shapes = (("dense", 0.8, 0.05), ("xnli", 0.9, 0.06), ("mlm", 0.7, 0.05), ("wikiann", 0.6, 0.001))
    rows = [(name, layer, peak - slope * abs(layer - 7)) for name, peak, slope in shapes for layer in range(13)]
    found = frame("system layer value", *rows)
    assert retrieval_in_the_middle(Evidence(retrieval=found)).verdict == CONFIRMED
    late = found.assign(layer=(found["layer"] + 5) % 13)
    assert retrieval_in_the_middle(Evidence(retrieval=late)).verdict == REFUTED
    swapped = found.assign(system=found["system"].map({"xnli": "mlm", "mlm": "xnli"}).fillna(found["system"]))
    assert retrieval_in_the_middle(Evidence(retrieval=swapped)).verdict == REFUTED
