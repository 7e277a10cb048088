"""Parts of a benchmark in one process beside this one, which is replaced when a part fails, dies or overruns.

A fault on a GPU spoils the process that it happens in, and a compiler may never end: neither may cost the parts that
come after. Parts that do well share their process, and so what it has compiled.
"""

import multiprocessing
import traceback
from collections.abc import Callable
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

_START = 300.0
"""Seconds in which a process must have imported what it needs."""


class PartFailed(Exception):  # noqa: N818 (it is no error of this program)
    """A part did not come to its end; the message says why, in one line."""


class Worker:
    """Calls functions in a process of its own, one at a time. A context manager, which ends the process.

    Args:
        module: what the process imports before it is asked for anything, so that no part's time goes into it.
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
            seconds: how long it may take.

        Raises:
            PartFailed: it raised, its process died, or the time ran out.
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
        # Not a daemon: loaders and compilers start processes of their own.
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
