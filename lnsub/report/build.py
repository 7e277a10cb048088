"""Makes a report: reads a tree of runs, draws the figures, and writes the page and its CSV files."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from lnsub.common.files import check_output, replacing, starts_with
from lnsub.common.tables import csv_cell
from lnsub.report.collect import Material, collect
from lnsub.report.figure import Figure, Missing, Options
from lnsub.report.figure_files import FigureFiles
from lnsub.report.figures.ablation import ablation_figure
from lnsub.report.figures.across import across_figure
from lnsub.report.figures.baselines import baseline_figure
from lnsub.report.figures.beside import beside_figure
from lnsub.report.figures.controls import controls_figure
from lnsub.report.figures.correlation import overlap_against_transfer
from lnsub.report.figures.findings import findings_figure, published_findings
from lnsub.report.figures.layers import overlap_by_layer, overlap_by_sparsity
from lnsub.report.figures.metric import metric_by_sparsity
from lnsub.report.figures.mixture import mixture_figure, mixture_parts_figure
from lnsub.report.figures.overlap import overlap_figure
from lnsub.report.figures.primary import primary_figure
from lnsub.report.figures.pruned import neutrality_figure, pruned_where
from lnsub.report.figures.recovered import recovered_figure
from lnsub.report.figures.retrieval import retrieval_figure
from lnsub.report.figures.similarity import similarity_figure
from lnsub.report.figures.ticket_kinds import ticket_kinds_figure
from lnsub.report.figures.transfer import drop_figure, transfer_figure, zero_shot_figure
from lnsub.report.figures.winning import winning_figure, winning_table
from lnsub.report.page import page
from lnsub.report.page_file import check_page, is_page
from lnsub.report.published import MIXTURE
from lnsub.report.published.material import published_material, published_winning

FIGURES: tuple[Callable[[Material, Options], Figure | Missing], ...] = (
    metric_by_sparsity,
    winning_figure,
    transfer_figure,
    drop_figure,
    ticket_kinds_figure,
    mixture_figure,
    mixture_parts_figure,
    across_figure,
    zero_shot_figure,
    baseline_figure,
    recovered_figure,
    overlap_figure,
    overlap_by_sparsity,
    overlap_by_layer,
    neutrality_figure,
    controls_figure,
    overlap_against_transfer,
    pruned_where,
    retrieval_figure,
    similarity_figure,
    ablation_figure,
)
"""The figures in the order of the page; those that are made of the others' tables follow."""


TABLES: frozenset[str] = frozenset(
    {
        "metric_by_sparsity",
        "winning_tickets",
        "transfer",
        "relative_drop",
        "ticket_kinds",
        "variance_shares",
        "mixtures",
        "mixture_parts",
        "across_tasks",
        "zero_shot",
        "baselines",
        "recovered_share",
        "recovered_cells",
        "recovered_changes",
        "overlap",
        "overlap_by_pair",
        "clusters",
        "overlap_by_sparsity",
        "overlap_by_layer",
        "neutrality",
        "controls",
        "contrasts",
        "primary",
        "overlap_against_transfer",
        "correlations",
        "pruned_where",
        "retrieval_by_layer",
        "similarity_by_layer",
        "ablation",
        "ablation_own",
        "ablation_overall",
        "beside_the_paper",
        "findings",
    }
)
"""The names of the CSV files that a report can have."""


@dataclass(frozen=True)
class Made:
    """What was written: the page, the CSV files, the titles of figures drawn and left out, and the tables by name.

    ``notes`` are the page's sentences on records, tickets and settings that were left out or looked odd; ``files`` are
    the figures' files for a paper.
    """

    page: Path
    data: tuple[Path, ...]
    drawn: tuple[str, ...]
    left_out: tuple[str, ...]
    tables: dict[str, pd.DataFrame]
    notes: tuple[str, ...]
    files: tuple[Path, ...] = ()


def report(
    root: Path,
    output: Path,
    options: Options | None = None,
    split: str = "validation",
    inherited_from: str | None = None,
    *,
    figures: Path | None = None,
    formats: Sequence[str] = ("pdf",),
) -> Made:
    """Makes the report of a tree of runs.

    Args:
        root: the tree.
        output: the page. Its CSV files lie beside it, named ``<page's name without .html>.<figure>.csv``; those of an
            earlier report of the same name are replaced, or removed where their figure has no data now.
        options: what the figures show.
        split: the split that metrics are shown of.
        inherited_from: see :func:`lnsub.report.collect.collect`.
        figures: a folder that the panels are written to as well, each as a file for a paper; None for none.
        formats: of those files, some of :data:`lnsub.charts.files.FORMATS`.

    Returns:
        What was written.

    Raises:
        UserError: see :func:`lnsub.report.collect.collect`; a file cannot be written, or it is there already and not
            of an earlier report.
    """
    check_page(output)
    files = _checked(figures, formats)
    options = options or Options()
    material = collect(root, split, inherited_from)
    first = primary_figure(material, options)
    drawn = [*([first] if first else []), *(draw(material, options) for draw in FIGURES)]
    tables = _tables(drawn)
    drawn += [beside_figure(material, tables), findings_figure(material, tables)]
    return _written(output, material, drawn, files)


def published_report(output: Path, *, figures: Path | None = None, formats: Sequence[str] = ("pdf",)) -> Made:
    """Makes the page of the paper's own numbers, with the figures of measured ones.

    Args:
        output: see :func:`report`.
        figures: see :func:`report`.
        formats: see :func:`report`.

    Returns:
        What was written.

    Raises:
        UserError: see :func:`report`.
    """
    check_page(output)
    files = _checked(figures, formats)
    options = Options(sparsities=(0.5,))
    material = published_material()
    drawn: list[Figure | Missing] = [winning_table(published_winning(material), material, options)]
    drawn += [draw(material, options) for draw in (transfer_figure, drop_figure)]
    drawn.append(mixture_figure(published_material(MIXTURE), options))
    drawn += [draw(material, options) for draw in (across_figure, baseline_figure)]
    drawn.append(published_findings(material, _tables(drawn)))
    return _written(output, material, drawn, files)


def _checked(figures: Path | None, formats: Sequence[str]) -> FigureFiles | None:
    if figures is None:
        return None
    files = FigureFiles(figures, tuple(dict.fromkeys(formats)))
    files.check()
    return files


def _tables(figures: Iterable[Figure | Missing]) -> dict[str, pd.DataFrame]:
    tables: dict[str, pd.DataFrame] = {}
    for figure in figures:
        if isinstance(figure, Figure):
            tables |= {figure.name: figure.data, **figure.more}
    # Where the counts of each example lie is of no use on another machine.
    return {name: table.drop(columns=["examples", "own_examples"], errors="ignore") for name, table in tables.items()}


def _written(output: Path, material: Material, figures: Sequence[Figure | Missing], files: FigureFiles | None) -> Made:
    """Writes the page, its tables and the figures' files, and removes those of an earlier report that it has not."""
    replaces, prefix = is_page(output), f"{output.stem}."
    tables = _tables(figures)
    paths = {name: output.with_name(f"{prefix}{name}.csv") for name in TABLES | tables.keys()}
    texts = {name: table.map(csv_cell).to_csv(index=False) for name, table in tables.items()}
    for name, path in paths.items():
        # Without a page beside it, a table of the same columns is one of a report that did not get to its end.
        columns = texts[name].partition("\n")[0].encode() if name in texts else None
        own = partial(_is_own_table, columns=columns) if not replaces else Path.is_file
        check_output(path, "a table of this report", own)
    for name, text in texts.items():
        _write(paths[name], text)
    written = files.write(figures) if files else ()
    # Last, as where the page is whole, all is.
    _write(output, page(material, figures, prefix))
    for name in TABLES - tables.keys() if replaces else ():
        paths[name].unlink(missing_ok=True)
    drawn = tuple(figure.title for figure in figures if isinstance(figure, Figure))
    left_out = tuple(figure.title for figure in figures if isinstance(figure, Missing))
    return Made(output, tuple(paths[name] for name in tables), drawn, left_out, tables, tuple(material.notes), written)


def _is_own_table(path: Path, columns: bytes | None) -> bool:
    return _columns(path) == columns


def _columns(path: Path) -> bytes:
    """The first line of a CSV file."""
    return starts_with(path).partition(b"\n")[0]


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())
