"""A metric of which less is better, from the records to the page, worked out a second time in plain Python."""

import json
import math
import random
from pathlib import Path
from statistics import mean, stdev

import pytest

from lnsub.report import Made, Options, report
from lnsub.runs.records import append
from tests.support.report_page import chart, data, rows, section, summary, words
from tests.support.report_tree import append_measured, imp_ticket, record

LANGUAGES = ("ar", "fr", "ru", "zh")
SEEDS = (57, 58, 59)
LEVELS = (0.2, 0.5, 0.8)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Perplexities drawn at random: rounds over three seeds, and cells in which others' tickets are better or worse."""
    root, rng = tmp_path_factory.mktemp("mlm"), random.Random(3)
    rows = []
    for source in LANGUAGES:
        for seed in SEEDS:
            for number, sparsity in enumerate((0.0, *LEVELS)):
                facts = {"round": number, "sparsity": sparsity, "seed": seed, "ticket": f"{source}{seed}{sparsity}"}
                value = 8 + 3 * sparsity**2 + rng.gauss(0, 0.4)
                rows.append(record("imp", "mlm", source, source, value, **facts))
                rows.append(record("imp", "mlm", source, source, 1 / value, **facts, metric="accuracy"))
        mask = imp_ticket("mlm", source, 57, 0.5)
        mask.save(root / "tickets" / f"{source}.safetensors")
        rows += [
            record("transfer", "mlm", source, target, 9 + rng.gauss(0, 1), ticket=mask.checksum) for target in LANGUAGES
        ]
    for number, row in enumerate(rows):
        append_measured(root / str(number) / "results.jsonl", [row])
    return root


@pytest.fixture(scope="module")
def made(root: Path) -> Made:
    return report(root, root / "page" / "r.html", Options(sparsities=(0.5,)))


@pytest.fixture(scope="module")
def perplexities(root: Path) -> list[dict]:
    """The perplexities, read from the files themselves."""
    lines = [line for path in root.rglob("results.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
    rows = map(json.loads, lines)
    return [row for row in rows if row["metric"] == "perplexity"]


@pytest.fixture(scope="module")
def cells(perplexities: list[dict]) -> dict[tuple[str, str], float]:
    return {(r["source"], r["target"]): r["value"] for r in perplexities if r["kind"] == "transfer"}


@pytest.mark.parametrize("tolerance", [None, 0.03])
def test_a_ticket_matches_when_its_perplexity_is_hardly_higher(
    root: Path, perplexities: list[dict], tolerance: float | None, tmp_path: Path
) -> None:
    rounds = [r for r in perplexities if r["kind"] == "imp"]
    made, expected = report(root, tmp_path / "r.html", Options((0.5,), tolerance)), {}
    for language in LANGUAGES:

        def over_seeds(sparsity: float, language: str = language) -> list[float]:
            return [r["value"] for r in rounds if (r["target"], r["sparsity"]) == (language, sparsity)]

        dense = over_seeds(0.0)
        allowed = stdev(dense) if tolerance is None else tolerance * mean(dense)
        matching = [s for s in LEVELS if mean(over_seeds(s)) <= mean(dense) + allowed]
        expected[language] = max(matching, default=None)
    rows = data(made, "metric_by_sparsity")
    assert {r["higher_is_better"] for r in rows} == {"False"}
    found = {r["language"]: float(r["sparsity"]) for r in rows if r["best"] == "True"}
    assert found == {language: level for language, level in expected.items() if level}
    assert len(set(expected.values())) > 1
    assert "perplexity (lower is better)" in words(section(made, "metric_by_sparsity"))


def test_a_positive_relative_drop_is_a_loss(made: Made, cells: dict[tuple[str, str], float]) -> None:
    drops = {
        s: sum((cells[s, t] - cells[t, t]) / cells[t, t] for t in LANGUAGES if t != s) / (len(LANGUAGES) - 1)
        for s in LANGUAGES
    }
    assert min(drops.values()) < 0 < max(drops.values())
    rows = data(made, "relative_drop")
    assert {r["source"]: float(r["drop"]) for r in rows} == pytest.approx(drops)
    assert {r["higher_is_better"] for r in rows} == {"False"}
    best, worst = min(drops, key=drops.get), max(drops, key=drops.get)
    average = f"{100 * mean(drops.values()):.1f}".replace("-", "\u2212")
    assert f"MLM {average} % (best {best}, worst {worst}) at 50 %" in summary(made)


def test_changes_are_counted_and_coloured_by_what_is_better(made: Made, cells: dict[tuple[str, str], float]) -> None:
    changes = {(s, t): value - cells[t, t] for (s, t), value in cells.items() if s != t}
    worse = sum(change > 0.05 * cells[t, t] for (_, t), change in changes.items())
    shown = f"{mean(changes.values()):.2f}".replace("-", "\u2212")
    assert f"MLM {shown} of perplexity ({12 - worse} of 12 successful) at 50 %" in summary(made)
    absolute, signed = section(made, "transfer").iter("figure")
    low, high, reach = min(cells.values()), max(cells.values()), max(map(abs, changes.values()))
    for figure, values, scale in (
        (absolute, cells, {"domain": [low, high]}),
        (signed, changes, {"domain": [-reach, reach], "range": "diverging"}),
    ):
        drawn = {(row["row"], row["column"]): row["value"] for row in rows(made, figure) if row["value"] is not None}
        assert drawn == pytest.approx(values)
        colours = chart(made, figure)["layer"][0]["encoding"]["color"]["scale"]
        # Low is better, and so takes the ramp's high end.
        assert colours.pop("reverse") is True
        assert colours.pop("domain") == pytest.approx(scale.pop("domain"))
        assert colours == scale


@pytest.mark.parametrize(("slope", "said"), [(-20, "1 show"), (20, "0 show")])
def test_overlap_goes_with_better_transfer_where_it_lowers_the_perplexity(
    slope: float, said: str, tmp_path: Path
) -> None:
    languages = (*LANGUAGES, "ur")  # a test takes five
    masks = {code: imp_ticket("mlm", code, 57, 0.5) for code in languages}
    for code, mask in masks.items():
        mask.save(tmp_path / f"{code}.safetensors")
    rows = data(report(tmp_path, tmp_path / "r.html"), "overlap")
    shares = {frozenset((r["language_a"], r["language_b"])): float(r["overlap"]) for r in rows}
    values = {(s, t): 30 + slope * shares.get(frozenset((s, t)), 1.0) for s in languages for t in languages}
    own = {pair: 9.0 for pair in values if pair[0] == pair[1]}
    append(
        tmp_path / "results.jsonl",
        [record("transfer", "mlm", s, t, value, ticket=masks[s].checksum) for (s, t), value in (values | own).items()],
    )
    made = report(tmp_path, tmp_path / "r.html")
    (found,) = [r for r in data(made, "correlations") if (r["coefficient"], r["measure"]) == ("pearson", "overlap")]
    assert float(found["value"]) == pytest.approx(math.copysign(1, slope))
    assert found["higher_is_better"] == "False"
    assert f"{said} that more overlap goes with better transfer" in summary(made)
