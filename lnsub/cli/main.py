"""The `lnsub` command: finds what was asked for, imports only that, and turns errors into one line."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from lnsub.common.errors import RunError
from lnsub.common.launcher import is_first_process
from lnsub.common.signals import EXIT_STATUS, Preempted, deferred_signals
from lnsub.version import __version__

TRAINING = {
    "fit": "find tickets: all rounds of iterative magnitude pruning, or one fine-tuning",
    "validate": "measure a model on the validation split",
    "test": "measure a model on the test split",
    "predict": "write a model's predictions as JSON lines",
}
OTHERS = {
    "transfer": "fine-tune every ticket on every language, each cell once",
    "overlap": "compare tickets weight by weight",
    "combine": "make one ticket of several: union, intersection, majority, difference",
    "retrieve": "find translations by the states of each layer, dense and under tickets",
    "report": "draw a tree of runs as one page of figures, with the data as CSV",
    "dashboard": "make a workspace on W&B that shows a project's runs",
    "ticket": "tell what a ticket is (info), or whether it is whole (verify)",
    "export": "write a Hugging Face model folder with a sub-network's weights",
    "demo": "the whole story on a small embedded model, offline, in minutes",
    "completion": "print a shell completion script",
}
RESUMABLE = (["fit"], ["transfer"])
"""Commands that a signal stops where they can be resumed; the others it just ends."""

USAGE = f"""usage: lnsub COMMAND [OPTIONS]     (lnsub COMMAND --help tells a command's options)

Find, transfer and compare the language-neutral sub-networks of multilingual language models.

training:
{chr(10).join(f"  {name:<12}{text}" for name, text in TRAINING.items())}

tickets and results:
{chr(10).join(f"  {name:<12}{text}" for name, text in OTHERS.items())}

options:
  --version   print the version
  --debug     show the traceback of an error
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the command line without the program's name; from ``sys.argv`` by default.

    Returns:
        The exit status: 0 done, 1 failed in part or for want of other processes, 2 bad input, 75 interrupted by a
        signal and saved.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    # torch's products on a CPU keep what they prepared for each shape, for a thousand of them, and every length of a
    # batch is a shape: hundreds of MB. As many as a few batches need serve as well.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    try:
        with deferred_signals() if args[:1] in RESUMABLE else nullcontext():
            return _run(args)
    except Preempted as stop:
        if is_first_process():
            sys.stderr.write(f"lnsub: {stop}\n")
        return EXIT_STATUS
    except Exception as error:
        from lnsub.common.error_messages import user_message

        line = user_message(error, args)
        if debug or line is None:
            raise
        sys.stderr.write(f"lnsub: error: {line}\n")
        return 1 if isinstance(error, RunError) else 2


def program() -> int:
    """What the program `lnsub` runs: one command, whose exit status a signal that comes after it changes no more."""
    status = main()
    for signum in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    return status


def _run(args: list[str]) -> int:
    command = args[0] if args else "--help"
    if command in {"-h", "--help"}:
        sys.stdout.write(USAGE)
    elif command == "--version":
        sys.stdout.write(f"lnsub {__version__}\n")
    elif command in TRAINING:
        from lnsub.cli import training

        return training.run(command, args[1:])
    else:
        from lnsub.cli.commands import run
        from lnsub.common.lookup import lookup

        lookup("command", command, {**TRAINING, **OTHERS})
        return run(command, args[1:])
    return 0
