"""`lnsub fit`, `validate`, `test` and `predict`: their options are all settings of a run."""

import json
import logging
from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace

from lnsub.common.files import check_output, replacing, starts_with
from lnsub.tracking.run import track
from lnsub.training.config import RunConfig, run_parser
from lnsub.training.parse_errors import explained
from lnsub.training.ranks import gathered
from lnsub.training.remarks import show_remarks
from lnsub.training.setup import set_up
from lnsub.training.summary import print_rounds

log = logging.getLogger(__name__)

DESCRIPTIONS = {
    "fit": "Finds tickets: all rounds of iterative magnitude pruning, or, without an IMPCallback among "
    "trainer.callbacks, one fine-tuning. Start from a file of configs/; --trainer.callbacks.help=lnsub.IMPCallback "
    "and --data.help=lnsub.XNLI (or another task's) list the settings of a class.",
    "validate": "Measures a model on the validation split; --ckpt_path names a fine-tuned one.",
    "test": "Measures a model on the test split; --ckpt_path names a fine-tuned one.",
    "predict": "Writes predictions.jsonl into the run's folder; --ckpt_path names a fine-tuned model.",
}


def run(command: str, args: Sequence[str]) -> int:
    """Parses and runs one of these commands; returns the exit status."""
    show_remarks()
    parser = run_parser(command)
    parser.description = DESCRIPTIONS[command]
    with explained(parser):
        parsed = parser.parse_args(list(args))
        config = RunConfig.of_namespace(parsed)
    if command == "fit":
        _fit(config)
    elif command == "predict":
        _predict(config, parsed)
    else:
        run = set_up(config, fitting=False)
        getattr(run.trainer, command)(run.module, datamodule=run.data, **_options(parsed))
    return 0


def _fit(config: RunConfig) -> None:
    run = set_up(config)
    track(run)
    run.fit()
    if run.trainer.is_global_zero:
        print_rounds(run.folder, run.module.task.metric)


def _predict(config: RunConfig, parsed: Namespace) -> None:
    """Writes one JSON line an example, in the split's order, into the run's folder."""
    run = set_up(config, fitting=False)
    path = run.folder.path / "predictions.jsonl"
    check_output(path, "a file of predictions", lambda path: b'"index": ' in starts_with(path))
    batches = run.trainer.predict(run.module, datamodule=run.data, return_predictions=True, **_options(parsed))
    mine = [row for batch in batches or [] for row in batch]
    rows = sorted((row for part in gathered(run.trainer, mine) for row in part), key=lambda row: row["index"])
    if run.trainer.is_global_zero:
        with replacing(path) as file:
            file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        log.info(f"{len(rows):,} predictions: {path}")


def _options(parsed: Namespace) -> dict[str, Any]:
    """The options that are the trainer's method's own."""
    return {name: value for name, value in parsed.as_dict().items() if name in {"ckpt_path", "verbose", "weights_only"}}
