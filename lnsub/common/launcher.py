"""What a launcher (torchrun, SLURM, Lightning) tells each process of a run through its environment."""

import os

_PARTS = ("SLURM_PROCID", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK")


def is_first_process() -> bool:
    """Tells whether this process speaks for the whole run; a process that nothing launched does.

    torchrun's RANK counts over all nodes and settles it. Otherwise every rank that is set must be 0: SLURM counts its
    tasks over all nodes, while Lightning, with ``--trainer.devices`` and ``--trainer.num_nodes``, starts processes that
    differ in NODE_RANK and LOCAL_RANK, each of which begins at 0 on its own.
    """
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in _PARTS)
