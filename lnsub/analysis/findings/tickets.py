"""Findings on tickets themselves: that they win, how they overlap, and what they retrieve."""

from itertools import pairwise

import pandas as pd

from lnsub.analysis.findings.evidence import (
    TITLES,
    Clause,
    Evidence,
    Finding,
    finding,
    losses_of,
    overlaps,
    percent,
    shares,
)


def winning_tickets_exist(evidence: Evidence) -> Finding:
    """1. Every language of every task has a winning ticket at 30 % or above; MLM and NER fall off faster than XNLI.

    Faster: at the highest sparsity that the tasks share, 60 % or above, the mean loss relative to the dense model is
    larger than XNLI's.
    """
    clauses: list[Clause] = [(None, "the sparsest winning tickets")]
    if len(evidence.winning):
        levels = evidence.winning["sparsity"]
        ends = f"{percent(levels.min(), 0)} to {percent(levels.max(), 0)}" if levels.notna().any() else "none"
        won = int((levels >= 0.3 - 1e-9).sum())
        clauses = [(won == len(levels), f"{won} of {len(levels)} languages have one at 30 % or above ({ends})")]
    rounds = evidence.rounds
    losses: dict[str, float] = {}
    if len(rounds):
        known = rounds[rounds["dense"].notna() & (rounds["dense"] != 0)]
        shared = (
            set.intersection(*(set(rows["sparsity"]) for _, rows in known.groupby("task"))) if len(known) else set()
        )
        if shared and max(shared) >= 0.6:
            top = known[known["sparsity"] == max(shared)]
            loss = losses_of(top["value"] - top["dense"], top["higher_is_better"]) / top["dense"]
            losses = {str(task): float(found) for task, found in loss.groupby(top["task"]).mean().items()}
    others = [task for task in ("mlm", "wikiann") if task in losses]
    clauses.append(
        (None, "how fast the metric falls off")
        if "xnli" not in losses or not others
        else (all(losses[task] > losses["xnli"] for task in others), f"mean loss at the end: {shares(losses)}")
    )
    return finding(
        1, "Winning tickets exist for each task and language; MLM and NER fall off faster than XNLI", clauses
    )


def overlap_differs_by_task(evidence: Evidence) -> Finding:
    """2. Mean overlap of languages: NER > XNLI > MLM; NER and XNLI overlap more in higher layers; MLM in middle ones.

    Higher: the mean over the upper half of the layers exceeds that over the lower half. Middle: the highest overlap
    lies between a quarter and three quarters of the depth.
    """
    means = overlaps(evidence, "languages")
    ordered = [task for task in ("wikiann", "xnli", "mlm") if task in means]
    falls = all(means[a] > means[b] for a, b in pairwise(ordered))
    clauses: list[Clause] = [
        (falls, f"mean overlap {shares(means, ordered)}") if len(ordered) > 1 else (None, "the order of the tasks")
    ]
    for task, name in TITLES.items():
        rows = evidence.layers[evidence.layers["task"] == task] if len(evidence.layers) else evidence.layers
        if len(rows) < 4:
            clauses.append((None, f"{name} by layer"))
            continue
        by_layer, last = rows.groupby("layer")["value"].mean(), rows["layer"].max()
        upper, lower = by_layer[by_layer.index > last / 2].mean(), by_layer[by_layer.index <= last / 2].mean()
        best = int(str(by_layer.idxmax()))
        if task == "mlm":
            clauses.append((last / 4 <= best <= 3 * last / 4, f"{name} is highest in layer {best} of {last}"))
        else:
            text = f"{name} {percent(upper)} in the upper half of the layers, {percent(lower)} below"
            clauses.append((upper > lower, text))
    return finding(2, "Overlap: NER > XNLI > MLM; higher layers in NER and XNLI, middle ones in MLM", clauses)


def seeds_overlap_more(evidence: Evidence) -> Finding:
    """3. In each task, the mean overlap of two seeds of one language exceeds that of two languages."""
    languages, seeds = overlaps(evidence, "languages"), overlaps(evidence, "seeds")
    clauses: list[Clause] = [
        (seeds[task] > languages[task], f"{TITLES[task]} {percent(seeds[task])} against {percent(languages[task])}")
        if task in seeds and task in languages
        else (None, TITLES[task])
        for task in ("wikiann", "xnli", "mlm")
    ]
    return finding(3, "Two seeds of one language overlap more than two languages", clauses)


def retrieval_in_the_middle(evidence: Evidence) -> Finding:
    """9. Retrieval is best in the middle layers, with XNLI tickets best and NER tickets alike in every layer.

    Middle: between a quarter and three quarters of the depth. Best: at their best layer, XNLI tickets find more than
    those of any other task. Alike: NER tickets' accuracies lie closer together over layers than any other task's.
    """
    rows = evidence.retrieval
    by_layer = (
        {str(s): found.groupby("layer")["value"].mean() for s, found in rows.groupby("system")} if len(rows) else {}
    )
    clauses: list[Clause] = [(None, "the layers")]
    if by_layer:
        last = int(rows["layer"].max())
        best = {system: int(str(values.idxmax())) for system, values in by_layer.items()}
        shown = ", ".join(f"{TITLES.get(system, system)} in layer {layer}" for system, layer in best.items())
        clauses = [(all(last / 4 <= layer <= 3 * last / 4 for layer in best.values()), f"best: {shown} of {last}")]
    tasks = {task: values for task, values in by_layer.items() if task in TITLES}
    for task, verb, measure in (("xnli", "find", _peak), ("wikiann", "vary by", _spread)):
        if task not in tasks or len(tasks) < 2:
            clauses.append((None, f"{TITLES[task]} tickets"))
            continue
        found = {name: measure(values) for name, values in tasks.items()}
        first = (max if task == "xnli" else min)(found, key=found.__getitem__)
        clauses.append((first == task, f"tickets {verb} {shares(found)}"))
    return finding(
        9, "Retrieval is best in middle layers, with XNLI tickets best and NER's alike in all layers", clauses
    )


def _peak(values: pd.Series) -> float:
    return float(values.max())


def _spread(values: pd.Series) -> float:
    return float(values.max() - values.min())
