"""Charts: what a specification draws, read back from the SVG that vl-convert makes of it."""

import re
import xml.etree.ElementTree as ET

import altair as alt
import pytest
import vl_convert

from lnsub.charts.bars import Row, bar_groups, dot_rows
from lnsub.charts.colours import DARK_PALETTE, PALETTE, contrast, diverging, sequential
from lnsub.charts.drawing import DASH, Drawing
from lnsub.charts.heat import Shading, heat_map
from lnsub.charts.lines import Dot, Line, line_plot, point_cloud
from lnsub.charts.theme import WIDTH, theme

SVG = "{http://www.w3.org/2000/svg}"
LANGUAGES = ("ar", "fr", "ur", "zh")


def heat(**options: object) -> Drawing:
    values = {(s, t): 10.0 * place - 15 for place, (s, t) in enumerate((s, t) for s in "ab" for t in "abc" if s != t)}
    shading = Shading.of(list(values.values()), signed=True)
    facts = {"label": "heat", "unit": "points", "row_title": "source", "column_title": "target"}
    return heat_map(values, "ab", "abc", shading, **facts | options)


def lines() -> Drawing:
    of_ar = Line("ar", [(0, 60.0), (50, 55.0)], {50: (54.0, 57.0)}, frozenset([50]), 60.5)
    drawn = [of_ar, Line("zh", [(0, 50.0), (50, 52.25)]), Line("zh", [(0, 20.0), (50, 21.0)], plain="chance")]
    facts = {"x_label": "sparsity, %", "y_label": "F1, %", "ring": "best", "level": "dense"}
    return line_plot(drawn, label="lines", order=LANGUAGES, languages=True, **facts)


def bars() -> Drawing:
    groups = {"ar": {"50 %": -4.5, "80 %": -8.2}, "fr": {"50 %": 1.5}}
    return bar_groups(groups, label="bars", x_label="drop, %", order=["50 %", "80 %"], levels=True)


def dots() -> Drawing:
    rows = [Row("own ticket", [("ar", 60.0), ("zh", 50.0)]), Row("random mask", [("ar", 30.0)])]
    return dot_rows(rows, label="dots", x_label="F1, %", order=LANGUAGES)


def cloud() -> Drawing:
    points = [Dot("ar", "fr", 60.0, -5.0, "50 %"), Dot("fr", "ar", 62.0, 1.0, "80 %")]
    return point_cloud(points, label="cloud", x_label="overlap, %", y_label="change, %", order=["50 %", "80 %"])


DRAWINGS = {"heat": heat, "lines": lines, "bars": bars, "dots": dots, "cloud": cloud}


def svg(drawing: Drawing, page: str = "light", **signals: object) -> ET.Element:
    params = [p | {"value": signals.get(p["name"], p["value"])} for p in drawing.spec["params"]]
    return ET.fromstring(vl_convert.vegalite_to_svg(drawing.spec | {"params": params}, config=theme(page)))


def marks(drawn: ET.Element) -> list[ET.Element]:
    """The marks that stand for data, which are named for screen readers, as axes and legends are."""
    kinds = {"rect mark", "point", "bar", "tick"}
    return [e for e in drawn.iter() if e.get("aria-label") and e.get("aria-roledescription") in kinds]


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_specification_is_valid_and_drawn_alike_by_the_version_that_wandb_has(name: str) -> None:
    spec = DRAWINGS[name]().spec
    alt.Chart.from_dict(spec, validate=True) if "layer" not in spec else alt.LayerChart.from_dict(spec, validate=True)
    new, old = (vl_convert.vegalite_to_svg(spec, config=theme("light"), vl_version=v) for v in ("6.4", "5.20"))
    assert len(re.findall("<path", new)) == len(re.findall("<path", old)) > 3
    assert "NaN" not in new


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("page", ["light", "dark"])
def test_a_chart_is_as_wide_as_asked_and_names_no_colour_but_the_themes(name: str, page: str) -> None:
    drawn = svg(DRAWINGS[name](), page)
    assert abs(float(drawn.get("width")) - DRAWINGS[name]().spec["width"]) <= 2
    config = str(theme(page)).lower()
    used = {e.get(key) for e in drawn.iter() for key in ("fill", "stroke")} - {None, "none", "transparent"}
    ramps = {"rgb", "url"}  # between the ramp's colours
    named = {colour for colour in used if colour.startswith("#")} - {"#000000", "#ffffff", "#808080"}
    assert all(colour.lower() in config for colour in named)
    assert {colour.partition("(")[0] for colour in used if not colour.startswith("#")} <= ramps


@pytest.mark.parametrize("page", ["light", "dark"])
def test_a_heat_map_writes_its_numbers_in_ink_that_can_be_read_on_its_shades(page: str) -> None:
    drawn = svg(heat(), page)
    shades = {}
    for mark in marks(drawn):
        target, source, value = re.match(r"target: (\w); source: (\w); value: (.*?);", mark.get("aria-label")).groups()
        shades[source, target, value] = mark.get("fill")
    inks = {e.text: e.get("fill") for e in drawn.iter(f"{SVG}text")}
    expected = {("a", "b"): -15, ("a", "c"): -5, ("b", "a"): 5, ("b", "c"): 15}
    assert len(shades) == len(expected)
    for place, value in expected.items():
        written = f"{value:.1f}".replace("-", "\u2212")
        channels = [int(part) for part in re.findall(r"\d+", shades[*place, written])]
        reference = diverging(value / 15, page)
        assert channels == pytest.approx([int(reference[i : i + 2], 16) for i in (1, 3, 5)], abs=3)
        assert contrast("#" + "".join(f"{channel:02x}" for channel in channels), inks[written]) >= 4.5
    assert [e.text for e in drawn.iter(f"{SVG}text")].count("·") == 2


def test_a_falling_scale_is_turned_round() -> None:
    values = {("a", "a"): 1.0, ("a", "b"): 3.0}
    spec = heat_map(values, "a", "ab", Shading.of([1.0, 3.0], falling=True), label="", unit="perplexity").spec
    drawn = ET.fromstring(vl_convert.vegalite_to_svg(spec, config=theme("light")))
    low, high = (e.get("fill") for e in marks(drawn))
    darkest = [int(sequential(1.0, "light")[i : i + 2], 16) for i in (1, 3, 5)]
    assert list(map(int, re.findall(r"\d+", low))) == pytest.approx(darkest, abs=2)
    assert sum(map(int, re.findall(r"\d+", high))) > sum(darkest)


def test_lines_take_their_colours_and_markers_by_their_place_in_the_report() -> None:
    for page, palette in (("light", PALETTE), ("dark", DARK_PALETTE)):
        drawn = svg(lines(), page)
        points = [e for e in marks(drawn) if e.get("fill") in palette]
        assert [e.get("fill") for e in points] == [palette[0]] * 2 + [palette[3]] * 2
        assert len({e.get("d") for e in points}) == 2
    spec = lines().spec
    assert [row.get("low") for row in spec["data"]["values"]].count(54.0) == 1
    assert spec["data"]["values"][-1]["kind"] == "chance"
    assert lines().table.head == ("sparsity, %", "ar", "zh", "chance: zh")
    assert lines().table.body[1] == ("50", "55.0 (54.0 to 57.0) ○", "52.3", "21.0")
    assert lines().table.body[-1] == ("dense", "60.5", DASH, DASH)


def test_bars_and_dots_show_what_they_are_given() -> None:
    texts = [e.text for e in svg(bars()).iter(f"{SVG}text")]
    assert {"\u22124.5", "\u22128.2", "1.5"} <= set(texts)
    assert bars().table.body == (("ar", "\u22124.5", "\u22128.2"), ("fr", "1.5", DASH))
    labels = [e.get("aria-label") for e in marks(svg(dots()))]
    assert sum("55" in label for label in labels) == 1  # the mean of 60 and 50
    assert dots().table.body == (("own ticket", "60.0", "50.0", "55.0"), ("random mask", "30.0", DASH, "30.0"))
    assert cloud().table.body[0] == ("ar", "fr", "50 %", "60.0", "\u22125.0")


@pytest.mark.parametrize(
    ("drawing", "signals", "kept"),
    [
        (lines, {"picked": ["zh"]}, 2),
        (heat, {"picked": ["c"]}, 2),
        (dots, {"picked": ["zh"]}, 1),
        (cloud, {"picked": ["ar"]}, 2),
        (cloud, {"level": "80 %"}, 1),
        (bars, {"level": "80 %"}, 1),
        (bars, {"picked": ["fr"]}, 1),
    ],
)
def test_what_is_not_picked_out_is_faint(drawing: object, signals: dict, kept: int) -> None:
    faint = [e for e in marks(svg(drawing(), **signals)) if e.get("opacity") == "0.1"]
    clear = [e for e in marks(svg(drawing())) if e.get("opacity") == "0.1"]
    assert clear == []
    data = [row for row in drawing().spec["data"]["values"] if not row.get("kind") and row.get("value", 0) is not None]
    assert len(data) - len(faint) == kept


def test_names_are_left_out_where_there_is_no_room_and_cells_grow_to_hold_their_numbers() -> None:
    codes = [f"l{place}" for place in range(12)]
    values = {(s, t): -100.5 for s in codes for t in codes}
    names = dict.fromkeys(codes, "a language of a long name")
    wide = heat_map(values, codes, codes, Shading.of([-100.5]), label="", unit="", names=names).spec
    assert wide["width"] > WIDTH
    assert next(p["value"] for p in wide["params"] if p["name"] == "names") == {}
    sizes = re.findall(r'font-size="([\d.]+)px"', vl_convert.vegalite_to_svg(wide, config=theme("light")))
    assert min(map(float, sizes)) >= 10.9
