"""What sets runs apart is in the names of their folders, and plain runs keep theirs."""

from pathlib import Path

import pytest

from lnsub.runs.condition import PLAIN, Condition
from lnsub.runs.folder import RunFolder

NAMED = {
    "": Condition(),
    "the run's own seeds": Condition(head_seed=57, order_seed=57, train_sample=0),
}
APART = {
    "head58": Condition(head_seed=58),
    "order0": Condition(order_seed=0),
    "subset0": Condition(subset_seed=0),
    "subset57": Condition(subset_seed=57),  # the rows of the plain run are drawn by no run's seed
    "sample1": Condition(train_sample=1),
    "shuffled": Condition(labels="shuffled"),
    "head1-order2-subset3-sample4-shuffled": Condition(1, 2, 3, 4, "shuffled"),
}


@pytest.mark.parametrize("condition", NAMED.values(), ids=NAMED)
def test_a_plain_run_has_no_name_beside_its_seed(condition):
    assert condition.name(57) is None
    assert RunFolder.of("runs", "xnli", "fr", 57, condition).path == Path("runs/xnli/fr/seed57")


@pytest.mark.parametrize(("name", "condition"), APART.items(), ids=APART)
def test_a_run_apart_is_named_by_what_sets_it_apart(name, condition):
    assert condition.name(57) == name
    assert RunFolder.of("runs", "xnli", "fr", 57, condition).path == Path(f"runs/xnli/fr/seed57-{name}")


def test_settings_are_those_that_are_given():
    assert PLAIN.settings() == {}
    assert Condition(1, 0, 3, 0, "shuffled").settings() == {
        "head_seed": 1,
        "order_seed": 0,
        "subset_seed": 3,
        "data.init_args.train_sample": 0,
        "data.init_args.labels": "shuffled",
    }
