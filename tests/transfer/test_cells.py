"""The cells of a transfer, planned without a model."""

from pathlib import Path

import pytest

from lnsub.common.errors import UserError
from lnsub.runs.folder import ticket_filename
from lnsub.tickets.finding import find_tickets
from lnsub.transfer.cells import Cell, plan
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


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """The tickets of a run in French at four sparsities, and one of another run beside them."""
    folder = tmp_path / "runs" / "fr" / "tickets"
    for sparsity in (0.1, 0.2, 0.5, 0.8):
        ticket_factory.random_ticket(1 - sparsity, 1, sparsity=sparsity).save(folder / ticket_filename(sparsity))
    ticket_factory.random_ticket(0.7, 1, sparsity=0.3, seed=4).save(folder / ticket_filename(0.3))
    return folder


def started(cells: list[Cell]) -> list[tuple[float, float, str]]:
    return sorted((c.start.provenance.sparsity, c.sparsity, c.language) for c in cells if c.variant == "random_from")


def test_random_from_starts_from_the_lower_tickets_of_the_same_run(run_folder):
    found = find_tickets([str(run_folder / "s0.50.safetensors")])
    cells = plan(found, "xnli", ["fr", "ur"], [0], ["random_from"])
    assert started(cells) == [(start, 0.5, language) for start in (0.1, 0.2) for language in ("fr", "ur")]
    masks = {c.mask_name for c in cells if c.start}
    assert len(masks) == 2  # the target has no part in them
    assert {c.row for c in cells} == {"fr", "fr random from 10 %", "fr random from 20 %"}
    assert {c.source for c in cells} == {"fr"}
    assert {c.score for c in cells if c.start} == {"random_from:0.1", "random_from:0.2"}
    assert len({c.id for c in plan(found, "xnli", ["fr"], [0, 1], ["random_from"])}) == 2 * 3
    every = find_tickets([str(run_folder / "*")])
    assert [s for s in started(plan(every, "xnli", ["fr"], [0], ["random_from"])) if s[1] == 0.8] == [
        (start, 0.8, "fr") for start in (0.1, 0.2, 0.5)
    ]


def test_random_from_takes_tickets_of_the_run_from_elsewhere_too(run_folder, tmp_path):
    moved = tmp_path / "elsewhere" / "ticket.safetensors"
    moved.parent.mkdir()
    (run_folder / "s0.50.safetensors").rename(moved)
    found = find_tickets([str(moved), str(run_folder / "s0.20.safetensors")])
    assert started(plan(found, "xnli", ["fr"], [0], ["random_from"])) == [(0.1, 0.2, "fr"), (0.2, 0.5, "fr")]


def test_random_from_may_name_where_to_start(run_folder):
    found = find_tickets([str(run_folder / "s0.50.safetensors"), str(run_folder / "s0.20.safetensors")])
    assert started(plan(found, "xnli", ["fr"], [0], ["random_from:0.2"])) == [(0.2, 0.5, "fr")]
    both = plan(found, "xnli", ["fr"], [0], ["random_from:0.1", "random_from:0.2"])
    assert started(both) == [(0.1, 0.2, "fr"), (0.1, 0.5, "fr"), (0.2, 0.5, "fr")]
    assert started(plan(found, "xnli", ["fr"], [0], ["random_from", "random_from:0.1"])) == started(both)
    with pytest.raises(UserError, match=r"random_from .*sparsity 0\.4, .*there are none beside"):
        plan(found, "xnli", ["fr"], [0], ["random_from:0.4"])


@pytest.mark.parametrize("text", ["random:0.1", "random_from:", "random_from:half", "random_from:0", "random_from:1"])
def test_only_random_from_takes_a_sparsity(text, run_folder):
    with pytest.raises(UserError, match=rf"'{text}': only random_from takes a sparsity"):
        plan(find_tickets([str(run_folder / "s0.50.safetensors")]), "xnli", ["fr"], [0], [text])


def test_random_from_without_lower_tickets_says_what_to_do(run_folder, tmp_path):
    with pytest.raises(UserError, match=r"tickets of a lower sparsity of the same run.*name tickets in the folder"):
        plan(find_tickets([str(run_folder / "s0.10.safetensors")]), "xnli", ["fr"], [0], ["random_from"])
    # One that is combined, or inherited, no run has found.
    for changes in ({"sources": "{}"}, {"task": "inherited", "language": "inherited"}):
        path = ticket_factory.random_ticket(0.5, 9, **changes).save(tmp_path / "odd" / f"s{len(changes)}.safetensors")
        with pytest.raises(UserError, match="a lower sparsity"):
            plan(find_tickets([str(path)]), "xnli", ["fr"], [0], ["random_from"])


def test_an_inherited_mask_is_one_cell_for_all_tickets_of_a_sparsity_and_scope(tickets, tmp_path):
    ticket_factory.random_ticket(0.5, 77, language="zh", scope="layer").save(tmp_path / "zh" / "s0.50.safetensors")
    cells = plan(find_tickets([tickets]), "xnli", ["fr", "ur"], [0, 1], ["inherited"])
    inherited = [cell for cell in cells if cell.variant == "inherited"]
    assert len(inherited) == 2 * 2 * 3  # targets, seeds; (0.5, global), (0.8, global), (0.5, layer)
    assert len({cell.mask_name for cell in inherited}) == 3  # neither the target nor the seed has a part in it
    assert {(cell.row, cell.source) for cell in inherited} == {("inherited", None), ("inherited (layer)", None)}


def test_an_inherited_ticket_is_its_own_baseline(tmp_path):
    path = ticket_factory.random_ticket(0.5, 1, task="inherited", language="inherited").save(tmp_path / "a.safetensors")
    cells = plan(find_tickets([str(path)]), "xnli", ["fr"], [0], ["inherited", "random"])
    assert [cell.variant for cell in cells] == ["ticket", "random"]


def test_only_the_sparsities_asked_for_are_found(tickets):
    assert [t.provenance.language for t in find_tickets([tickets], [0.8])] == ["fr"]


def test_zero_shot_needs_a_source(tickets, tmp_path):
    ticket_factory.random_ticket(0.5, 9, language="fr+ur", sources="[]").save(tmp_path / "core.safetensors")
    with pytest.raises(UserError, match=r"core\.safetensors .*fr\+ur"):
        plan(find_tickets([tickets]), "xnli", ["fr"], [0], zero_shot=True)


def test_a_mixture_is_a_source_like_any_other(tmp_path):
    ticket_factory.random_ticket(0.5, 9, language="fr+ur").save(tmp_path / "mixture.safetensors")
    tickets = find_tickets([str(tmp_path / "mixture.safetensors")])
    (cell,) = plan(tickets, "xnli", ["zh"], [0], zero_shot=True)
    assert (cell.language, cell.targets, cell.source) == ("fr+ur", ("zh",), "fr+ur")
    cells = {cell.variant: cell for cell in plan(tickets, "xnli", ["zh"], [0], ["oneshot"])}
    assert cells["oneshot"].source == "fr+ur"
    assert cells["dense"].language == "fr+ur"


def test_one_shot_needs_a_ticket_of_the_task(tickets):
    with pytest.raises(UserError, match=r"oneshot .*wikiann"):
        plan(find_tickets([tickets]), "wikiann", ["fr"], [0], ["oneshot"])


def test_baselines_that_all_share_are_trained_on_the_languages_named_for_them_alone(tickets):
    found = find_tickets([tickets])
    baselines = ["dense", "random", "inherited", "shuffled", "reinit"]
    everywhere = plan(found, "xnli", ["fr", "ur", "zh"], [0], baselines)
    for on in ([], ["fr"], ["zh", "fr"]):
        cells = plan(found, "xnli", ["fr", "ur", "zh"], [0], baselines, baselines_on=on)
        shared = {"dense", "random", "inherited"}
        assert [cell.id for cell in cells] == [
            cell.id for cell in everywhere if cell.variant not in shared or cell.language in on
        ]
    with pytest.raises(UserError, match="--baselines-on has de, which is neither a target"):
        plan(found, "xnli", ["fr", "ur"], [0], baselines, baselines_on=["fr", "de"])


def test_one_shot_masks_have_their_dense_model_also_where_no_dense_baseline_is_wanted(tickets):
    cells = plan(find_tickets([tickets]), "xnli", ["zh"], [0], ["oneshot", "dense"], baselines_on=[])
    assert [cell.language for cell in cells if cell.variant == "dense"] == ["fr", "ur"]
    assert all(cell.prunes for cell in cells if cell.variant == "dense")
