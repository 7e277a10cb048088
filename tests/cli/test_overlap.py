import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from lnsub.analysis.overlap.text import NO_CLUSTERS, NO_INDEX
from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.tickets.parameters import kind_of, layer_of
from tests.support.overlap_command import Masks, jaccard, noisy, overlap, rows_of, saved
from tests.support.ticket_factory import SHAPES, kept_set, random_masks, ticket


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
    masks = {name: random_masks(0.4, i) for i, name in enumerate(("fr0", "fr1", "ur0", "ur1"))}
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
    assert any("343 weights in 6 matrices" in line for line in lines)
    assert [line.split()[2] for line in lines if line.startswith("  fr")][1:] == ["0", "1", "10", "pooler"]


def test_a_parameter_that_one_ticket_lacks_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tagger = {name: mask for name, mask in random_masks(0.5, 1).items() if not name.startswith("pooler")}
    paths = saved(tmp_path, {"fr0": random_masks(0.5, 0), "ur0": tagger, "zh0": random_masks(0.5, 2)})
    (line,) = [line for line in overlap(capsys, *paths[:2]).splitlines() if "307 weights in 5 matrices" in line]
    assert "pooler.dense.weight" in line
    # The same weights in every pair, also of two that have it both.
    assert {row["weights"] for row in rows_of(capsys, *paths)} == {307}
    assert {row["left_out"] for row in rows_of(capsys, *paths)} == {"pooler.dense.weight"}


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
    masks = {name: random_masks(0.5, i) for i, name in enumerate(("fr0", "fr1", "ur0", "ur1"))}
    paths = saved(tmp_path, masks)
    heavy = ["torch", "lightning", "transformers", "datasets", "pandas", "altair", "scipy"]
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
        ([path], "at least two"),
        ([path, "nowhere", "--by", "layr"], "'layr'.* layer, kind, matrix, stack"),
        ([path, "--inherited", other], f"^--inherited .*{other}"),
        ([path, other, "--inherited-output", "x"], "^--inherited-output .* --inherited"),
        ([path, other, "--inherited", "./nowhere"], r"'\./nowhere'"),
        ([path, other, "--format", "xml"], "'xml'"),
        ([path, other, "--null", "raked"], "^--null .* add --inherited"),
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


def test_the_neutrality_index_is_shown_with_what_it_is_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = runs(("fr", "ur", "zh", "ru", "sw"), 3)
    text = overlap(capsys, *saved(tmp_path, masks), "--neutrality")
    sets = {name: kept_set(m) for name, m in masks.items()}
    pairs = [(a, b) for a, b in combinations(sets, 2) if a[2:] != b[2:]]
    cross = np.mean([jaccard(sets[a], sets[b]) for a, b in pairs if a[:2] != b[:2]])
    ceiling = np.mean([jaccard(sets[a], sets[b]) for a, b in pairs if a[:2] == b[:2]])
    same_seed = np.mean([jaccard(sets[a], sets[b]) for a, b in combinations(sets, 2) if a[2:] == b[2:]])
    table = text.partition("neutrality index")[2].splitlines()
    (row,) = [line.split() for line in table if line.split()[:1] == ["overlap"]]
    shown = [row[1], *row[3:6]]
    assert shown == [f"{value:.4f}" for value in (cross / ceiling, cross, ceiling, same_seed)]
    assert row[6:] == ["5", "15"]
    assert f"{cross / ceiling:.4f}; languages differ more" in text


def test_an_interval_that_holds_one_is_not_called_a_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    core = runs(("fr",), 1, 0)["fr0"]
    masks = {
        f"{lang}{seed}": noisy(core, 0.1, i * 5 + seed)
        for i, lang in enumerate(("fr", "ur", "zh"))
        for seed in range(3)
    }
    text = overlap(capsys, *saved(tmp_path, masks), "--neutrality")
    assert "interval holds 1" in text
    assert "differ more" not in text


def test_where_languages_or_seeds_do_not_suffice_there_is_no_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("fr0", "fr1", "ur0", "ur1")
    fr0, fr1, ur0, ur1 = saved(tmp_path, {name: random_masks(0.5, i) for i, name in enumerate(names)})
    other = str(ticket(random_masks(0.5, 7), task="mlm").save(tmp_path / "mlm"))
    for paths in ([fr0, ur0], [ur0, ur1], [fr0, ur0, ur1], [fr0, other]):
        assert NO_INDEX in overlap(capsys, *paths, "--neutrality")
        assert run("overlap", [*paths, "--neutrality", "--format", "csv"]) == 0
        assert capsys.readouterr().err == f"{NO_INDEX}\n"
    text = overlap(capsys, fr0, fr1, ur0, ur1, "--neutrality")
    assert NO_INDEX not in text
    assert (
        "no interval, so it may well be noise (it takes 3 languages and 3 seeds, here 2 languages and 2 seeds)" in text
    )


def two_clusters(seeds: tuple[int, ...]) -> dict[str, Masks]:
    """Languages fr, de and en that are nearly one, and ur and hi that are nearly another."""
    core = {name: random_masks(0.5, number) for number, name in enumerate(("west", "east"))}
    group = {"fr": "west", "de": "west", "en": "west", "ur": "east", "hi": "east"}
    return {
        f"{code}{seed}": noisy(core[group[code]], 0.03, 10 * seed + place)
        for place, code in enumerate(group, start=2)
        for seed in seeds
    }


def test_clusters_of_languages_and_their_stability(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = saved(tmp_path, two_clusters((1, 2)))
    rows = rows_of(capsys, *paths, "--by", "layer", "--clusters", table="cluster")
    assert {frozenset(r["language"] for r in rows if r["cluster"] == k) for k in (1, 2)} == {
        frozenset({"fr", "de", "en"}),
        frozenset({"ur", "hi"}),
    }
    assert [r["place"] for r in rows] == [1, 2, 3, 4, 5]
    assert {(r["clusters"], r["seeds"], r["stability"], r["held"]) for r in rows} == {(2, 2, 1.0, 1.0)}
    text = overlap(capsys, *paths, "--clusters", "3")
    assert "clusters of languages by overlap" in text
    assert "mean adjusted Rand index is" in text
    one = overlap(capsys, *paths[::2], "--clusters")
    assert "their stability over seeds is unknown" in " ".join(one.split())


def test_too_few_languages_have_no_clusters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = saved(tmp_path, {"fr0": random_masks(0.5, 0), "ur0": random_masks(0.5, 1)})
    assert NO_CLUSTERS in overlap(capsys, *paths, "--clusters")
    assert run("overlap", [*paths, "--clusters", "--format", "csv"]) == 0
    assert NO_CLUSTERS in capsys.readouterr().err


@pytest.mark.parametrize("number", ["1", "-3", "two", "9" * 40, "5"])
def test_a_number_of_clusters_that_cannot_be_is_refused(number: str, tmp_path: Path) -> None:
    paths = saved(tmp_path, two_clusters((1,)))
    with pytest.raises(UserError, match="clusters"):
        run("overlap", [*paths, f"--clusters={number}"])


def test_tickets_after_the_option_are_not_taken_for_a_number(tmp_path: Path) -> None:
    paths = saved(tmp_path, two_clusters((1,)))
    with pytest.raises(UserError, match="put --clusters after the tickets"):
        run("overlap", ["--clusters", *paths])
