import random
import xml.etree.ElementTree as ET

import pytest
import vl_convert

from lnsub.charts.text import number, width_of


def test_numbers_are_written_as_vega_writes_them() -> None:
    rng = random.Random(1)
    values = [0.25, -0.25, 81.25, 0.05, -0.04, 0.0, 1234567.0, *(rng.uniform(-100, 100) for _ in range(30))]
    spec = {
        "data": {"values": [{"place": place, "value": value} for place, value in enumerate(values)]},
        "mark": "text",
        "encoding": {
            "y": {"field": "place", "type": "ordinal", "axis": None},
            "text": {"field": "value", "type": "quantitative", "format": ".1f"},
        },
    }
    drawn = ET.fromstring(vl_convert.vegalite_to_svg(spec))
    texts = [e.text for e in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert [number(value, 1) for value in values] == texts
    assert number(float("nan"), 2) == "nan"


@pytest.mark.parametrize(("text", "at_least"), [("iii", 9), ("mmm", 29), ("中文", 24), ("\u2068a\u2069", 6)])
def test_widths_are_estimated_on_the_wide_side(text: str, at_least: float) -> None:
    assert at_least <= width_of(text) <= 2 * at_least
