"""Environment variables that launchers (torchrun, SLURM, Lightning) set for each process of a run."""

import os

_PARTS = ("SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")


def is_first_process() -> bool:
    """Whether this is the first process of its run, or its only one.

    torchrun's RANK counts over all nodes, so it decides if set. Otherwise every rank variable that is set must be 0:
    SLURM counts its tasks over all nodes, whereas the processes that Lightning launches with ``--trainer.devices`` and
    ``--trainer.num_nodes`` are identified by NODE_RANK and LOCAL_RANK together.
    """
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in _PARTS)
