"""The published numbers as the material of a report, so that the same figures draw them."""

from pathlib import Path

import pandas as pd

from lnsub.analysis.main_metric import main_metrics
from lnsub.analysis.transfer_cells import in_order
from lnsub.report import published
from lnsub.report.collect import STUDY, Material, StudyKey, study_labels

ABOUT = (
    "The published numbers of Foroutan et al. (2022), means of three seeds: tables 1 to 6 and figure 9, drawn as a "
    "report draws measured ones. What was published as drawings alone (the curves of figure 2, overlap by pair and by "
    "layer, retrieval, similarity) is not here."
)
"""What the page of published numbers says of itself."""


def published_material(*tables: int) -> Material:
    """Makes the material of a report from the published numbers.

    Args:
        tables: numbers of the transfer tables; by default :data:`lnsub.report.published.MATRICES`, with table 2's and
            figure 9's random masks, figure 9's tickets of other tasks, and the mixture of table 1. With numbers, those
            tables alone.

    Returns:
        The material: records at 50 %, and dense models; no tickets and no runs.
    """
    cells = published.transfer(*tables)
    parts = [cells]
    if not tables:
        mixture = published.transfer(published.MIXTURE)
        parts += [mixture[mixture["source"].str.contains("+", regex=False, na=False)], *_beside(cells)]
    records = pd.concat([part.astype(object) for part in parts], ignore_index=True)
    records = records.astype({"value": float, "sparsity": float, "n": int, "seed": int, "higher_is_better": bool})
    names = study_labels(_keys(published.transfer()))
    names = {key: label for key, label in names.items() if key in _keys(records)}
    records["study"] = [names[key] for key in records[list(STUDY)].itertuples(index=False, name=None)]
    metrics = main_metrics(records)
    sources = in_order([*records["source"].dropna(), *records["target"]])
    return Material(
        root=Path(),
        records=records,
        parts=records[:0],
        retrieval=records[:0],
        similarity=records[:0],
        runs=[],
        studies=list(names.values()),
        metrics={label: metrics[key[1]] for key, label in names.items()},
        languages=[name for name in sources if "+" not in name],
        mixtures=[name for name in sources if "+" in name],
        facts={"records": len(records), "tickets": 0, "seeds": 0},
        notes=[],
        about=ABOUT,
        pairs=pd.DataFrame(),
        layers=pd.DataFrame(),
        alone=pd.DataFrame(),
        densities=pd.DataFrame(),
        indices=pd.DataFrame(),
    )


def published_winning(material: Material) -> pd.DataFrame:
    """Table 2 in the columns of :func:`lnsub.report.figures.winning.winning_data`, judged by the paper itself."""
    found = published.winning_tickets()
    study = {(row["model"], row["task"]): row["study"] for row in material.records.to_dict("records")}
    return found.assign(
        study=[study[key] for key in zip(found["model"], found["task"], strict=True)],
        criterion="deviation over 3 seeds",
    )


def _keys(records: pd.DataFrame) -> set[StudyKey]:
    return set(records[list(STUDY)].itertuples(index=False, name=None))


def _beside(cells: pd.DataFrame) -> list[pd.DataFrame]:
    """Random masks of mBERT at 50 %, and tickets of other tasks, as records."""
    own = cells[(cells["variant"] == "ticket") & (cells["source"] == cells["target"]) & (cells["model"] == "mBERT")]
    facts = {(row["task"], row["target"]): row for row in own.to_dict("records")}
    random = {"variant": "random", "source": None, "source_task": None, "score": "magnitude", "ticket": "random"}
    found, there = [], set()
    for row in published.across_tasks().to_dict("records"):
        key = row["target_task"], row["language"]
        base = facts[key]
        of_figure = base | {"value": base["value"] + row["change"], "run": "figure 9", "table": None}
        if row["source_task"] == "random":
            there.add(key)
            found.append(of_figure | random)
        else:
            other = {"variant": "other task", "source_task": row["source_task"], "found_on": row["source_task"]}
            found.append(of_figure | other | {"ticket": f"{row['source_task']} {row['language']}"})
    for row in published.winning_tickets().to_dict("records"):
        key = row["task"], row["language"]
        # Figure 9 has the same masks, up to 0.8 points apart, so that each counts once.
        if row["sparsity"] == 0.5 and key not in there:
            found.append(facts[key] | random | {"value": row["random"], "run": "table 2", "table": 2})
    return [pd.DataFrame(found)]
