"""`lnsub retrieve`."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lnsub.cli.options import comma_list
from lnsub.cli.output import check_table, emit

if TYPE_CHECKING:
    from lnsub.analysis.retrieval.measure import Retrieval, Retrieved

COLUMNS = ("ticket", "target", "layer", "en_to_other", "other_to_en", "accuracy", "chance", "pairs")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Retrieves each sentence's translation among all sentences of the other language, by the hidden states of\n"
        "every layer of the dense base model and of tickets applied to its pre-trained weights, without training.\n"
        "Shows the accuracy from English, to English, and on average, and the chance level. Scores are margin-based\n"
        "(Artetxe & Schwenk, 2019): the cosine relative to its mean over the nearest neighbours."
    )
    parser.add_argument("--base-model", required=True, metavar="M", help="Hub id or folder of the base model")
    parser.add_argument(
        "--pairs",
        required=True,
        nargs="+",
        type=Path,
        metavar="PATH",
        help="folders or files of sentence pairs: <language>.parquet, .jsonl, .csv or .tsv with columns en and other",
    )
    parser.add_argument(
        "--tickets", nargs="+", default=[], type=Path, metavar="TICKET", help="tickets of the base model"
    )
    parser.add_argument("--languages", metavar="fr,ur", help="only these languages (default: all with pairs)")
    parser.add_argument("--layers", default="all", metavar="0,4,8", help="layers, 0 for the embeddings (default: all)")
    parser.add_argument("--pooling", choices=["mean", "first"], default="mean", help="over tokens (default: mean)")
    parser.add_argument(
        "--margin",
        choices=["ratio", "distance", "absolute"],
        default="ratio",
        help="score from cosine a and neighbourhood mean b: a / b, a - b, or a (default: ratio)",
    )
    parser.add_argument("--k", type=int, default=4, help="nearest neighbours in each direction (default: 4)")
    parser.add_argument(
        "--batch-tokens", type=int, default=8192, metavar="N", help="maximum tokens in a batch (default: 8192)"
    )
    parser.add_argument(
        "--max-pairs", type=int, metavar="N", help="maximum pairs of each language, the same in every run"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if available)")
    parser.add_argument("--format", choices=["table", "csv", "json"], default="table")
    parser.add_argument("--output", type=Path, metavar="F", help="write to a file instead of standard output")
    parser.add_argument("--record", type=Path, metavar="DIR", help="also append the measurements to DIR/results.jsonl")
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    layers = None if options.layers == "all" else tuple(comma_list("--layers", options.layers, int))
    languages = None if options.languages is None else comma_list("--languages", options.languages)

    from lnsub.analysis.retrieval.sentence_pairs import find_files, read_pairs
    from lnsub.runs.records import check_records
    from lnsub.tickets.ticket import Ticket

    # Files first, so that a bad one is reported before the model is loaded.
    check_table(options.output, ["en_to_other"])
    if options.record:
        check_records(options.record)
    tickets = [Ticket.load(path) for path in options.tickets]
    files = find_files(options.pairs, languages)
    pairs = [read_pairs(path, options.max_pairs) for path in files.values()]

    from lnsub.analysis.retrieval.measure import Retrieval, Settings, record
    from lnsub.common.tables import to_csv, to_json, to_table

    settings = Settings(layers, options.pooling, options.margin, options.k, options.batch_tokens)
    retrieval = Retrieval(options.base_model, pairs, tickets, settings, options.device)
    done = []
    for retrieved in _shown(retrieval):
        done.append(retrieved)
        if options.record:
            record(options.record, retrieved)
    rows = [row for retrieved in done for row in retrieved.rows()]
    if options.format == "table":
        text = "\n".join([to_table(rows, columns=COLUMNS, title=f"retrieval, {settings.name}"), *_notes(done)]) + "\n"
    else:
        text = to_csv(rows) if options.format == "csv" else to_json(rows)
    emit(text, options.output)
    return 0


def _shown(retrieval: "Retrieval") -> "Iterator[Retrieved]":
    """Measures all cells, with a live line in a terminal, or one line per cell in a log file."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(retrieval.cells))
        for number, cell in enumerate(retrieval.cells, start=1):
            name = f"{cell.label} on {cell.pairs.language}"
            progress.update(task, description=name)
            retrieved = retrieval.measure(cell)
            progress.advance(task)
            if not console.is_terminal:
                best = retrieved.best
                console.print(
                    f"{number}/{len(retrieval.cells)} {name}: best layer {best.layer}, accuracy {best.accuracy:.4f} · "
                    f"{retrieved.wall_s:.1f} s",
                    soft_wrap=True,
                )
            yield retrieved


def _notes(done: "list[Retrieved]") -> list[str]:
    """Notes on omitted sentences by language, and parameters by ticket."""
    lines = {}
    for retrieved in done:
        pairs, fit = retrieved.cell.pairs, retrieved.fit
        if pairs.empty or pairs.repeated:
            lines[pairs.language] = (
                f"{pairs.language}: left out {pairs.empty:,} pairs with a blank sentence"
                f" and {pairs.repeated:,} that repeat one."
            )
        if fit:
            odd = [*fit.only_ticket, *fit.only_model]
            lines[retrieved.cell.label] = (
                f"{retrieved.cell.label}: applied to {len(fit.shared)} matrices"
                + (f"; only in the ticket or only in the model: {', '.join(odd)}" if odd else "")
                + "."
            )
    return list(lines.values())
