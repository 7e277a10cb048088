"""What a report says, read off its page and its CSV files."""

import csv
import xml.etree.ElementTree as ET

from lnsub.report import Made


def document(made: Made) -> ET.Element:
    """The page as a tree; that it parses as XML says that all its elements are closed."""
    return ET.fromstring(made.page.read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>\n"))


def words(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def section(made: Made, name: str) -> ET.Element:
    return next(e for e in document(made).iter("section") if e.get("id") == name)


def summary(made: Made) -> str:
    return words(next(e for e in document(made).iter() if e.get("id") == "summary"))


def data(made: Made, name: str) -> list[dict[str, str]]:
    with made.page.with_name(f"{made.page.stem}.{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cells(panel: ET.Element) -> dict[tuple[str, str], str]:
    """The numbers of a heat map by row and column, as its tooltips and its texts say."""
    found = {}
    for group in panel.iter("g"):
        place, _, value = group.find("title").text.rpartition(": ")
        assert group.find("text").text == value
        found[tuple(place.split(" → "))] = value
    return found
