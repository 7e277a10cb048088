"""`lnsub similarity`."""

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
    from lnsub.analysis.similarity.measure import Similar

COLUMNS = (
    *("ticket", "pivot", "target", "layer", "measure", "value", "low", "high", "null", "null_low", "null_high"),
    *("directions", "pairs"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Measures how similar two languages' hidden states of parallel sentences are, in every layer of the dense\n"
        "base model and of tickets applied to its pre-trained weights, without training. Each value comes with its\n"
        "95 % interval (over subsets of the sentences) and its null: the same measure of shuffled sentences.\n\n"
        "measures:\n"
        "  cka         linear centred kernel alignment, unbiased (Kornblith et al., 2019; Murphy et al., 2024)\n"
        "  svcca       mean canonical correlation of the axes that hold 99 % of the variance (Raghu et al., 2017)\n"
        "  pwcca       canonical correlations weighted by the pivot's states (Morcos et al., 2018); needs twice as\n"
        "              many sentences as the hidden states have dimensions\n"
        "  biased_cka  CKA as it was first estimated, above 0 even for unrelated states"
    )
    add_sentences(parser)
    parser.add_argument(
        "--measures", default="cka,svcca,pwcca", metavar="cka,...", help="measures (default: cka,svcca,pwcca)"
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=100,
        metavar="N",
        help="subsets of the sentences for the interval, 0 for none (default: 100)",
    )
    parser.add_argument(
        "--shuffles",
        type=int,
        default=20,
        metavar="N",
        help="orders of the sentences for the null, 0 for none (default: 20)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of both (default: 0)")
    add_output(parser)
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    if options.fetch_only:
        return count_fetched(options)
    layers, measures = layers_of(options), tuple(comma_list("--measures", options.measures))

    from lnsub.runs.records import append_new, check_records

    # Files first, so that a bad one is reported before the model is loaded.
    check_table(options.output, ["null_low"])
    if options.record:
        check_records(options.record)
    tickets, masks = tickets_and_masks(options)
    pairs = read_sentences(options)

    from lnsub.analysis.similarity.measure import Settings, Similarity

    settings = Settings(
        layers,
        options.pooling,
        measures,
        options.resamples,
        options.shuffles,
        options.seed,
        options.batch_tokens,
    )
    similarity = Similarity(options.base_model, pairs, tickets, settings, options.device, options.own_tickets, masks)
    rows: list[dict[str, Any]] = []
    lines: dict[str, str] = {}
    for similar in each_shown(
        chosen_cells(options, similarity.cells), len(similarity.layers), similarity.measure, _summary
    ):
        rows += similar.rows()
        lines |= notes(similar.cell, similar.fit) | {line: line for line in similar.cautions()}
        if options.record:
            append_new(options.record, similar.records())
    title = f"similarity, {settings.pooling}"
    emit(formatted(rows, options.format, COLUMNS, title, list(lines.values())), options.output)
    return 0


def _summary(similar: "Similar") -> str:
    last = [f"{one.measure} {one.estimate.value:.4f}" for one in similar.layers if one.estimate][
        -len(similar.settings.measures) :
    ]
    return f"last layer {', '.join(last) or 'without a value'} · {similar.wall_s:.1f} s"
