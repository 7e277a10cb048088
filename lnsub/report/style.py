"""The page's style sheet: the colours as custom properties, for light and for dark, and the rest from a file."""

from importlib.resources import files

from lnsub.charts.colours import DARK_PALETTE, PALETTE
from lnsub.charts.theme import INK, colour_of

_MORE = {
    "light": {"soft": "#f5f6f8", "link": "#0b5cad"},
    "dark": {"soft": "#1d2127", "link": "#7db8f5"},
}


def style_sheet() -> str:
    """The style sheet of a page; ``--p0`` and so on are the colours of the series."""
    light, dark = _properties("light"), _properties("dark")
    return (
        f":root{{color-scheme:light dark;{light}}}\n{resource('style.css')}"
        # Last, so that it wins; and for screens alone, as paper is always light.
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        "@media print{:root{color-scheme:light}}\n"
    )


def resource(name: str) -> str:
    """The text of a file of the page."""
    return files("lnsub.report").joinpath(name).read_text(encoding="utf-8")


def _properties(page: str) -> str:
    palette = {f"p{place}": colour_of(place, page) for place in range(max(len(PALETTE), len(DARK_PALETTE)))}
    return "".join(f"--{name}:{value};" for name, value in (palette | INK[page] | _MORE[page]).items())
