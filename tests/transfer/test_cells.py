"""The cells of a transfer, planned without a model."""

from pathlib import Path

import pytest

from lnsub.common.errors import UserError
from lnsub.runs.folder import ticket_filename
from lnsub.tickets.finding import find_tickets
from lnsub.transfer.cells import plan
from tests.support import ticket_factory


@pytest.fixture
def tickets(tmp_path: Path) -> str:
    for language, seed, sparsity in (("fr", 0, 0.5), ("fr", 1, 0.5), ("fr", 0, 0.8), ("ur", 0, 0.5)):
        ticket = ticket_factory.random_ticket(
            1 - sparsity, seed + ord(language[0]), language=language, seed=seed, sparsity=sparsity
        )
        ticket.save(tmp_path / language / str(seed) / ticket_filename(sparsity))
    return str(tmp_path / "**" / "*.safetensors")


def test_cells_are_numbered_alike_whatever_the_order_of_the_arguments(tickets):
    found = find_tickets([tickets])
    cells = plan(found, "xnli", ["fr", "ur"], [0, 1], ["random", "dense"])
    other = plan(find_tickets([tickets])[::-1], "xnli", ["ur", "fr"], [1, 0], ["dense", "random"])
    assert [c.id for c in cells] == [c.id for c in other]
    assert len({c.id for c in cells}) == len(cells)


def test_a_baseline_that_does_not_depend_on_the_ticket_is_one_cell(tickets):
    found = find_tickets([tickets])
    cells = plan(found, "xnli", ["fr", "ur", "zh"], [0, 1], ["random", "shuffled", "reinit", "oneshot", "dense"])
    counts = {variant: sum(c.variant == variant for c in cells) for variant in {c.variant for c in cells}}
    # Per language and seed: 4 tickets; 2 sparsities; (fr, 0.5), (fr, 0.8), (ur, 0.5); once.
    assert counts == {"ticket": 24, "shuffled": 24, "reinit": 24, "random": 12, "oneshot": 18, "dense": 6}
    pruned = {(c.language, c.seed): [o.sparsity for o in c.prunes] for c in cells if c.variant == "dense" and c.prunes}
    assert pruned == {(language, seed): s for language, s in (("fr", [0.5, 0.8]), ("ur", [0.5])) for seed in (0, 1)}


def test_only_the_sparsities_asked_for_are_found(tickets):
    assert [t.provenance.language for t in find_tickets([tickets], [0.8])] == ["fr"]


def test_zero_shot_needs_a_source(tickets, tmp_path):
    ticket_factory.random_ticket(0.5, 9, language="fr+ur").save(tmp_path / "core.safetensors")
    with pytest.raises(UserError, match=r"core\.safetensors .*fr\+ur"):
        plan(find_tickets([tickets]), "xnli", ["fr"], [0], zero_shot=True)


def test_one_shot_needs_a_ticket_of_the_task(tickets):
    with pytest.raises(UserError, match=r"oneshot .*wikiann"):
        plan(find_tickets([tickets]), "wikiann", ["fr"], [0], ["oneshot"])
