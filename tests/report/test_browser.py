"""The report in a real browser: a headless Chromium lays the page out and tells where everything is."""

import base64
import json
import os
import re
import shutil
import subprocess
import zlib
from contextlib import suppress
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
    "--virtual-time-budget=20000",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no network
)
DARK = "--blink-settings=preferredColorScheme=0"

# The test's copy of the page has a second script, which waits until all charts are drawn, acts as a reader does, and
# tells what there is. The copy is in a frame, as a window of Chromium is never as narrow as a phone.
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
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const drawn = () => new Promise(resume => setTimeout(resume, 50));
const faint = () => all('.chart svg [opacity="0.1"]').length;
const shown = () => all('figure').filter(e => e.checkVisibility()).length;
function look() {
  const paper = style(document.body, 'background-color');
  // Vega keeps labels that would overlap, but shows them not.
  const texts = all('.chart svg text, figcaption').filter(
    e => e.textContent.trim() && e.checkVisibility() && e.getAttribute('opacity') !== '0');
  return {
    width: innerWidth,
    scroll: document.documentElement.scrollWidth,
    paper: paper,
    figures: all('figure .chart svg').map(e => ({
      name: e.closest('figure').dataset.chart, box: box(e),
      outside: all('text, path[aria-label]', e).filter(t => {
        const [a, b] = [box(t), box(e)];
        return a[0] < b[0] - 2.5 || a[1] < b[1] - 2.5 || a[2] > b[2] + 2.5 || a[3] > b[3] + 2.5;
      }).map(t => t.textContent || t.getAttribute('aria-label')),
    })),
    texts: texts.map(e => ({text: e.textContent, box: box(e), size: parseFloat(style(e, 'font-size'))})),
    labels: Math.min(...all('.chart .role-axis text, .chart .role-legend text').map(
      e => contrast(style(e, 'fill'), paper))),
    prose: Math.min(...all('p, li, a, th, td').map(e => contrast(style(e, 'color'), paper))),
    arabic: all('bdi[lang=ar]').map(e => style(e, 'direction')),
    open: all('details.tables[open]').length,
  };
}
async function act() {
  const found = {usual: [faint(), shown()]};
  const button = all('.pick button[data-language]')[0];
  button.focus();
  found.focused = document.activeElement === button;
  button.click();
  await drawn();
  found.picked = [faint(), button.getAttribute('aria-pressed'), document.getElementById('all').hidden];
  document.getElementById('all').click();
  await drawn();
  found.released = [faint(), button.getAttribute('aria-pressed')];
  const select = document.getElementById('sparsity');
  if (select) {
    select.selectedIndex = 1;
    select.dispatchEvent(new Event('change'));
    found.level = [shown(), all('figure[data-sparsity]').filter(
      e => e.checkVisibility() && e.dataset.sparsity !== select.value).length, select.value];
  }
  return found;
}
const wait = setInterval(async () => {
  if (document.documentElement.dataset.drawn !== 'all') return;
  clearInterval(wait);
  const found = look();
  found.acts = await act();
  const pre = parent.document.createElement('pre');
  pre.id = 'found';
  pre.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(found))));
  parent.document.body.append(pre);
}, 50);
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
    before, end, after = text.rpartition("</body>")  # there is one in a script too
    framed = escape(f"{before}{PROBE}{end}{after}")
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
    assert len(found["figures"]) == text.count("<figure ") > 5
    for figure in found["figures"]:
        assert figure["outside"] == [], figure["name"]
    assert overlapping(found["texts"]) == []
    assert min(t["size"] for t in found["texts"]) >= 10.9
    assert all(
        right - left > 100 and bottom - top > 60 for left, top, right, bottom in (f["box"] for f in found["figures"])
    )
    assert found["labels"] > 4.5
    assert found["prose"] > 4.5
    assert set(found["arabic"]) == {"rtl"}
    assert found["open"] == 0
    acts = found["acts"]
    assert acts["usual"] == [0, len(found["figures"])]
    assert acts["focused"]
    assert acts["picked"][0] > 50
    assert acts["picked"][1:] == ["true", False]
    assert acts["released"] == [0, "false"]
    if "level" in acts:  # the published numbers are of one sparsity
        visible, others, _ = acts["level"]
        assert 0 < visible < len(found["figures"])
        assert others == 0


def test_without_scripts_the_tables_are_open(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count('<details class="tables" open="open">') > 3
    assert re.search(r'class="pick"[^>]* hidden=""', text)


def test_the_page_as_it_is_says_nothing_on_the_console_and_prints_light(
    chromium: str, page: Path, tmp_path: Path
) -> None:
    papers = {}
    for name, flags in (("light", []), ("dark", [DARK])):
        papers[name] = tmp_path / f"{name}.pdf"
        done = browse(chromium, page, tmp_path, f"--print-to-pdf={papers[name]}", "--no-pdf-header-footer", *flags)
        assert "CONSOLE" not in done.stderr
        assert papers[name].read_bytes().startswith(b"%PDF")
    # Paper of a dark screen has the same colours: of fills, which PDF writes as `r g b rg`.
    light, dark = (colours(path.read_bytes()) for path in papers.values())
    assert len(light) > 5
    assert light == dark


def colours(pdf: bytes) -> set[bytes]:
    """The colours that a PDF fills with."""
    found: set[bytes] = set()
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, flags=re.DOTALL):
        with suppress(zlib.error):
            found.update(re.findall(rb"[\d.]+ [\d.]+ [\d.]+ rg", zlib.decompress(stream)))
    return found
