"""`lnsub fit`, `validate`, `test` and `predict`, whose options are the settings of a run."""

import json
import logging
from collections.abc import Sequence

from jsonargparse import Namespace

from lnsub.common.files import check_output, replacing, starts_with
from lnsub.tracking.run import set_up
from lnsub.training.checkpoint_files import load_weights, refuse_others
from lnsub.training.config import RunConfig, parsed_options, run_parser
from lnsub.training.logging_setup import set_up_logging
from lnsub.training.ranks import gathered
from lnsub.training.setup import Run
from lnsub.training.summary import print_rounds

log = logging.getLogger(__name__)

DESCRIPTIONS = {
    "fit": "Finds tickets by iterative magnitude pruning, or, without an IMPCallback among trainer.callbacks, "
    "fine-tunes once. Start from a file in configs/; --trainer.callbacks.help=lnsub.IMPCallback and "
    "--data.help=lnsub.XNLI (or another task) list the settings of a class.",
    "validate": "Evaluates a model on the validation split; --ckpt_path names a fine-tuned one.",
    "test": "Evaluates a model on the test split; --ckpt_path names a fine-tuned one.",
    "predict": "Writes predictions.jsonl to the run's folder; --ckpt_path names a fine-tuned model.",
}


def run(command: str, args: Sequence[str]) -> int:
    """Parses and runs one of these commands; returns the exit status."""
    set_up_logging()
    run_parser(command).description = DESCRIPTIONS[command]
    parsed = parsed_options(command, args)
    config = RunConfig.of_namespace(parsed)
    if command == "fit":
        _fit(config)
    elif command == "predict":
        _predict(config, parsed)
    else:
        run = _measurable(config, parsed)
        for data in (run.data, *run.data.parts):
            getattr(run.trainer, command)(run.module, datamodule=data, verbose=parsed.verbose)
    return 0


def _fit(config: RunConfig) -> None:
    run = set_up(config)
    run.fit()
    if run.trainer.is_global_zero:
        print_rounds(run.folder, run.module.task.metric)


def _predict(config: RunConfig, parsed: Namespace) -> None:
    """Writes one JSON line per example, in the order of the split, to the run's folder."""
    run = _measurable(config, parsed)
    path = run.folder.path / "predictions.jsonl"
    check_output(path, "a file of predictions", lambda path: b'"index": ' in starts_with(path))
    rows = []
    for data in run.data.parts or (run.data,):
        batches = run.trainer.predict(run.module, datamodule=data, return_predictions=True)
        of_part = {"language": data.language} if data.part_of else {}
        mine = [row | of_part for batch in batches or [] for row in batch]
        rows += sorted((row for rank in gathered(run.trainer, mine) for row in rank), key=lambda row: row["index"])
    if run.trainer.is_global_zero:
        with replacing(path) as file:
            file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        log.info(f"{len(rows):,} predictions: {path}")


def _measurable(config: RunConfig, parsed: Namespace) -> Run:
    """Makes a run that is not fitted, with the weights that ``--ckpt_path`` names."""
    run = set_up(config, fitting=False)
    refuse_others(run.folder)
    if parsed.ckpt_path is not None:
        load_weights(parsed.ckpt_path, run.module)
    return run
