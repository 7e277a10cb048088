"""`lnsub retrieve`."""

import argparse
from typing import TYPE_CHECKING, Any

from lnsub.cli.options import comma_list
from lnsub.cli.output import check_table, emit
from lnsub.cli.sentence_options import (
    add_output,
    add_sentences,
    chosen_cells,
    count_fetched,
    each_shown,
    formatted,
    layers_of,
    notes,
    read_sentences,
    tickets_and_masks,
)

if TYPE_CHECKING:
    from lnsub.analysis.retrieval.measure import Retrieved

COLUMNS = ("ticket", "pivot", "target", "layer", "top", "from_pivot", "to_pivot", "accuracy", "chance", "pairs")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Retrieves each sentence's translation among all sentences of the other language, by the hidden states of\n"
        "every layer of the dense base model and of tickets applied to its pre-trained weights, without training.\n"
        "Shows the share found from the pivot language (English, for most pairs), to it, and on average, and the\n"
        "chance level. Scores are margin-based (Artetxe & Schwenk, 2019): the cosine relative to its mean over the\n"
        "nearest neighbours. The paper counts a translation among the first five: --top 5 --neighbours 5."
    )
    add_sentences(parser)
    parser.add_argument(
        "--top",
        default="1",
        metavar="1,5",
        help="a translation is found if it is among the first so many; one result for each (default: 1)",
    )
    parser.add_argument(
        "--margin",
        choices=["ratio", "distance", "absolute"],
        default="ratio",
        help="score from cosine a and neighbourhood mean b: a / b, a - b, or a (default: ratio)",
    )
    parser.add_argument(
        "--neighbours",
        "--k",
        type=int,
        default=4,
        metavar="N",
        help="nearest neighbours that the margin looks at, in each direction (default: 4)",
    )
    add_output(parser)
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    if options.fetch_only:
        return count_fetched(options)
    layers, top = layers_of(options), tuple(comma_list("--top", options.top, int))

    from lnsub.runs.records import append_new, check_records

    # Files first, so that a bad one is reported before the model is loaded. Earlier tables had English in their names.
    check_table(options.output, ["from_pivot", "en_to_other"])
    if options.record:
        check_records(options.record)
    tickets, masks = tickets_and_masks(options)
    pairs = read_sentences(options)

    from lnsub.analysis.retrieval.measure import Retrieval, Settings

    settings = Settings(layers, options.pooling, options.margin, options.neighbours, top, options.batch_tokens)
    retrieval = Retrieval(options.base_model, pairs, tickets, settings, options.device, options.own_tickets, masks)
    rows: list[dict[str, Any]] = []
    lines: dict[str, str] = {}
    for retrieved in each_shown(
        chosen_cells(options, retrieval.cells), len(retrieval.layers), retrieval.measure, _summary
    ):
        rows += retrieved.rows()
        lines |= notes(retrieved.cell, retrieved.fit)
        if options.record:
            append_new(options.record, retrieved.records())
    title = f"retrieval, {settings.name}"
    emit(formatted(rows, options.format, COLUMNS, title, list(lines.values())), options.output)
    return 0


def _summary(retrieved: "Retrieved") -> str:
    best = retrieved.best
    return f"best layer {best.layer}, accuracy {best.accuracy:.4f} · {retrieved.wall_s:.1f} s"
