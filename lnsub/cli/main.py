"""The `lnsub` command: dispatches to the commands, importing only the one needed, and prints errors as one line."""

import os
import select
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from lnsub.common.errors import RunError, UserError
from lnsub.common.launcher import is_first_process
from lnsub.common.signals import EXIT_STATUS, Preempted, deferred_signals
from lnsub.version import __version__

TRAINING = {
    "fit": "find tickets by iterative magnitude pruning, or fine-tune once",
    "validate": "evaluate a model on the validation split",
    "test": "evaluate a model on the test split",
    "predict": "write a model's predictions as JSON lines",
}
OTHERS = {
    "study": "plan, run, submit to SLURM, watch and report a whole study from one file",
    "prepare": "fetch a model and data and tokenise them, before runs start",
    "prune": "make tickets without training, from a sample of each language's text",
    "transfer": "fine-tune every ticket on every language",
    "overlap": "compare tickets weight by weight",
    "combine": "combine tickets: union, intersection, majority, difference",
    "ablate": "take away what tickets name, and measure every language without it",
    "retrieve": "retrieve translations by the hidden states of each layer, dense and under tickets",
    "similarity": "compare two languages' states of parallel sentences by layer: CKA, SVCCA, PWCCA",
    "report": "plot a tree of runs on one page, with the data as CSV",
    "dashboard": "create a W&B workspace for a project's runs",
    "ticket": "describe, verify, push to the Hugging Face Hub, pull from it, or import tickets",
    "export": "write a Hugging Face model folder with a sub-network's weights, and push it to the Hub",
    "demo": "run everything on a small embedded model, offline, in minutes",
    "completion": "print a shell completion script",
}
RESUMABLE = (["fit"], ["transfer"])
"""Commands that stop at a resumable point on a signal, as `study run` does by itself; it ends the others at once."""

USAGE = f"""usage: lnsub COMMAND [OPTIONS]     (lnsub COMMAND --help lists a command's options)

Find, transfer and compare the language-neutral sub-networks of multilingual language models.

training:
{chr(10).join(f"  {name:<12}{text}" for name, text in TRAINING.items())}

tickets and results:
{chr(10).join(f"  {name:<12}{text}" for name, text in OTHERS.items())}

options:
  --version   print the version
  --debug     show tracebacks of errors
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the command line without the program's name; default: ``sys.argv``.

    Returns:
        The exit status: 0 done, 1 partly failed or lost a process, 2 bad input, 75 interrupted by a signal and saved.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    # On CPUs oneDNN caches primitives for a thousand shapes, and every batch length is a shape: hundreds of MB. A
    # smaller cache is as fast.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    try:
        with deferred_signals() if args[:1] in RESUMABLE else nullcontext():
            status = _run(args)
        sys.stdout.flush()
        return status
    except Preempted as stop:
        if is_first_process():
            sys.stderr.write(f"lnsub: {stop}\n")
        return EXIT_STATUS
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            # Whoever read it has had enough, as `head` has. Without a file behind it, Python would complain at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 128 + signal.SIGPIPE
        from lnsub.common.error_messages import user_message

        line = user_message(error)
        if debug or line is None:
            raise
        sys.stderr.write(f"lnsub: error: {line}\n")
        return 1 if isinstance(error, RunError) else 2


def _output_is_closed() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def program() -> int:
    """Entry point of the program `lnsub`; a signal after the command has ended does not change its exit status."""
    status = main()
    for signum in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    return status


def _run(args: list[str]) -> int:
    if odd := next((arg for arg in args if "\0" in arg), None):
        raise UserError(f"The argument {odd[:40]!r} has a null character, which no file's name and no option has.")
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
