"""The report in a real browser: a headless Chromium lays the page out and tells where everything is."""

import base64
import json
import os
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from lnsub.report import published_report, report
from tests.support.report_tree import write_large_tree, write_tree

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",  # what pages write to the console
    "--virtual-time-budget=2000",
)
DARK = "--blink-settings=preferredColorScheme=0"

# Runs in the test's copy of the page alone: the report itself has no script. The copy is in a frame, as a window of
# Chromium is never as narrow as a phone.
PROBE = """
<script>
const box = e => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
const rgb = c => c.match(/[\\d.]+/g).slice(0, 3).map(Number);
const light = c => {
  const [r, g, b] = rgb(c).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [dark, bright] = [light(a), light(b)].sort((x, y) => x - y);
  return (bright + 0.05) / (dark + 0.05);
};
const style = (e, name) => getComputedStyle(e).getPropertyValue(name);
const texts = [...document.querySelectorAll('svg text, figcaption, .key li, p.key')].filter(e => e.textContent.trim());
const paper = style(document.body, 'background-color');
const found = {
  width: innerWidth,
  scroll: document.documentElement.scrollWidth,
  paper: paper,
  figures: [...document.querySelectorAll('figure .scroll svg')].map(e => ({
    name: e.getAttribute('aria-label'), box: box(e), visible: e.checkVisibility(),
    outside: [...e.querySelectorAll('text, rect, circle, path')].filter(t => {
      const [a, b] = [box(t), box(e)];
      return a[0] < b[0] - 1.5 || a[1] < b[1] - 1.5 || a[2] > b[2] + 1.5 || a[3] > b[3] + 1.5;
    }).map(t => t.textContent || t.outerHTML),
  })),
  texts: texts.map(e => ({text: e.textContent, box: box(e), size: parseFloat(style(e, 'font-size'))})),
  cells: [...document.querySelectorAll('svg g')].map(g => ({
    text: g.querySelector('text').textContent,
    contrast: contrast(style(g.querySelector('text'), 'fill'), style(g.querySelector('rect'), 'fill')),
    fits: box(g.querySelector('text'))[2] - box(g.querySelector('text'))[0] <=
          box(g.querySelector('rect'))[2] - box(g.querySelector('rect'))[0],
  })),
  labels: Math.min(...[...document.querySelectorAll('svg .t:not(.n)')].map(e => contrast(style(e, 'fill'), paper))),
  prose: Math.min(...[...document.querySelectorAll('p, li, a, th, td')].map(e => contrast(style(e, 'color'), paper))),
  arabic: [...document.querySelectorAll('bdi[lang=ar]')].map(e => style(e, 'direction')),
};
const pre = parent.document.createElement('pre');
pre.id = 'found';
pre.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(found))));
parent.document.body.append(pre);
</script>
"""


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser: the one that LNSUB_CHROMIUM names, or one on the path."""
    named = os.environ.get("LNSUB_CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else NAMES)), None)
    if found is None:
        pytest.skip(f"needs Chromium: {named or ', '.join(NAMES)} is not installed; LNSUB_CHROMIUM can name it")
    return found


@pytest.fixture(scope="module", params=[write_tree, write_large_tree, None], ids=["usual", "large", "published"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    if request.param is None:
        return published_report(folder / "report.html").page
    return report(request.param(folder / "runs"), folder / "report.html").page


def browse(chromium: str, page: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    args = [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(args, capture_output=True, text=True, timeout=300, check=True)


def overlapping(texts: list[dict]) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share more than a pixel in both directions."""
    ordered = sorted(texts, key=lambda t: t["box"][1])
    found = []
    for i, a in enumerate(ordered):
        for b in ordered[i + 1 :]:
            if b["box"][1] > a["box"][3]:
                break
            across = min(a["box"][2], b["box"][2]) - max(a["box"][0], b["box"][0])
            down = min(a["box"][3], b["box"][3]) - max(a["box"][1], b["box"][1])
            if across > 1 and down > 2:
                found.append((a["text"], b["text"]))
    return found


@pytest.mark.parametrize(("width", "dark"), [(1240, False), (390, True)], ids=["desktop", "dark phone"])
def test_every_figure_is_seen_and_no_label_runs_into_another(
    chromium: str, page: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    text = page.read_text(encoding="utf-8")
    framed = escape(text.replace("</body>", f"{PROBE}</body>"))
    frame = f'<iframe srcdoc="{framed}" style="border:0;width:{width}px;height:900px"></iframe>'
    probed = tmp_path / "probed.html"
    probed.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><style>:root{{color-scheme:light dark}}</style><body>{frame}</body>',
        encoding="utf-8",
    )
    done = browse(chromium, probed, tmp_path, "--window-size=1400,1000", "--dump-dom", *([DARK] if dark else []))
    assert "CONSOLE" not in done.stderr
    encoded = re.search(r'<pre id="found">([^<]+)</pre>', done.stdout)
    assert encoded, done.stdout[-2000:]
    found = json.loads(base64.b64decode(encoded[1]))
    assert found["scroll"] <= found["width"] == width
    assert (found["paper"] == "rgb(255, 255, 255)") != dark
    assert len(found["figures"]) == text.count("<figure>") > 5
    for figure in found["figures"]:
        assert figure["visible"], figure["name"]
        assert figure["outside"] == [], figure["name"]
    assert overlapping(found["texts"]) == []
    assert min(t["size"] for t in found["texts"]) >= 11
    assert [cell for cell in found["cells"] if cell["contrast"] < 4.5 or not cell["fits"]] == []
    assert len(found["cells"]) > 300
    assert all(
        right - left > 100 and bottom - top > 60 for left, top, right, bottom in (f["box"] for f in found["figures"])
    )
    assert found["labels"] > 4.5
    assert found["prose"] > 4.5
    assert set(found["arabic"]) == {"rtl"}


def test_the_page_as_it_is_says_nothing_on_the_console_and_prints(chromium: str, page: Path, tmp_path: Path) -> None:
    paper = tmp_path / "page.pdf"
    done = browse(chromium, page, tmp_path, f"--print-to-pdf={paper}", "--no-pdf-header-footer", DARK)
    assert "CONSOLE" not in done.stderr
    assert paper.read_bytes().startswith(b"%PDF")
