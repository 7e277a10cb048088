from pathlib import Path

import numpy as np
import pytest

from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.models.inherited import Theta0
from lnsub.tickets.combining import combine
from lnsub.tickets.parameters import kind_of
from lnsub.tickets.ticket import Ticket
from tests.support.models import save_checkpoint
from tests.support.overlap_command import Masks, jaccard, noisy, overlap, rows_of, saved
from tests.support.ticket_factory import kept_set, random_masks, ticket


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("base"), ["a", "b"])


@pytest.fixture(scope="module")
def theta_0(checkpoint: Path) -> Theta0:
    return Theta0.load(str(checkpoint))


def inherited(theta_0: Theta0, sparsity: float = 0.5) -> Masks:
    """The largest weights of theta_0, by sorting."""
    values = np.sort(np.concatenate([np.abs(w).ravel() for w in theta_0.values()]))
    return {name: np.abs(w) >= values[round(sparsity * values.size)] for name, w in theta_0.items()}


def found_in(theta_0: Theta0) -> dict[str, str]:
    return {"base_model": theta_0.base_model, "base_fingerprint": theta_0.fingerprint}


def test_inherited_masks_among_the_tickets_are_used_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = random_masks(0.5, 9)
    masks = {name: noisy(base, 0.1, i) for i, name in enumerate(("fr0", "ur0"))}
    paths = saved(tmp_path, masks)
    ready = str(ticket(base, task="inherited", language="inherited").save(tmp_path / "base"))
    (row,) = rows_of(capsys, *paths, ready)
    sets, inside = {name: kept_set(m) for name, m in masks.items()}, kept_set(base)
    gone = {name: kept ^ inside for name, kept in sets.items()}
    assert row["overlap"] == jaccard(sets["fr0"], sets["ur0"])
    assert (row["inherited_a"], row["inherited_b"]) == (jaccard(sets["fr0"], inside), jaccard(sets["ur0"], inside))
    assert (row["departure_a"], row["departure_b"]) == (len(gone["fr0"]), len(gone["ur0"]))
    assert row["departure_overlap"] == jaccard(gone["fr0"], gone["ur0"])
    assert "null" not in row
    text = overlap(capsys, *paths, ready)
    assert f"cross-language, same seed, {row['departure_overlap']:.4f}." in text
    # One ticket alone is held against its inherited mask; inherited masks alone are tickets like others.
    assert f"fr        {jaccard(sets['fr0'], inside):.4f}" in overlap(capsys, paths[0], ready)
    assert len(rows_of(capsys, ready, ready)) == 1


def test_references_take_the_place_of_inherited_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = random_masks(0.5, 9)
    masks = {name: noisy(base, 0.1, i) for i, name in enumerate(("fr0", "ur0"))}
    paths = saved(tmp_path, masks)
    pooled = str(ticket(base, language="fr+ur").save(tmp_path / "pooled.safetensors"))
    # Among the tickets too, as a pattern may have it.
    (row,) = rows_of(capsys, *paths, pooled, "--reference", pooled)
    gone = {name: kept_set(m) ^ kept_set(base) for name, m in masks.items()}
    assert row["departure_overlap"] == jaccard(gone["fr0"], gone["ur0"])
    other = str(ticket(random_masks(0.5, 8), language="fr+ur").save(tmp_path / "other.safetensors"))
    with pytest.raises(UserError, match="which are of one sparsity and scope: name the one"):
        run("overlap", [*paths, "--reference", pooled, other])
    sparser = str(ticket(random_masks(0.2, 8), language="fr+ur", sparsity=0.8).save(tmp_path / "sparser.safetensors"))
    with pytest.raises(UserError, match="is of a sparsity, scope or granularity that no ticket has"):
        run("overlap", [*paths, "--reference", sparser])


def test_a_missing_inherited_mask_is_named(tmp_path: Path) -> None:
    paths = saved(tmp_path, {"fr0": random_masks(0.5, 0), "ur0": random_masks(0.5, 1)})
    ready = str(ticket(random_masks(0.2, 9), task="inherited", sparsity=0.8).save(tmp_path / "base"))
    with pytest.raises(UserError, match=r"there is no inherited mask for ticket .*fr0"):
        run("overlap", [*paths, ready])


def test_inherited_makes_the_masks_and_shows_departures_beside_each_overlap(
    theta_0: Theta0, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = inherited(theta_0)
    shared = noisy(base, 0.03, 7)  # what all runs change alike, so that departures are no chance
    masks = {name: noisy(shared, 0.01, i) for i, name in enumerate(("fr0", "fr1", "ur0", "ur1"))}
    paths = saved(tmp_path, masks, **found_in(theta_0))
    keep = tmp_path / "keep"
    args = ["--by", "kind", "--summary", "--neutrality"]
    rows = rows_of(capsys, *paths, *args, "--inherited", theta_0.base_model, "--inherited-output", str(keep))
    for row in rows:
        names = {n for n in base if row.get("kind") in (None, kind_of(n))}
        inside = kept_set(base, names)
        a, b = (kept_set(masks[f"{row[f'language_{side}']}{row[f'seed_{side}']}"], names) for side in "ab")
        assert (row["inherited_a"], row["inherited_b"]) == (jaccard(a, inside), jaccard(b, inside))
        assert row["departure_overlap"] == jaccard(a ^ inside, b ^ inside)
        assert row["null"] < row["departure_overlap"]
    alone = rows_of(capsys, *paths, "--inherited", theta_0.base_model, table="ticket")
    assert [row["departure"] for row in alone] == [len(kept_set(masks[n]) ^ kept_set(base)) for n in masks]
    # The masks that were kept serve as tickets, and the base model that the tickets name is the default.
    (kept,) = keep.iterdir()
    assert Ticket.load(kept).kept == len(kept_set(base))
    assert rows_of(capsys, *paths, str(kept), *args, "--inherited") == rows
    text = overlap(capsys, *paths, *args, "--inherited")
    within = [r for r in rows[:6] if r["relation"] == "same language, different seeds"]
    middle = {column: np.mean([r[column] for r in within]) for column in ("departure_overlap", "null")}
    values = f"{middle['departure_overlap']:.4f} (null {middle['null']:.4f})"
    assert f"same language, different seeds, {values}" in text
    means = [row for row in rows_of(capsys, *paths, *args, "--inherited", table="mean") if "kind" not in row]
    assert means[0]["departure_overlap"] == pytest.approx(np.mean([r["departure_overlap"] for r in rows[:6]]))
    indices = rows_of(capsys, *paths, *args, "--inherited", table="index")
    assert indices[0]["measure"] == "departure_corrected"
    assert f"neutrality index of departures above their null {indices[0]['index']:.4f}; no interval" in text


def test_independent_departures_lie_around_the_null(
    theta_0: Theta0, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = inherited(theta_0)
    masks = {f"fr{i}": noisy(base, 0.1, i) for i in range(6)}
    rows = rows_of(capsys, *saved(tmp_path, masks, **found_in(theta_0)), "--inherited")
    assert np.mean([row["departed_both"] / row["expected_both"] for row in rows]) == pytest.approx(1, abs=0.1)
    args = ["--inherited", "--null", "raked", "--neutrality"]
    fitted = rows_of(capsys, *saved(tmp_path, masks, **found_in(theta_0)), *args)
    assert fitted[0]["departed_both"] == rows[0]["departed_both"]
    assert np.mean([row["expected_both"] for row in fitted]) == pytest.approx(
        np.mean([row["expected_both"] for row in rows]), rel=0.3
    )
    assert fitted[0]["expected_both"] != rows[0]["expected_both"]


def test_combined_tickets_without_an_inherited_mask_are_left_aside(
    theta_0: Theta0, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = inherited(theta_0)
    made = [
        ticket(noisy(base, 0.1, i), scope=scope, **found_in(theta_0)) for i, scope in enumerate(("global", "layer"))
    ]
    paths = [str(t.save(tmp_path / str(i))) for i, t in enumerate([*made, combine(made, "intersection")])]
    text = overlap(capsys, *paths, "--inherited")
    (line,) = [line for line in text.splitlines() if line.startswith("No inherited mask")]
    assert line.endswith(f" {Ticket.load(paths[2]).label}.")
    rows = rows_of(capsys, *paths, "--inherited")
    assert [row["departure_overlap"] for row in rows] == [None] * 3  # scopes differ
    assert len(rows_of(capsys, *paths, "--inherited", table="ticket")) == 2


def test_a_foreign_or_missing_base_model_is_refused(theta_0: Theta0, tmp_path: Path) -> None:
    foreign = saved(tmp_path, {"fr0": random_masks(0.5, 0), "ur0": random_masks(0.5, 1)})
    with pytest.raises(UserError, match=r"was found in tiny-bert .*, but the base model here is"):
        run("overlap", [*foreign, "--inherited", theta_0.base_model])
    lost = saved(tmp_path, {"fr0": inherited(theta_0)}, **(found_in(theta_0) | {"base_model": "./lost"}))
    with pytest.raises(UserError, match=r"'\./lost' .* --inherited BASE_MODEL\.$"):
        run("overlap", [*lost, "--inherited"])


def test_overlap_inherited_and_departures_are_over_the_same_weights(
    theta_0: Theta0, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = {"pooler.dense.weight": np.random.default_rng(1).random((9, 5)) < 0.5}  # of which nothing is inherited
    assert not extra.keys() & theta_0.keys()
    base = inherited(theta_0)
    masks = {name: noisy(base, 0.05, i) for i, name in enumerate(("fr0", "ur0"))}
    (tmp_path / "with").mkdir()
    more = saved(tmp_path / "with", {name: m | extra for name, m in masks.items()}, **found_in(theta_0))
    (row,) = rows_of(capsys, *more, "--inherited", "--summary")
    assert row["overlap"] == jaccard(*(kept_set(m) for m in masks.values()))
    assert row["weights"] == sum(w.size for w in theta_0.values())
    (alone, _) = rows_of(capsys, *more, "--inherited", table="ticket")
    assert (alone["overlap"], alone["weights"]) == (row["inherited_a"], row["weights"])
    assert row["left_out"] == "pooler.dense.weight"
    assert "theta_0 alone makes" in overlap(capsys, *more, "--inherited")
