import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.models.inherited import Theta0
from lnsub.tickets.combining import combine
from lnsub.tickets.parameters import kind_of, layer_of
from lnsub.tickets.ticket import Ticket
from tests.support.models import save_checkpoint
from tests.support.ticket_factory import SHAPES, kept_set, random_masks, ticket

Masks = dict[str, np.ndarray]


def jaccard(a: set, b: set) -> float:
    return len(a & b) / len(a | b)


def saved(folder: Path, masks: dict[str, Masks], **changes: Any) -> list[str]:
    """Tickets by name, which is the language and a digit for the seed: ``fr0``."""
    return [
        str(ticket(m, language=name[:2], seed=int(name[2:]), **changes).save(folder / f"{name}.safetensors"))
        for name, m in masks.items()
    ]


def overlap(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert run("overlap", list(args)) == 0
    return capsys.readouterr().out


def rows_of(capsys: pytest.CaptureFixture[str], *args: str, table: str = "pair") -> list[dict[str, Any]]:
    return [row for row in json.loads(overlap(capsys, *args, "--format", "json")) if row["table"] == table]


def noisy(masks: Masks, share: float, number: int) -> Masks:
    flips = random_masks(share, number, {name: mask.shape for name, mask in masks.items()})
    return {name: mask ^ flips[name] for name, mask in masks.items()}


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


# Pairs ----------------------------------------------------------------------------------------------------------------


def test_pairs_overall_and_by_group_equal_plain_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = {name: random_masks(0.4, i) for i, name in enumerate(("fr0", "ur0", "zh1"))}
    paths = saved(tmp_path, masks)
    keys = {"layer": layer_of, "kind": kind_of, "matrix": str}
    rows = rows_of(capsys, *paths, "--by", "layer", "--by", "kind", "--by", "layer,matrix")
    assert len(rows) == 3 * (1 + 4 + 4 + 6)
    for row in rows:
        names = {n for n in SHAPES if all(row[column] == of(n) for column, of in keys.items() if column in row)}
        a, b = (kept_set(masks[f"{row[f'language_{side}']}{row[f'seed_{side}']}"], names) for side in "ab")
        weights = sum(int(np.prod(SHAPES[n])) for n in names)
        chance = 1 / (weights / len(a) + weights / len(b) - 1)
        assert row["overlap"] == jaccard(a, b)
        assert row["chance"] == pytest.approx(chance)
        assert row["corrected"] == pytest.approx((jaccard(a, b) - chance) / (1 - chance))
        assert (row["weights"], row["matrices"]) == (weights, len(names))
    assert [row["relation"] for row in rows[:2]] == ["cross-language, same seed", "cross-language, different seeds"]


def test_csv_says_what_json_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = {name: random_masks(0.4, i) for i, name in enumerate(("fr0", "fr1", "ur0"))}
    args = [*saved(tmp_path, masks), "--by", "layer", "--summary", "--neutrality"]
    records = json.loads(overlap(capsys, *args, "--format", "json"))
    assert {row["table"] for row in records} == {"pair", "mean", "index"}
    lines = list(csv.DictReader(io.StringIO(overlap(capsys, *args, "--format", "csv"))))
    assert len(lines) == len(records)
    for line, record in zip(lines, records, strict=True):
        assert {key: value for key, value in line.items() if value} == {
            key: str(value) for key, value in record.items() if value not in (None, "")
        }


def test_the_table_is_readable_and_says_what_it_is_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = {"fr0": random_masks(0.5, 0), "ur0": random_masks(0.5, 1)}
    text = overlap(capsys, *saved(tmp_path, masks), "--by", "layer")
    lines = text.splitlines()
    assert lines[0] == "overlap of pairs (xnli, seed0, s0.50)"
    assert lines[1].split() == ["a", "b", "overlap", "chance", "corrected", "density", "a", "density", "b"]
    value = jaccard(kept_set(masks["fr0"]), kept_set(masks["ur0"]))
    assert lines[3].split()[:3] == ["fr", "ur", f"{value:.4f}"]
    assert "Compared over 343 weights in 6 matrices." in lines
    assert [line.split()[2] for line in lines if line.startswith("  fr")][1:] == ["0", "1", "10", "pooler"]


def test_a_parameter_that_one_ticket_lacks_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tagger = {name: mask for name, mask in random_masks(0.5, 1).items() if not name.startswith("pooler")}
    text = overlap(capsys, *saved(tmp_path, {"fr0": random_masks(0.5, 0), "ur0": tagger}))
    assert "Compared over 307 weights in 5 matrices; left out where only one of two tickets has it: pooler." in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_keep_to_the_terminal(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = {name: random_masks(0.5, i) for i, name in enumerate(("fr0", "fr1", "ur0", "ur1"))}
    args = [*saved(tmp_path, masks), "--by", "kind", "--summary", "--neutrality"]
    monkeypatch.setenv("COLUMNS", str(width))
    text = overlap(capsys, *args)
    assert max(map(len, text.splitlines())) <= width
    left_out = [line for line in text.splitlines() if line.startswith(f"Left out to fit {width} characters: ")]
    assert bool(left_out) == (width < 200)
    assert ("density a" in text.replace("\n", " ").partition("Compared over")[0].split("Left out")[0]) == (width > 60)
    # A file is not a terminal.
    overlap(capsys, *args, "--output", str(tmp_path / "t.txt"))
    assert "Left out" not in (tmp_path / "t.txt").read_text()


def test_output_goes_to_a_file_in_a_new_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = saved(tmp_path, {"fr0": random_masks(0.5, 0), "ur0": random_masks(0.5, 1)})
    shown = overlap(capsys, *paths, "--format", "csv")
    assert overlap(capsys, *paths, "--format", "csv", "--output", str(tmp_path / "new" / "o.csv")) == ""
    assert (tmp_path / "new" / "o.csv").read_text() == shown


def test_plain_overlap_needs_no_torch(tmp_path: Path, root: Path) -> None:
    masks = {name: random_masks(0.5, i) for i, name in enumerate(("fr0", "fr1", "ur0"))}
    paths = saved(tmp_path, masks)
    heavy = ["torch", "lightning", "transformers", "datasets", "pandas", "matplotlib", "scipy"]
    script = (
        "import sys; from lnsub.cli.main import main\n"
        "assert main(['overlap', *sys.argv[1:], '--by', 'layer', '--summary', '--neutrality']) == 0\n"
        f"print('loaded:', [name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, *paths], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_mistakes_are_said_in_one_sentence(tmp_path: Path) -> None:
    path, other = saved(tmp_path, {"fr0": random_masks(0.5, 0), "ur0": random_masks(0.5, 1)})
    for args, sentence in (
        ([path], r"^an overlap is of two tickets or more"),
        (
            [path, "nowhere", "--by", "layr"],
            r"^overlap cannot be taken by 'layr': choose from layer, kind, matrix, stack",
        ),
        (
            [path, "--inherited", other],
            rf"^--inherited takes a base model, and {other} is a file: put --inherited after",
        ),
        ([path, other, "--inherited-output", "x"], r"^--inherited-output keeps the masks that --inherited makes"),
        ([path, other, "--inherited", "./nowhere"], r"^There is no folder './nowhere'"),
        ([path, other, "--format", "xml"], r"invalid choice: 'xml'"),
    ):
        with pytest.raises(UserError, match=sentence):
            run("overlap", args)


# Means and neutrality -------------------------------------------------------------------------------------------------


def test_means_are_per_task_and_sparsity_and_relation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = {name: random_masks(0.5, i) for i, name in enumerate(("fr0", "fr1", "ur0", "ur1"))}
    paths = saved(tmp_path, masks) + saved(tmp_path / "sparser", {n: random_masks(0.2, 9) for n in ("fr0", "ur0")})
    rows = rows_of(capsys, *paths, "--summary", table="mean")
    sets = {name: kept_set(m) for name, m in masks.items()}
    (every,) = [row for row in rows if row["relation"] == "all"]  # the sparser tickets ask for the same sparsity
    assert every["pairs"] == 15
    within = [row for row in rows if row["relation"] == "same language, different seeds"]
    # fr0 and fr1, ur0 and ur1, and each seed 1 with the sparser ticket of its language.
    assert (len(within), within[0]["pairs"]) == (1, 4)
    paths = paths[:4]
    (row,) = [
        row
        for row in rows_of(capsys, *paths, "--summary", table="mean")
        if row["relation"] == "cross-language, different seeds"
    ]
    values = [jaccard(sets["fr0"], sets["ur1"]), jaccard(sets["fr1"], sets["ur0"])]
    assert (row["pairs"], row["overlap"]) == (2, pytest.approx(np.mean(values)))
    assert "means over pairs" in overlap(capsys, *paths, "--summary")
    assert "means over pairs" not in overlap(capsys, *paths)


def runs(languages: Sequence[str], seeds: int, flips: float = 0.1) -> dict[str, Masks]:
    """Runs that share a core, and within a language half of the rest."""
    core = random_masks(0.5, 99, {"encoder.layer.0.attention.self.query.weight": (60, 50)})
    of = {language: noisy(core, flips, 50 + i) for i, language in enumerate(languages)}
    return {f"{lang}{s}": noisy(of[lang], flips, i * 10 + s) for i, lang in enumerate(languages) for s in range(seeds)}


def test_the_neutrality_index_is_said_with_what_it_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = runs(("fr", "ur", "zh", "ru", "sw"), 3)
    text = overlap(capsys, *saved(tmp_path, masks), "--neutrality", "--seed", "3")
    sets = {name: kept_set(m) for name, m in masks.items()}
    pairs = [(a, b) for a, b in combinations(sets, 2) if a[2:] != b[2:]]
    cross = np.mean([jaccard(sets[a], sets[b]) for a, b in pairs if a[:2] != b[:2]])
    ceiling = np.mean([jaccard(sets[a], sets[b]) for a, b in pairs if a[:2] == b[:2]])
    same_seed = np.mean([jaccard(sets[a], sets[b]) for a, b in combinations(sets, 2) if a[2:] == b[2:]])
    assert f"tickets of different languages overlap {cross:.4f}, those of one language {ceiling:.4f}" in text
    assert f"so the neutrality index is {cross / ceiling:.4f}, 95 % interval 0." in text
    assert "(5 languages, 3 seeds). It lies below 1: another language changes a ticket more than another seed" in text
    assert f"across languages these overlap {same_seed:.4f}, which is not held against the ceiling" in text
    assert text == overlap(capsys, *saved(tmp_path, masks), "--neutrality", "--seed", "3")
    assert text != overlap(capsys, *saved(tmp_path, masks), "--neutrality", "--seed", "4")


def test_an_interval_that_holds_one_is_not_called_a_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    core = runs(("fr",), 1, 0)["fr0"]
    masks = {
        f"{lang}{seed}": noisy(core, 0.1, i * 5 + seed) for i, lang in enumerate(("fr", "ur", "zh")) for seed in (0, 1)
    }
    text = overlap(capsys, *saved(tmp_path, masks), "--neutrality")
    assert "The interval holds 1: these runs do not show that another language changes a ticket more" in text
    assert "With two seeds the interval varies the languages alone and is too narrow: add a third." in text


def test_where_seeds_do_not_suffice_it_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fr0, ur0, ur1 = saved(tmp_path, {name: random_masks(0.5, i) for i, name in enumerate(("fr0", "ur0", "ur1"))})
    name = r"xnli at sparsity 0\.50 \(magnitude, global\): "
    for paths, sentence in (
        (
            [fr0, ur0],
            name + "no neutrality index, which takes two seeds .*; here are 2 languages and 1 seed. Find tickets",
        ),
        ([fr0, ur1], name + "no neutrality index, .*; here are 2 languages and 2 seeds, never two of one language"),
        ([ur0, ur1], name + "no neutrality index, which takes two languages .*; here are 1 language and 2 seeds. Add"),
        (
            [fr0, ur0, ur1],
            name + r".* It has no interval, which takes three languages or three seeds, so it may well be",
        ),
    ):
        assert re.search(sentence, overlap(capsys, *paths, "--neutrality"))
    other = str(ticket(random_masks(0.5, 7), task="mlm").save(tmp_path / "mlm"))
    assert "No neutrality index: it takes tickets of one task" in overlap(capsys, fr0, other, "--neutrality")
    assert run("overlap", [fr0, ur0, "--neutrality", "--format", "csv"]) == 0
    assert "no neutrality index" in capsys.readouterr().err


# What is inherited ----------------------------------------------------------------------------------------------------


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
    assert "How much of two departures is shared by chance depends on theta_0, which was not read here" in text
    assert f"cross-language, same seed (1 pair): departures overlap {row['departure_overlap']:.4f}." in text
    # One ticket alone is held against its inherited mask; inherited masks alone are tickets like others.
    assert f"fr        {jaccard(sets['fr0'], inside):.4f}" in overlap(capsys, paths[0], ready)
    assert len(rows_of(capsys, ready, ready)) == 1


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
    masks = {name: noisy(shared, 0.01, i) for i, name in enumerate(("fr0", "fr1", "ur0"))}
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
        assert row["null_low"] <= row["null"] <= row["null_high"] < row["departure_overlap"]
    alone = rows_of(capsys, *paths, "--inherited", theta_0.base_model, table="ticket")
    assert [row["departure"] for row in alone] == [len(kept_set(masks[n]) ^ kept_set(base)) for n in masks]
    # The masks that were kept serve as tickets, and the base model that the tickets name is the default.
    (kept,) = keep.iterdir()
    assert Ticket.load(kept).kept == len(kept_set(base))
    assert rows_of(capsys, *paths, str(kept), *args, "--inherited") == rows
    text = overlap(capsys, *paths, *args, "--inherited")
    assert "2 of 2 above the 95 % interval of that" not in text
    assert re.search(r"same language, different seeds \(1 pair\): departures overlap 0\.\d{4}, where departures", text)
    assert "1 of 1 above the 95 % interval of that." in text
    means = [row for row in rows_of(capsys, *paths, *args, "--inherited", table="mean") if "kind" not in row]
    assert means[0]["departure_overlap"] == pytest.approx(np.mean([r["departure_overlap"] for r in rows[:3]]))
    indices = rows_of(capsys, *paths, *args, "--inherited", table="index")
    assert {row["measure"] for row in indices} >= {"departure_overlap", "departure_corrected"}
    assert "Of the departures alone, which theta_0 does not give:" in text


def test_independent_departures_lie_within_their_interval(
    theta_0: Theta0, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = inherited(theta_0)
    masks = {f"fr{i}": noisy(base, 0.1, i) for i in range(6)}
    rows = rows_of(capsys, *saved(tmp_path, masks, **found_in(theta_0)), "--inherited")
    inside = [row["null_low"] <= row["departure_overlap"] <= row["null_high"] for row in rows]
    assert np.mean(inside) > 0.8


def test_combined_tickets_without_an_inherited_mask_are_left_aside(
    theta_0: Theta0, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = inherited(theta_0)
    made = [
        ticket(noisy(base, 0.1, i), scope=scope, **found_in(theta_0)) for i, scope in enumerate(("global", "layer"))
    ]
    paths = [str(t.save(tmp_path / str(i))) for i, t in enumerate([*made, combine(made, "intersection")])]
    text = overlap(capsys, *paths, "--inherited")
    assert (
        f"No inherited mask for tickets of several scopes, or that keep nothing: {Ticket.load(paths[2]).label}." in text
    )
    rows = rows_of(capsys, *paths, "--inherited")
    assert [row["departure_overlap"] for row in rows] == [None] * 3  # scopes differ
    assert len(rows_of(capsys, *paths, "--inherited", table="ticket")) == 2


def test_a_foreign_or_missing_base_model_is_refused(theta_0: Theta0, tmp_path: Path) -> None:
    foreign = saved(tmp_path, {"fr0": random_masks(0.5, 0), "ur0": random_masks(0.5, 1)})
    with pytest.raises(UserError, match=r"was found in tiny-bert .*, but the base model here is"):
        run("overlap", [*foreign, "--inherited", theta_0.base_model])
    lost = saved(tmp_path, {"fr0": inherited(theta_0)}, **(found_in(theta_0) | {"base_model": "./lost"}))
    with pytest.raises(UserError, match=r"no folder './lost' .* say where it is here with --inherited BASE_MODEL\.$"):
        run("overlap", [*lost, "--inherited"])
