"""The published numbers of Foroutan et al. (2022), as frames that the functions for measured records take as well.

The CSV files beside this module hold tables 1 to 6 and figure 9 of "Discovering Language-neutral Sub-networks in
Multilingual Language Models" (https://aclanthology.org/2022.emnlp-main.513/), and the mean overlaps of its section 5
and of its poster; a column says which table or figure a row is from. Values there are in percent, or perplexities; here
shares lie between 0 and 1, as they do in records. All are means of three seeds, whose deviations were not published.
"""

from dataclasses import fields
from functools import cache
from importlib.resources import files

import pandas as pd

from lnsub.runs.records import Record

OPTIONAL = tuple(field.name for field in fields(Record) if field.default is None)
"""The fields that a record may lack."""

EXAMPLES = {"xnli": 2490}
"""Validation examples of the tasks whose metric is a share of them (table 7); F1 and perplexity are none."""

MODELS = {"bert-base-multilingual-cased": "mBERT", "mt5-base": "mT5"}
"""What the paper calls the base models that it has numbers of, by the last part of their names on the Hub."""

SHARES = frozenset({"accuracy", "f1"})
"""The metrics that are shares."""

MATRICES = (3, 4, 5, 6)
"""The tables of every ticket on every language: mBERT on MLM, XNLI and NER, and mT5 on XNLI."""

MIXTURE = 1
"""The table of the ticket of a mixture, on NER."""


def transfer(*tables: int) -> pd.DataFrame:
    """Tables 1 and 3 to 6: every ticket on every language, with the dense model and, for mT5, random masks.

    Args:
        tables: numbers of tables; by default :data:`MATRICES`. Table 1 has some of table 5's cells again, with slightly
            other values, so that it is better not mixed with it.

    Returns:
        A row a cell, shaped like records of main metrics: ``kind`` (``transfer``, or ``dense``), ``model``
        (``mBERT``, ``mT5``), ``task``, ``source`` (None for dense models and random masks; ``own`` tickets have the
        target as their source), ``target``, ``sparsity``, ``metric``, ``value``, ``n`` (0 where the metric is no share
        of the examples), ``higher_is_better``, ``variant`` (``ticket``, ``dense``, ``random``), ``table``, and the
        other columns of records.
    """
    found = _read("transfer.csv")
    found = found[found["table"].isin(tables or MATRICES)]
    variant = found["source"].where(found["source"].isin(["dense", "random"]), "ticket")
    language = found["source"].where(found["source"] != "own", found["target"])
    return _shaped(
        found.assign(
            kind=["dense" if name == "dense" else "transfer" for name in variant],
            variant=variant,
            source=language.where(variant == "ticket", None),
            # Records under one ticket are of one mask; here a table and source tell masks apart.
            ticket=("table " + found["table"].astype(str) + " " + language).where(variant != "dense", None),
            source_task=found["task"].where(variant == "ticket", None),
        )
    )


def winning_tickets() -> pd.DataFrame:
    """Table 2: the sparsest winning ticket of each language.

    Returns:
        A row a task and language: ``model``, ``task``, ``metric``, ``higher_is_better``, ``language``, ``dense``,
        ``ticket``, ``sparsity``, ``random`` (a random mask of that sparsity), ``n``, ``table``.
    """
    found = _read("winning_tickets.csv")
    columns = ["dense", "ticket", "random"]
    scaled = found[columns].div([100.0 if metric in SHARES else 1.0 for metric in found["metric"]], axis=0)
    return found.assign(**{column: scaled[column] for column in columns}, **_facts(found))


def across_tasks() -> pd.DataFrame:
    """Figure 9: tickets of other tasks, and random masks, against the task's own ticket of the same language.

    Returns:
        A row a target task, source task (or ``random``) and language: ``model``, ``metric``, ``higher_is_better``,
        ``sparsity``, ``published`` (the difference in points, or of perplexity, as published: below zero is worse),
        ``change`` (value less own in the metric's units, as in records: above zero is worse of a perplexity), ``n``,
        ``figure``.
    """
    found = _read("across_tasks.csv").rename(columns={"difference": "published"})
    found = found.assign(metric=found["target_task"].map({"mlm": "perplexity", "wikiann": "f1", "xnli": "accuracy"}))
    units = [0.01 if metric in SHARES else -1.0 for metric in found["metric"]]
    return found.assign(change=found["published"] * units, **_facts(found.rename(columns={"target_task": "task"})))


def overlap() -> pd.DataFrame:
    """The mean overlaps: of two languages (poster), and of two seeds of one language (section 5).

    Returns:
        A row each: ``source`` (where it stands), ``model``, ``task``, ``sparsity`` (NaN where it is not said; figure 3
        is at 50 %), ``relation`` (``languages`` or ``seeds``) and ``value``, a share.
    """
    found = _read("overlap.csv")
    relation = ["seeds" if "seeds" in what else "languages" for what in found["what"]]
    return found.assign(relation=relation, value=found["value"] / 100)[
        ["source", "model", "task", "sparsity", "relation", "value"]
    ]


@cache
def _text(name: str) -> str:
    return (files(__name__) / name).read_text(encoding="utf-8")


def _read(name: str) -> pd.DataFrame:
    from io import StringIO

    return pd.read_csv(StringIO(_text(name)))


def _facts(found: pd.DataFrame) -> dict[str, list[bool] | list[int]]:
    return {
        "higher_is_better": [metric in SHARES for metric in found["metric"]],
        "n": [EXAMPLES.get(task, 0) for task in found["task"]],
    }


def _shaped(found: pd.DataFrame) -> pd.DataFrame:
    """Gives rows the columns of records, and shares their unit."""
    units = [100.0 if metric in SHARES else 1.0 for metric in found["metric"]]
    return found.assign(
        value=found["value"] / units,
        run=[f"table {table}" for table in found["table"]],
        found_on=found["task"],
        wall_s=0.0,
        **{name: None for name in OPTIONAL if name not in found},
        **_facts(found),
        score="magnitude",
        scope="",
        init="pretrained",
        seed=0,
        round=None,
        split="validation",
    ).reset_index(drop=True)
