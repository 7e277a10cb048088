"""One process speaks for a run, whichever launcher started it: environments of two nodes with two processes each."""

import logging
from collections.abc import Callable

import pytest
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from lnsub.common.launcher import is_first_process
from lnsub.training.logging_setup import set_up_logging

PLACES = [(node, local) for node in range(2) for local in range(2)]


def torchrun(node: int, local: int) -> dict[str, str]:
    ranks = {"RANK": 2 * node + local, "LOCAL_RANK": local, "GROUP_RANK": node, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2}
    return {name: str(value) for name, value in ranks.items()} | {"TORCHELASTIC_RUN_ID": "run"}


def torchrun_in_a_slurm_task(node: int, local: int) -> dict[str, str]:
    return torchrun(node, local) | {"SLURM_PROCID": str(node), "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}


def slurm(node: int, local: int) -> dict[str, str]:
    ranks = {"SLURM_PROCID": 2 * node + local, "SLURM_LOCALID": local, "SLURM_NODEID": node, "SLURM_NTASKS": 4}
    return {name: str(value) for name, value in ranks.items()} | {"SLURM_NTASKS_PER_NODE": "2"}


def lightning(node: int, local: int) -> dict[str, str]:
    """`--trainer.num_nodes=2 --trainer.devices=2`, started on each node; a node's first process starts the second."""
    return {"NODE_RANK": str(node)} | ({"LOCAL_RANK": str(local), "WORLD_SIZE": "4"} if local else {})


def lightning_in_an_interactive_slurm_job(node: int, local: int) -> dict[str, str]:
    return lightning(node, local) | {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "interactive"}


def by_node(environment: LightningEnvironment) -> int:
    """The global rank that Lightning's launcher gives its processes."""
    return 2 * environment.node_rank() + environment.local_rank()


LAUNCHERS: list[tuple[Callable[[int, int], dict[str, str]], Callable[[], int]]] = [
    (torchrun, lambda: TorchElasticEnvironment().global_rank()),
    (torchrun_in_a_slurm_task, lambda: TorchElasticEnvironment().global_rank()),
    (slurm, lambda: SLURMEnvironment().global_rank()),
    (lightning, lambda: by_node(LightningEnvironment())),
    (lightning_in_an_interactive_slurm_job, lambda: by_node(LightningEnvironment())),
]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "GROUP_RANK", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("launcher", "global_rank"), LAUNCHERS, ids=lambda value: value.__name__.strip("<>"))
def test_of_two_nodes_one_process_logs_and_it_is_the_one_that_lightning_ranks_first(launcher, global_rank):
    own = logging.getLogger("lnsub")
    before, handlers, propagate = own.level, list(own.handlers), own.propagate
    logged, first = {}, {}
    try:
        for place in PLACES:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in launcher(*place).items():
                    patch.setenv(name, value)
                set_up_logging()
                assert is_first_process() == own.isEnabledFor(logging.INFO)
                logged[place], first[place] = own.isEnabledFor(logging.INFO), global_rank() == 0
                assert own.isEnabledFor(logging.WARNING)
    finally:
        own.setLevel(before)
        own.handlers, own.propagate = handlers, propagate
    assert logged == first
    assert [place for place in PLACES if logged[place]] == [(0, 0)]


def test_a_process_that_nothing_launched_speaks():
    assert is_first_process()
