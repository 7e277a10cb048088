"""What the commands that measure on parallel sentences share: options, reading, progress and notes."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lnsub.cli.options import comma_list, named
from lnsub.cli.output import check_table, emit
from lnsub.common.errors import UserError

if TYPE_CHECKING:
    from lnsub.analysis.parallel.cells import Cell
    from lnsub.analysis.parallel.sentence_pairs import Pairs
    from lnsub.models.apply import Fit
    from lnsub.tickets.ticket import Ticket

Measured = TypeVar("Measured")

SOURCES = """sentences:
  --pairs takes folders or files of sentence pairs, one file a language: <language>.parquet, .jsonl, .csv or .tsv with
  the columns en and other, or any two (fr-de.tsv: fr, de); or a data set of translations by Hub id or folder, written
  DATASET:CONFIGURATION[:SPLIT] (wmt/wmt14:fr-en reads the test split). --texts takes a data set in which row i is the
  same sentence in every language, such as XNLI: --texts facebook/xnli --column premise --languages fr,ru."""


def add_sentences(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name the model, the tickets, the sentences and the layers."""
    parser.epilog = SOURCES
    parser.add_argument("--base-model", required=True, metavar="M", help="Hub id or folder of the base model")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--pairs", nargs="+", type=named, metavar="PATH", help="sentence pairs, see below")
    where.add_argument("--texts", type=named, metavar="DATASET", help="data parallel row by row, see below")
    parser.add_argument("--columns", metavar="a,b", help="with --pairs: columns of the pivot and of the other language")
    parser.add_argument("--column", type=named, metavar="premise", help="with --texts: the column of sentences")
    parser.add_argument(
        "--pivot", type=named, metavar="en", help="with --texts: the language to pair with (default: en)"
    )
    parser.add_argument("--split", type=named, metavar="test", help="with --texts: the split (default: test)")
    parser.add_argument(
        "--languages", metavar="fr,ur", help="only these languages (default: all with pairs; needed with --texts)"
    )
    parser.add_argument(
        "--max-pairs", type=int, metavar="N", help="maximum pairs of each language, the same in every run"
    )
    parser.add_argument("--tickets", nargs="+", default=[], metavar="TICKET", help="tickets of the base model")
    parser.add_argument(
        "--own-tickets",
        action="store_true",
        help="embed each language under its own ticket among --tickets (of one task, sparsity, seed, score, scope and "
        "schedule), instead of both languages of a pair under the same",
    )
    parser.add_argument(
        "--inherited",
        action="store_true",
        help="also under the inherited masks of the tickets: the largest pre-trained weights, as many as each keeps",
    )
    parser.add_argument(
        "--without-tickets",
        action="store_true",
        help="with --inherited: not under the tickets themselves, where they are measured elsewhere",
    )
    parser.add_argument(
        "--fetch-only", action="store_true", help="only read the sentences, from the Hub where need be, and count them"
    )
    parser.add_argument(
        "--without-dense", action="store_true", help="only the tickets, where the dense model is measured elsewhere"
    )
    parser.add_argument("--layers", default="all", metavar="0,4,8", help="layers, 0 for the embeddings (default: all)")
    parser.add_argument("--pooling", choices=["mean", "first"], default="mean", help="over tokens (default: mean)")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where to compute and what to write."""
    parser.add_argument(
        "--batch-tokens", type=int, default=8192, metavar="N", help="maximum tokens in a batch (default: 8192)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if available)")
    parser.add_argument("--format", choices=["table", "csv", "json"], default="table")
    parser.add_argument("--output", type=Path, metavar="F", help="write to a file instead of standard output")
    parser.add_argument("--record", type=Path, metavar="DIR", help="also append the measurements to DIR/results.jsonl")


def layers_of(options: argparse.Namespace) -> tuple[int, ...] | None:
    """Parses ``--layers``; None: all."""
    return None if options.layers == "all" else tuple(comma_list("--layers", options.layers, int))


def read_sentences(options: argparse.Namespace) -> "list[Pairs]":
    """Reads the sentences that the options name.

    Raises:
        UserError: options do not go together, or the sentences cannot be read.
    """
    with_texts = {"--column": options.column, "--pivot": options.pivot, "--split": options.split}
    languages = None if options.languages is None else comma_list("--languages", options.languages)
    if options.texts is None:
        if given := [name for name, value in with_texts.items() if value is not None]:
            raise UserError(f"{given[0]} goes with --texts; --pairs takes DATASET:CONFIGURATION:SPLIT and --columns.")
        columns = None if options.columns is None else tuple(comma_list("--columns", options.columns))
        if columns is not None and len(columns) != 2:
            raise UserError("--columns takes two names: the column of the pivot and that of the other language.")
    elif options.columns is not None:
        raise UserError("--columns goes with --pairs: with --texts, --column names the sentences' column.")
    elif options.column is None or languages is None:
        raise UserError("--texts needs --column, the column of sentences, and --languages.")

    from lnsub.analysis.parallel.sources import find_sources, read_pairs, read_texts

    if options.texts is not None:
        return read_texts(
            options.texts,
            options.column,
            languages or [],
            pivot=options.pivot or "en",
            split=options.split or "test",
            max_pairs=options.max_pairs,
        )
    found = find_sources(options.pairs, languages)
    return [read_pairs(source, options.max_pairs, columns) for source in found.values()]


def count_fetched(options: argparse.Namespace) -> int:
    """Reads the sentences, and writes how many there are of each pair; the whole of ``--fetch-only``.

    Raises:
        UserError: see :func:`read_sentences`; the table cannot be written.
    """
    check_table(options.output, ["fetched_pairs"])
    rows = [{"pivot": one.pivot, "target": one.language, "fetched_pairs": len(one)} for one in read_sentences(options)]
    emit(formatted(rows, options.format, ["pivot", "target", "fetched_pairs"], "sentences", []), options.output)
    return 0


def tickets_and_masks(options: argparse.Namespace) -> "tuple[list[Ticket], list[Ticket]]":
    """Reads the tickets; returns those to measure, and the inherited masks to measure beside them.

    Raises:
        UserError: a ticket cannot be read, or is of another base model; options do not go together.
    """
    from lnsub.tickets.hub import expanded
    from lnsub.tickets.ticket import Ticket

    if options.inherited and not options.tickets:
        raise UserError("--inherited measures the inherited masks of tickets: name them with --tickets.")
    if options.without_tickets and not options.inherited:
        raise UserError("--without-tickets goes with --inherited: leave --tickets out instead.")
    if options.without_tickets and options.own_tickets:
        raise UserError("--own-tickets and --without-tickets contradict each other: leave one out.")
    tickets = [Ticket.load(path) for path in expanded(options.tickets)]
    if not options.inherited:
        return tickets, []

    from lnsub.models.inherited import Theta0, inherited_masks

    masks = inherited_masks(Theta0.load(options.base_model), tickets)
    return [] if options.without_tickets else tickets, masks


def chosen_cells(options: argparse.Namespace, cells: "Sequence[Cell]") -> "list[Cell]":
    """The cells to measure.

    Raises:
        UserError: ``--without-dense`` leaves none.
    """
    chosen = [cell for cell in cells if cell.ticket is not None or not options.without_dense]
    if not chosen:
        raise UserError("--without-dense needs --tickets: nothing else is left to measure.")
    return chosen


def each_shown(
    cells: "Sequence[Cell]",
    layers: int,
    measure: "Callable[[Cell, Callable[[], None]], Measured]",
    summary: Callable[[Measured], str],
) -> Iterator[Measured]:
    """Measures all cells, with a live line in a terminal, or one line per cell in a log file.

    Args:
        cells: what to measure.
        layers: how many layers a cell has.
        measure: measures one, and calls a function after each layer.
        summary: what a log says of one that was measured.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lnsub.common.progress_file import note_progress

    console = Console(stderr=True, highlight=False, markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(cells) * layers)
        for number, cell in enumerate(cells, start=1):
            progress.update(task, description=cell.name)
            note_progress(cell.name, (number - 1) / len(cells), None)
            measured = measure(cell, partial(progress.advance, task))
            if not console.is_terminal:
                console.print(f"{number}/{len(cells)} {cell.name}: {summary(measured)}", soft_wrap=True)
            yield measured


def notes(cell: "Cell", fit: "Fit | None") -> dict[str, str]:
    """Notes on omitted sentences by language, and parameters by ticket."""
    lines, pairs = {}, cell.pairs
    if pairs.empty or pairs.repeated:
        lines[pairs.name] = (
            f"{pairs.name}: left out {pairs.empty:,} pairs with a blank sentence"
            f" and {pairs.repeated:,} that repeat one."
        )
    if fit:
        odd = [*fit.only_ticket, *fit.only_model]
        lines[cell.label] = (
            f"{cell.label}: applied to {len(fit.shared)} matrices"
            + (f"; only in the ticket or only in the model: {', '.join(odd)}" if odd else "")
            + "."
        )
    return lines


def formatted(rows: list[dict[str, Any]], kind: str, columns: Sequence[str], title: str, lines: Sequence[str]) -> str:
    """Formats rows as ``--format`` says; a table has a title, these columns alone, and notes below."""
    from lnsub.common.tables import to_csv, to_json, to_table

    if kind == "table":
        return "\n".join([to_table(rows, columns=columns, title=title), *lines]) + "\n"
    return to_csv(rows) if kind == "csv" else to_json(rows)
