"""Several processes that talk to each other, as a training job's do: real ones, on the CPU, over gloo."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

TIMEOUT = 300.0


def on_ranks(count: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Calls ``function(rank, *args)`` in ``count`` new processes and returns their results by rank.

    They come from a server that has imported what takes seconds. The environment is that of a job started by somebody
    else, so that Lightning starts no processes of its own; a function that does without Lightning calls
    ``torch.distributed.init_process_group("gloo")`` itself.

    Args:
        count: how many processes.
        function: of a module that can be imported.
        args: picklable.

    Raises:
        AssertionError: one of them failed; the message has its traceback.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    results: Any = context.SimpleQueue()
    processes = [
        context.Process(target=_run, args=(rank, count, port, results, function, args), daemon=True)
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    found = {}
    for process in processes:
        process.join(TIMEOUT)
        if process.exitcode != 0:
            for other in processes:
                other.kill()
    while not results.empty():
        rank, result, error = results.get()
        assert not error, f"rank {rank} of {count}:\n{error}"
        found[rank] = result
    assert len(found) == count, f"exit codes {[process.exitcode for process in processes]}"
    return [found[rank] for rank in range(count)]


def _run(rank: int, count: int, port: int, results: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
    }
    try:
        results.put((rank, function(rank, *args), ""))
    except BaseException:
        results.put((rank, None, traceback.format_exc()))
        os._exit(1)  # the others wait for this rank: they are ended by who started them
    os._exit(0)
