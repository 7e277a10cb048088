"""Runs parts of a benchmark in a worker process, which is replaced when a part fails, dies or times out.

A GPU fault leaves a process unusable, and a compiler may hang: neither must affect later parts. Successful parts share
the process and its compiled code.
"""

import multiprocessing
import traceback
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

_START = 300.0
"""Seconds that a process has for its imports."""


class PartFailed(Exception):  # noqa: N818 (not an error of this program)
    """A part failed; the message is a one-line reason."""


class Worker:
    """Calls functions in a worker process, one at a time. A context manager, which ends the process.

    Args:
        module: a module that the process imports in advance, so that no part's time includes it.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: BaseProcess | None = None
        self._pipe: Connection
        self._ready = False

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def call(self, function: Callable[..., Any], *args: Any, seconds: float) -> Any:
        """Calls an importable function with picklable arguments, and waits for its result.

        Args:
            function: what to call.
            args: its arguments.
            seconds: the time limit.

        Raises:
            PartFailed: it raised an exception, its process died, or it timed out.
        """
        try:
            return self._answer(function, args, seconds)
        except PartFailed:
            self._end()
            raise

    def _answer(self, function: Callable[..., Any], args: tuple[Any, ...], seconds: float) -> Any:
        process = self._process or self._begin()
        try:
            if not self._ready:
                if not self._pipe.poll(_START):
                    raise PartFailed(f"its process was not ready after {_START:.0f} s")
                self._ready = self._pipe.recv()
            self._pipe.send((function, args))
            if not self._pipe.poll(seconds):
                raise PartFailed(f"not done after {seconds:.0f} s")
            result, reason = self._pipe.recv()
        except (EOFError, OSError) as error:
            process.join(5)
            raise PartFailed(f"its process ended with status {process.exitcode}") from error
        if reason:
            raise PartFailed(reason)
        return result

    def _begin(self) -> BaseProcess:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        # Not a daemon, because loaders and compilers start child processes.
        self._process = process = context.Process(target=_serve, args=(other, self._module))
        self._ready = False
        process.start()
        other.close()
        return process

    def _end(self) -> None:
        if self._process is None:
            return
        self._pipe.close()
        self._process.join(1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process = None


def _serve(pipe: Connection, module: str) -> None:
    import_module(module)
    pipe.send(True)
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        try:
            answer = (function(*args), "")
        except Exception as error:
            traceback.print_exc()
            first = (str(error).strip().splitlines() or [""])[0]
            answer = (None, f"{type(error).__name__}: {first}"[:300])
        pipe.send(answer)
