from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.report import Made, Options, report
from lnsub.report.figure import Primary
from tests.support.controls_tree import LANGUAGES, RUNS, SPARSITIES, run_ticket, write_controls
from tests.support.report_page import chart, data, panels, section, summary, words
from tests.support.report_tree import inherited_ticket
from tests.support.ticket_factory import kept_set

# Without theta_0 departures have no null.
PRIMARY = Primary("wikiann", 0.5, ("seed57", "seed57-sample1"), "departure_overlap")


@pytest.fixture(scope="module")
def controls(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = write_controls(tmp_path_factory.mktemp("controls") / "runs")
    return report(root, root.parent / "report.html", Options(primary=PRIMARY))


def table(sparsity: float) -> np.ndarray:
    """The overlap of departures of seed57 and seed57-sample1, by plain sets."""
    base = kept_set(bits(inherited_ticket(sparsity)))
    gone = {
        name: [kept_set(bits(run_ticket(language, *RUNS[name], sparsity))) ^ base for language in LANGUAGES]
        for name in PRIMARY.runs
    }
    first, second = (gone[name] for name in PRIMARY.runs)
    return np.array([[len(a & b) / len(a | b) for b in second] for a in first])


def bits(one: object) -> dict[str, np.ndarray]:
    return one.bits()  # type: ignore[attr-defined]


def test_the_primary_endpoint_comes_first_with_number_interval_and_p(controls: Made) -> None:
    assert controls.drawn[0] == "Primary endpoint"
    (row,) = data(controls, "primary")
    found = table(0.5)
    off = [found[i, j] for i, j in product(range(5), range(5)) if i != j]
    assert float(row["same_language"]) == pytest.approx(np.diag(found).mean())
    assert float(row["other_language"]) == pytest.approx(np.mean(off))
    sums = [sum(found[i, j] for i, j in enumerate(order)) for order in permutations(range(5))]
    p = np.mean(np.array(sums) >= sums[0] - 1e-12)
    assert float(row["p"]) == pytest.approx(p)
    said = summary(controls)
    assert f"difference {100 * float(row['difference']):.1f} points (95 % interval" in said
    assert f"p {p:.2g}; with 5 languages p is 0.0083 or more." in said
    assert said.index("Primary endpoint") < said.index("Overlap of tickets")
    assert "every other result on this page is secondary or exploratory" in words(section(controls, "primary"))


def test_controls_hold_every_class_of_pairs_and_every_two_sets_of_runs(controls: Made) -> None:
    rows = [r for r in data(controls, "controls") if r["measure"] == "departure_overlap" and r["sparsity"] == "0.5"]
    means = {(r["shared"], r["trained_on"]): float(r["mean"]) for r in rows}
    assert means["head + order + language", "given"] == pytest.approx(np.diag(table(0.5)).mean())
    given = [shared for shared, trained_on in means if trained_on == "given"]
    assert given == ["head + order + language", "rows + language", "language", "head + order", "nothing"]
    assert means["language", "given"] > means["nothing", "given"]
    contrasts = [r for r in data(controls, "contrasts") if r["measure"] == "departure_overlap"]
    assert len(contrasts) == 3 * len(SPARSITIES)
    title = "NER: pairs by what they share"
    drawn = panels(controls, "controls")
    assert list(drawn) == [title, f"{title}, labels shuffled in one", f"{title}, labels shuffled"]
    points = chart(controls, drawn[title])["data"]["values"]
    assert len(points) == 5 * len(SPARSITIES)
    assert all(point["low"] < point["value"] < point["high"] for point in points)


def test_other_figures_are_of_plain_runs_alone(controls: Made) -> None:
    assert {r["run_a"] for r in data(controls, "overlap")} == {"seed57", "seed58"}
    assert {r["relation"] for r in data(controls, "overlap")} >= {"same language, different seeds"}
    assert {r["runs"] for r in data(controls, "neutrality")} == {"10"}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (Primary("mlm", 0.5, PRIMARY.runs), "no two tickets of mlm"),
        (Primary("wikiann", 0.4, PRIMARY.runs), "no two tickets of wikiann at 40"),
        (Primary("wikiann", 0.5, ("seed57", "seed59"), "overlap"), "in both seed57 and seed59"),
        (Primary("wikiann", 0.5, PRIMARY.runs), "no departure_corrected of tickets"),
    ],
)
def test_an_endpoint_without_data_is_missed_at_the_top(
    controls: Made, asked: Primary, reason: str, tmp_path: Path
) -> None:
    made = report(controls.page.parent / "runs", tmp_path / "page.html", Options(primary=asked))
    assert "Primary endpoint" in made.left_out
    assert reason in summary(made)


@pytest.mark.parametrize(
    "asked", ["wikiann", "wikiann,x,a,b", "wikiann,0.5,a,a", "wikiann,1.5,a,b", "t,0.5,a,b,f1", ""]
)
def test_an_endpoint_that_says_too_little_is_refused(asked: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--primary"):
        run("report", [str(tmp_path), "--primary", asked])


def test_the_command_names_the_endpoint(controls: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "wikiann,0.5,seed57,seed57-sample1,departure_overlap"
    page = tmp_path / "page.html"
    assert run("report", [str(controls.page.parent / "runs"), "--output", str(page), "--primary", asked]) == 0
    assert (tmp_path / "page.primary.csv").read_text() == (controls.page.parent / "report.primary.csv").read_text()
