"""`lnsub prune`."""

import argparse
import sys
from pathlib import Path

from lnsub.cli.fit_settings import add_config, add_settings, check_settings, parse_config
from lnsub.cli.options import comma_list

_SET_BY_RUNS = {"--seed_everything", "--output"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    from lnsub.calibration.settings import SCORES

    parser.usage = (
        "lnsub prune --config C --score S --languages a,b,c --sparsities s,t --output DIR [OPTIONS] [-- SETTING...]\n"
        "       e.g. lnsub prune --config configs/mlm_en.yaml --score wanda --languages en,fr,ur --seeds 57,58\n"
        "            --sparsities 0.5,0.6 --output runs/wanda -- --data.init_args.max_length=256"
    )
    width = max(map(len, SCORES))
    parser.description = (
        "Makes tickets without training: weights, or neurons, are ranked by theta_0 and a sample of each language's\n"
        "text (--examples rows of the train split, drawn by the seed). The configuration is one of `lnsub fit`\n"
        "(without its IMPCallback). One process runs, on a GPU where there is one. Run again, it makes what is\n"
        "missing.\n\n"
        "scores:\n" + "\n".join(f"  {name:<{width}}  {text}" for name, text in SCORES.items())
    )
    add_config(parser)
    parser.add_argument("--score", required=True, metavar="S", help="what weights are ranked by, see above")
    parser.add_argument("--languages", required=True, metavar="a,b,c", help="languages, or mixtures such as en+fr")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="tree of runs")
    parser.add_argument(
        "--seeds", default="", metavar="57,58", help="seeds of the samples (default: the configuration's)"
    )
    parser.add_argument(
        "--sparsities", default="", metavar="0.5,0.6", help="a ticket of each, of every language and seed"
    )
    parser.add_argument(
        "--examples", type=int, default=128, metavar="N", help="rows in a sample, or blocks of text (default: 128)"
    )
    parser.add_argument(
        "--granularity",
        metavar="G",
        help="what is kept or pruned as a whole: weight, neuron, head or row (default: weight; for lape neuron)",
    )
    parser.add_argument(
        "--scope",
        metavar="S",
        help="what is ranked together: global, layer, matrix, stack or row (default: for wanda row, or matrix where it "
        "ranks more than single weights; else global)",
    )
    parser.add_argument("--pooled", action="store_true", help="also tickets of the samples of all languages together")
    parser.add_argument("--labels", metavar="L", help="for fisher: observed or sampled (default: observed)")
    parser.add_argument(
        "--layer-by-layer",
        action="store_true",
        help="for wanda and lape: all examples through one block after the other, of which only that is on the GPU",
    )
    parser.add_argument(
        "--lape-rate", type=float, metavar="R", help="for lape: the share of neurons to choose (default: 0.01)"
    )
    parser.add_argument(
        "--lape-quantile",
        type=float,
        metavar="Q",
        help="for lape: a neuron is active in a language above this quantile of all probabilities (default: 0.95)",
    )
    add_settings(parser)
    parser.set_defaults(call=_run)


def _run(options: argparse.Namespace) -> int:
    from lnsub.calibration.settings import Calibration

    why = "differs between runs, so it cannot be set for all of them"
    check_settings(options.settings, _SET_BY_RUNS, "--data.init_args.max_length=256", why)
    seeds = comma_list("--seeds", options.seeds, int)

    def calibration(seeds: list[int]) -> Calibration:
        return Calibration(
            score=options.score,
            languages=comma_list("--languages", options.languages),
            seeds=seeds,
            sparsities=comma_list("--sparsities", options.sparsities, float),
            examples=options.examples,
            scope=options.scope,
            granularity=options.granularity,
            labels=options.labels,
            pooled=options.pooled,
            layer_by_layer=options.layer_by_layer,
            lape_rate=options.lape_rate,
            lape_quantile=options.lape_quantile,
        )

    languages = calibration(seeds).languages  # refused before torch is imported, which takes seconds

    from lnsub.calibration.pruning import Pruning
    from lnsub.training.logging_setup import set_up_logging

    set_up_logging()
    config = parse_config(options, languages)
    read = Pruning(options.output, config, calibration(seeds or [config.seed_everything])).run()
    sys.stdout.write(f"{read}\nTickets: {options.output}\n")
    return 0
