"""Charts as files: a paper's column wide, with fonts in them, and languages by their codes."""

import re
import struct
import zlib

import pytest

from lnsub.charts.files import COLUMN, rendered
from lnsub.charts.heat import Shading, heat_map
from lnsub.report.languages import label

NAMES = {"ar": label("ar"), "zh": label("zh")}


@pytest.fixture(scope="module")
def drawing():
    values = {(s, t): 61.25 for s in NAMES for t in NAMES}
    return heat_map(values, [*NAMES], [*NAMES], Shading.of([61.25]), label="a map", unit="F1, %", names=NAMES)


@pytest.fixture(scope="module")
def wide():
    codes = [f"l{place}" for place in range(12)]
    return heat_map({(s, t): -61.2 for s in codes for t in codes}, codes, codes, Shading.of([1.0]), label="", unit="")


def test_a_pdf_is_a_column_wide_and_has_its_fonts_in_it(wide) -> None:
    file = rendered(wide, "pdf")
    assert file.startswith(b"%PDF-")
    assert file.rstrip().endswith(b"%%EOF")
    (box,) = re.findall(rb"/MediaBox ?\[([^\]]*)\]", file)
    assert float(box.split()[2]) / 72 == pytest.approx(COLUMN, abs=0.02)
    assert re.search(rb"/FontFile[23]", file)
    assert set(re.findall(rb"/BaseFont ?/[A-Z]{6}\+([A-Za-z]+)", file)) == {b"LiberationSans"}
    # A text that can be searched: the font's table of characters is there.
    assert b"/ToUnicode" in file


def test_an_svg_keeps_its_text_and_says_its_size_in_points(wide) -> None:
    text = rendered(wide, "svg").decode()
    width, box = re.search(r'width="([\d.]+)pt".*?viewBox="0 0 (\d+)', text).groups()
    assert float(width) / 72 == pytest.approx(COLUMN, abs=0.02)
    sizes = {float(size) * float(width) / float(box) for size in re.findall(r'font-size="([\d.]+)px"', text)}
    assert max(sizes) == pytest.approx(8, abs=0.1)
    assert min(sizes) > 4.5  # the numbers of twelve by twelve cells in one column
    assert text.count(">\u221261.2</text>") == 144
    assert 'fill="white"' in text


def test_a_png_has_300_dots_an_inch(wide) -> None:
    file = rendered(wide, "png")
    assert file.startswith(b"\x89PNG\r\n\x1a\n")
    width = struct.unpack(">I", file[16:20])[0]
    assert width / 300 == pytest.approx(COLUMN, abs=0.02)
    place = file.index(b"pHYs")
    assert struct.unpack(">I", file[place + 4 : place + 8])[0] == pytest.approx(300 / 0.0254, abs=1)
    body = file[place - 4 + 4 : place + 13]
    assert struct.unpack(">I", file[place + 13 : place + 17])[0] == zlib.crc32(body)


def test_languages_go_by_their_codes_so_that_no_machine_lacks_their_letters(drawing) -> None:
    text = rendered(drawing, "svg").decode()
    assert {"ar", "zh"} <= set(re.findall(r">([^<]+)</text>", text))
    assert not re.search(r"[^\x00-\u2212]", text)
    assert "\u2068" not in text
