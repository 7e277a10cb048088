"""The paper's findings, judged by the numbers of a report."""

import re
from dataclasses import asdict, replace

import pandas as pd

from lnsub.analysis.findings import CONFIRMED, NOT_TESTED, REFUTED, findings
from lnsub.report import published
from lnsub.report.collect import Material
from lnsub.report.evidence import Tables, evidence_of
from lnsub.report.figure import Figure, Missing, listed
from lnsub.report.html_tables import rows_table
from lnsub.report.spread import PUBLISHED

TITLE = "The paper's findings"

READING = (
    "Each finding has one clause or more, and each of these holds, fails or was not tested. A finding is refuted where "
    "a clause fails, confirmed where none fails and one holds. What each takes is in the documentation of "
    "`lnsub.analysis.findings`. Intervals are those of the figures that the numbers come from."
)

_SEEDS = (
    "Seeds: those of the figures that the numbers come from, and a clause on deviations over seeds takes two or more."
)


def findings_figure(material: Material, tables: Tables) -> Figure | Missing:
    """The nine findings of Foroutan et al. (2022) by the report's own numbers, model by model.

    Args:
        material: what the report was drawn from.
        tables: the tables of its other figures.
    """
    found = [(group, findings(evidence)) for group, evidence in evidence_of(material, tables)]
    rows = [
        dict(zip(("model", "score", "scope"), group, strict=True)) | asdict(finding)
        for group, judged in found
        if any(finding.verdict != NOT_TESTED for finding in judged)
        for finding in judged
    ]
    if not rows:
        return Missing(TITLE, "no record or ticket bears on one of them")
    data = pd.DataFrame(rows)
    words = "The findings of Foroutan et al. (2022), on this report's numbers, which need not be of their models. "
    return _figure(data, words + READING, _SEEDS)


def published_findings(material: Material, tables: Tables) -> Figure:
    """The same on the published numbers themselves, with the published mean overlaps."""
    overlap = published.overlap()
    rows = []
    for group, evidence in evidence_of(material, tables):
        judged = findings(replace(evidence, overlap=overlap[overlap["model"] == group[0]]))
        rows += [dict(zip(("model", "score", "scope"), group, strict=True)) | asdict(finding) for finding in judged]
    words = (
        "The findings on the published numbers alone. Their deviations over seeds were not published: one binomial "
        "standard error of the 2,490 examples stands in for them in XNLI, and nothing in NER and MLM. "
    )
    return _figure(pd.DataFrame(rows), words + READING, PUBLISHED)


def _figure(data: pd.DataFrame, reading: str, seeds: str) -> Figure:
    named = [c for c in ("model", "score", "scope") if data[c].nunique() > 1]
    body = [
        [str(row["number"]), *(row[c] for c in named), row["claim"], row["verdict"], _with_minus(row["numbers"])]
        for row in data.to_dict("records")
    ]
    leads = []
    for group, rows in data.groupby(["model", "score", "scope"], sort=False):
        verdicts = [
            f"{listed([str(number) for number in found])} {verdict}"
            for verdict in (CONFIRMED, REFUTED, NOT_TESTED)
            if len(found := rows.loc[rows["verdict"] == verdict, "number"])
        ]
        prefix = ", ".join(str(dict(zip(("model", "score", "scope"), group, strict=True))[c]) for c in named)
        leads.append(f"{prefix}: {', '.join(verdicts)}" if prefix else ", ".join(verdicts))
    table = rows_table(["", *named, "finding", "verdict", "numbers"], body)
    return Figure("findings", TITLE, reading, seeds, (), data, f"Findings {'; '.join(leads)}.", table)


def _with_minus(text: str) -> str:
    """Text with a true minus sign before numbers, as everywhere on the page."""
    return re.sub(r"(?<![\w.])-(?=\d)", "\u2212", text)
