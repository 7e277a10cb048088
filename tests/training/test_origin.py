"""Seeds of a run's parts: each decides what it says, and tickets and records tell what sets their run apart."""

import torch

from lnsub.cli.main import main
from lnsub.runs.folder import RunFolder
from lnsub.tasks.xnli import XNLITask
from lnsub.tickets.ticket import Ticket
from lnsub.training.module import SubnetModule
from tests.support.resuming import LEVELS, command


def head(module: SubnetModule) -> torch.Tensor:
    return module.model.classifier.weight.detach()


def test_the_heads_seed_decides_the_head_alone(bert):
    own, apart, other = (
        SubnetModule(XNLITask(bert), bert, seed=5),
        SubnetModule(XNLITask(bert), bert, seed=5, head_seed=6),
        SubnetModule(XNLITask(bert), bert, seed=6),
    )
    assert torch.equal(head(apart), head(other))
    assert not torch.equal(head(apart), head(own))
    assert (apart.seed, apart.head_seed, apart.order_seed) == (5, 6, 5)
    assert apart.fingerprint == own.fingerprint


def losses(folder: RunFolder) -> list[str]:
    """The training losses of the first round."""
    header, *lines = (folder.path / "metrics.csv").read_text().splitlines()
    place = header.split(",").index("train_loss")
    return [line.split(",")[place] for line in lines if line.split(",")[place]]


def test_a_run_apart_has_its_own_folder_and_says_what_sets_it_apart(place, tmp_path):
    def fitted(name: str, *options: str) -> RunFolder:
        logged = ["--trainer.log_every_n_steps=1", "--data.init_args.max_train_examples=20"]
        assert main([*command(place, tmp_path)[3:], *logged, *options]) == 0
        return RunFolder(tmp_path / "xnli" / "en" / name)

    plain = fitted("seed57")
    sample = fitted("seed57-sample1", "--data.init_args.train_sample=1")
    head_apart = fitted("seed57-head58", "--head_seed=58")
    both = fitted("seed58-head57", "--seed_everything=58", "--head_seed=57")
    same = fitted("seed58-head57-order57", "--seed_everything=58", "--head_seed=57", "--order_seed=57")
    assert {record.condition for record in plain.records("imp")} == {None}
    assert {record.condition for record in sample.records("imp")} == {"sample1"}

    found = {folder.path.name: Ticket.load(folder.ticket(LEVELS[0])).provenance for folder in (plain, sample, both)}
    facts = {name: (p.condition, p.head, p.order, p.rows, p.labels) for name, p in found.items()}
    assert facts == {
        "seed57": ("", "57", "57", "parallel rows, sample 0 of 20 rows", ""),
        "seed57-sample1": ("sample1", "57", "57", "parallel rows, sample 1 of 20 rows", ""),
        "seed58-head57": ("head57", "57", "58", "parallel rows, sample 0 of 20 rows", ""),
    }
    # Head and order make up all of what a seed decides here, so a run with another's is that run again.
    assert losses(same) == losses(plain)
    assert Ticket.load(same.ticket(LEVELS[-1])).checksum == Ticket.load(plain.ticket(LEVELS[-1])).checksum
    assert len({tuple(losses(folder)) for folder in (plain, sample, head_apart, both)}) == 4
