"""What a report says, read off its page and its CSV files."""

import csv
import json
import re
import xml.etree.ElementTree as ET
from fractions import Fraction

from lnsub.report import Made


def document(made: Made) -> ET.Element:
    """The page as a tree, without its scripts; that it parses as XML says that all its elements are closed."""
    text = made.page.read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>\n")
    return ET.fromstring(re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))


def chart(made: Made, panel: ET.Element) -> dict:
    """The specification of a panel's chart, as the page has it for its script."""
    text = made.page.read_text(encoding="utf-8")
    (whole,) = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', text, flags=re.DOTALL)
    return json.loads(whole)["specs"][panel.get("data-chart")]


def rows(made: Made, panel: ET.Element) -> list[dict]:
    """What a panel's chart draws."""
    return chart(made, panel)["data"]["values"]


def panels(made: Made, name: str) -> dict[str, ET.Element]:
    """The panels of a figure by their titles."""
    return {words(panel.find("figcaption")): panel for panel in section(made, name).iter("figure")}


def words(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def section(made: Made, name: str) -> ET.Element:
    return next(e for e in document(made).iter("section") if e.get("id") == name)


def summary(made: Made) -> str:
    return words(next(e for e in document(made).iter() if e.get("id") == "summary"))


def data(made: Made, name: str) -> list[dict[str, str]]:
    with made.page.with_name(f"{made.page.stem}.{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cells(made: Made, panel: ET.Element) -> dict[tuple[str, str], str]:
    """The numbers of a heat map by row and column, as written in its cells and in its table."""
    spec = chart(made, panel)
    decimals = int(re.fullmatch(r"\.(\d)f", spec["layer"][1]["encoding"]["text"]["condition"]["format"])[1])
    found = {
        (row["row"], row["column"]): to_fixed(row["value"], decimals)
        for row in spec["data"]["values"]
        if row["value"] is not None
    }
    title, figure = words(panel.find("figcaption")), section(made, panel.get("data-chart").rpartition("-")[0])
    (table,) = [t for t in figure.iter("table") if words(t[0]).startswith(title)]
    (head,), body = table.find("thead"), table.find("tbody")
    columns = spec["layer"][0]["encoding"]["x"]["sort"]
    assert len(head) == len(columns) + 1
    for name, line in zip(spec["layer"][0]["encoding"]["y"]["sort"], body, strict=True):
        shown = [words(cell) for cell in line][1:]
        assert shown == [found.get((name, column), "\u2013") for column in columns]
    return found


def to_fixed(value: float, decimals: int) -> str:
    """A number as a chart writes it: JavaScript's ``toFixed``, which takes the larger of two nearest."""
    scaled = abs(Fraction(value)) * 10**decimals
    whole = int(scaled + Fraction(1, 2))
    digits = str(whole).zfill(decimals + 1)
    return ("\u2212" if value < 0 and whole else "") + digits[: len(digits) - decimals] + "." + digits[-decimals:]
