"""What the paper's findings are judged by, gathered from the tables of a report."""

from collections.abc import Iterator, Mapping

import pandas as pd

from lnsub.analysis.findings import Evidence
from lnsub.report.collect import STUDY, Material
from lnsub.report.figures.winning import random_values
from lnsub.report.language_pairs import equal_terms

HALF = (0.45, 0.55)
"""What counts as 50 % where a finding speaks of overlap or retrieval at that sparsity."""

FIRST = 5
"""Among how many a translation counts as found in the paper."""

Tables = Mapping[str, pd.DataFrame]
Group = tuple[str, str, str]


def evidence_of(material: Material, tables: Tables) -> Iterator[tuple[Group, Evidence]]:
    """Gathers the evidence of each model, score and scope.

    Args:
        material: what the report was drawn from.
        tables: the tables of its figures, by name.

    Yields:
        Model, score and scope, and the evidence.
    """
    facts = study_facts(material)
    for group in sorted({(model, score, scope) for model, _, score, scope in facts.values()}):
        task_of = {study: found[1] for study, found in facts.items() if (found[0], *found[2:]) == group}

        def of(name: str, task_of: dict[str, str] = task_of) -> pd.DataFrame:
            table = tables.get(name, pd.DataFrame())
            if table.empty:
                return table
            found = table[table["study"].isin(list(task_of))]
            return found.assign(task=found["study"].map(task_of))

        yield (
            group,
            Evidence(
                cells=of("transfer"),
                winning=of("winning_tickets"),
                rounds=of("metric_by_sparsity"),
                random=_random(material, group[0]),
                overlap=_overlap(of("overlap")),
                layers=_layers(of("overlap_by_layer")),
                correlations=_correlations(of("correlations")),
                mixtures=of("mixtures"),
                across=of("across_tasks"),
                retrieval=comparable_retrieval(tables.get("retrieval_by_layer", pd.DataFrame()), group),
            ),
        )


def study_facts(material: Material) -> dict[str, tuple[str, str, str, str]]:
    """Model, task, score and scope of each study."""
    found = {}
    for part in (material.records, material.pairs):
        if not part.empty:
            for row in part[["study", *STUDY]].drop_duplicates().to_dict("records"):
                if row["study"] in material.studies:
                    found[row["study"]] = (row["model"], row["task"], row["score"], row["scope"])
    return found


def _random(material: Material, model: str) -> pd.DataFrame:
    rows = [
        {"task": task, "target": target, "sparsity": sparsity, "value": value}
        for (of_model, task, target, sparsity), value in random_values(material).items()
        if of_model == model
    ]
    return pd.DataFrame(rows)


def _half(rows: pd.DataFrame) -> pd.DataFrame:
    return rows if rows.empty else rows[rows["sparsity"].between(*HALF)]


def _overlap(pairs: pd.DataFrame) -> pd.DataFrame:
    """The mean overlap of two languages and of two seeds, on equal terms where there are both; mixtures left out."""
    rows = []
    for task, found in _half(pairs).groupby("task") if len(pairs) else ():
        mixed = (found["language_a"] + found["language_b"]).str.contains("+", regex=False)
        found = found[~mixed]
        for relation, part in zip(("languages", "seeds"), equal_terms(found), strict=True):
            values = part["overlap"].dropna()
            rows += [{"task": task, "relation": relation, "value": float(values.mean())}] if len(values) else []
    return pd.DataFrame(rows)


def _layers(rows: pd.DataFrame) -> pd.DataFrame:
    """The overlap of numbered layers: not the pooler's, nor those of models with two stacks."""
    found = _half(rows)
    if found.empty:
        return found
    found = found[found["layer"].astype(str).str.fullmatch(r"\d+")]
    return found.assign(layer=found["layer"].astype(int), value=found["overlap"])


def _correlations(rows: pd.DataFrame) -> pd.DataFrame:
    """The permutation test of each task's Pearson correlation, where it takes part in one."""
    found = _half(rows)
    if found.empty:
        return found
    found = found[(found["measure"] == "overlap") & (found["coefficient"] == "pearson")]
    return found[found["p"].notna()]


def comparable_retrieval(rows: pd.DataFrame, group: Group) -> pd.DataFrame:
    """The dense model, and tickets at 50 %, on the same languages.

    As in the paper a translation counts among the first five; where that was not measured, among the most that were.
    """
    if rows.empty:
        return rows
    model, score, scope = group
    of_model = rows[rows["model"] == model]
    counted = set(of_model["top"])
    of_model = of_model[of_model["top"] == (FIRST if FIRST in counted else max(counted, default=FIRST))]
    dense = of_model["system"] == "dense"
    tickets = (of_model["score"] == score) & (of_model["scope"] == scope) & of_model["sparsity"].between(*HALF)
    targets = set(of_model.loc[tickets, "target"]) or set(of_model["target"])
    return of_model[(dense | tickets) & of_model["target"].isin(targets)]
