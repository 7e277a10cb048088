"""Findings on tickets of other languages, of mixtures and of other tasks."""

import pandas as pd

from lnsub.analysis.criteria import criteria_named
from lnsub.analysis.findings.evidence import (
    TITLES,
    Clause,
    Evidence,
    Finding,
    at,
    finding,
    losses_of,
    mean_loss,
    overlaps,
    percent,
    shares,
)
from lnsub.analysis.mixtures import OWN, beats_parts


def transfer_at_half(evidence: Evidence) -> Finding:
    """4. At 50 %: no MLM or NER ticket of another language succeeds; XNLI's often do; all are far above random.

    "No" and "every" leave room for one cell in twenty, rounded down, as single cells are noisy. MLM: no success
    (:mod:`lnsub.analysis.criteria`), and a mean loss of 0.2 to 0.5 of perplexity. NER: no success, and
    most cells at 98 % or more of the target's own F1. XNLI: at least half of the transfers succeed; ``en`` and ``fr``
    on every target; ``ur`` and ``sw`` have the largest mean relative drops. Far above random: every
    cell is nearer to the target's own ticket than to the random mask of that target.
    """
    cells = _abroad(evidence)
    clauses: list[Clause] = []
    for task in ("mlm", "wikiann"):
        rows, name = cells[cells["task"] == task] if len(cells) else cells, TITLES[task]
        if rows.empty:
            clauses.append((None, name))
            continue
        won = int(rows["successful"].sum())
        text = f"{name}: {won} of {len(rows)} succeed ({criteria_named(rows['criterion'])})"
        clauses.append((won <= len(rows) // 20, text))
        if task == "mlm":
            loss = float(rows["change"].mean())
            clauses.append((0.2 <= loss <= 0.5, f"{name} loses {loss:.2f} of perplexity on average"))
        else:
            near = int((rows["value"] >= 0.98 * rows["own"]).sum())
            clauses.append((near > len(rows) / 2, f"{name}: {near} of {len(rows)} at 98 % of the own F1 or more"))
    rows = cells[cells["task"] == "xnli"] if len(cells) else cells
    clauses += _xnli_clauses(rows) if len(rows) else [(None, "XNLI")]
    nearer = [
        abs(row["value"] - row["own"]) < abs(row["value"] - value)
        for row in cells.to_dict("records")
        for value in _random_of(evidence, row["task"], row["target"], row["sparsity"])
    ]
    text = f"{sum(nearer)} of {len(nearer)} are nearer to the own ticket than to a random mask"
    missed = len(nearer) - sum(nearer)
    clauses.append((missed <= len(nearer) // 20, text) if nearer else (None, "random masks"))
    return finding(4, "At 50 %, tickets of other languages fall short in MLM and NER, often succeed in XNLI", clauses)


def _xnli_clauses(rows: pd.DataFrame) -> list[Clause]:
    won = int(rows["successful"].sum())
    named = criteria_named(rows["criterion"])
    clauses: list[Clause] = [(2 * won >= len(rows), f"XNLI: {won} of {len(rows)} succeed ({named})")]
    for source in ("en", "fr"):
        own = rows.loc[rows["source"] == source, "successful"]
        clauses.append(
            (int(own.sum()) == len(own), f"{source} on {int(own.sum())} of {len(own)}") if len(own) else (None, source)
        )
    drops = (losses_of(rows["relative"], rows["higher_is_better"]).groupby(rows["source"]).mean()).sort_values()
    if {"sw", "ur"} <= set(drops.index) and len(drops) > 2:
        clauses.append(
            (set(drops.index[-2:]) == {"sw", "ur"}, f"worst sources {drops.index[-1]} and {drops.index[-2]}")
        )
    else:
        clauses.append((None, "ur and sw as sources"))
    return clauses


def drop_grows(evidence: Evidence) -> Finding:
    """5. In NER and XNLI, the relative drop, mean over source languages, is a larger loss at 80 % than at 50 %."""
    clauses: list[Clause] = []
    for task in ("wikiann", "xnli"):
        ends = [mean_loss(evidence, task, level) for level in (0.5, 0.8)]
        if None in ends:
            clauses.append((None, f"{TITLES[task]} at 80 %"))
        else:
            low, high = (float(end) for end in ends if end is not None)
            text = f"{TITLES[task]} loses {percent(low, 2)} at 50 % and {percent(high, 2)} at 80 %"
            clauses.append((high > low, text))
    return finding(5, "The relative drop grows from 50 % to 80 %", clauses)


def overlap_predicts_little(evidence: Evidence) -> Finding:
    """6. Overlap does not predict transfer: not between tasks, nor between pairs of languages.

    Between tasks: the task that overlaps most is not the one with the smallest relative loss (of two tasks at least).
    Between pairs: in at least half of the tasks permuted languages do as much in more than one of twenty cases.
    """
    means = overlaps(evidence, "languages")
    losses = {task: loss for task in means if (loss := mean_loss(evidence, task, 0.5)) is not None}
    clauses: list[Clause] = [(None, "between tasks")]
    if len(losses) > 1:
        most, best = max(losses, key=means.__getitem__), min(losses, key=losses.__getitem__)
        text = f"{TITLES[most]} overlaps most ({percent(means[most])}), {TITLES[best]} transfers best"
        text += f" (losses {shares(losses)})"
        clauses = [(most != best, text)]
    rows = evidence.correlations
    if len(rows):
        none = int((rows["p"] > 0.05).sum())
        clauses.append(
            (2 * none >= len(rows), f"{none} of {len(rows)} correlations over pairs are within what chance gives")
        )
    else:
        clauses.append((None, "between pairs of languages"))
    return finding(6, "Overlap does not predict transfer in a fine-grained way", clauses)


def mixture_transfers_better(evidence: Evidence) -> Finding:
    """7. At 50 %, a mixture's ticket beats that of each of its languages on more than half of the other targets."""
    clauses: list[Clause] = []
    rows = at(evidence.mixtures, 0.5)
    for key, found in rows.groupby(["task", "mixture"]) if len(rows) else ():
        task, mixture = map(str, key)
        better = beats_parts(found)
        means = found[found["source"] != OWN].groupby("source")["value"].mean()
        best = (max if found["higher_is_better"].iloc[0] else min)(means.drop(mixture))
        text = f"{TITLES.get(task, task)} {mixture} beats each on {sum(better)} of {len(better)} targets"
        clauses.append(
            (2 * sum(better) > len(better), f"{text} (mean {means[mixture]:.4g}, the best of them {best:.4g})")
        )
    return finding(7, "A mixture's ticket transfers better than most single sources'", clauses or [(None, "mixtures")])


def mlm_transfers_badly(evidence: Evidence) -> Finding:
    """8. On each other task, more than half of the MLM tickets of a language do not succeed against the task's own.

    The sentence has the mean differences, and those of the third task's tickets, which need not be better.
    """
    clauses: list[Clause] = []
    rows = at(evidence.across, 0.5)
    for task in ("wikiann", "xnli"):
        on_task = rows[rows["target_task"] == task] if len(rows) else rows
        mlm = on_task[on_task["source_task"] == "mlm"] if len(rows) else rows
        if mlm.empty:
            clauses.append((None, f"MLM tickets on {TITLES[task]}"))
            continue
        failed = int((~mlm["successful"].astype(bool)).sum())
        means = on_task.groupby("source_task")["difference"].mean().items()
        shown = ", ".join(f"{TITLES.get(str(source), source)} {mean:.2f}" for source, mean in means)
        text = f"on {TITLES[task]} {failed} of {len(mlm)} fall short (mean points: {shown})"
        clauses.append((2 * failed > len(mlm), text))
    return finding(8, "MLM tickets do not transfer well to the other tasks", clauses)


def _abroad(evidence: Evidence) -> pd.DataFrame:
    """The transfer cells at 50 % from one language to another that have the target's own ticket beside them."""
    cells = at(evidence.cells, 0.5)
    if cells.empty:
        return cells
    single = ~cells["source"].str.contains("+", regex=False)
    known = cells[cells["successful"].notna() & single]
    return known.assign(successful=known["successful"].astype(bool))


def _random_of(evidence: Evidence, task: str, target: str, sparsity: float) -> list[float]:
    rows = evidence.random
    if rows.empty:
        return []
    there = (rows["task"] == task) & (rows["target"] == target) & ((rows["sparsity"] - sparsity).abs() < 1e-9)
    return [float(value) for value in rows.loc[there, "value"]]
