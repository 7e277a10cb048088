"""The page: the figures, a summary, what was left out, and the runs with their settings."""

from collections.abc import Sequence
from html import escape
from itertools import groupby

from lnsub.report.collect import Material
from lnsub.report.figure import Figure, Missing, Panel, listed
from lnsub.report.html_tables import DASH, panel_table, rows_table
from lnsub.report.languages import html_label
from lnsub.report.markup import tag
from lnsub.report.page_file import TITLE
from lnsub.report.scripts import pick_bar, scripts
from lnsub.report.settings import split_settings
from lnsub.report.style import style_sheet
from lnsub.version import __version__

POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"
"""What the page may do, for the browser to hold it to: Vega compiles expressions, and nothing reaches a network."""

SOURCES = (
    (
        "Foroutan et al. (2022), Discovering Language-neutral Sub-networks",
        "https://aclanthology.org/2022.emnlp-main.513/",
    ),
    ("Frankle & Carbin (2019), The Lottery Ticket Hypothesis", "https://arxiv.org/abs/1803.03635"),
)
"""The papers that the method comes from: title and address, shown as links in the footer."""


def page(material: Material, figures: Sequence[Figure | Missing], csv_prefix: str) -> str:
    """Writes the page.

    Args:
        material: what the figures were drawn from.
        figures: in order; those without data are listed with the reason.
        csv_prefix: what the names of the CSV files start with; a figure's is ``<prefix><name>.csv``.

    Returns:
        A self-contained HTML document: its scripts are in it, and it may load nothing from elsewhere.
    """
    drawn = [figure for figure in figures if isinstance(figure, Figure)]
    missing = [figure for figure in figures if isinstance(figure, Missing)]
    models = sorted(
        {
            *material.records["model"],
            *material.retrieval["model"],
            *material.similarity["model"],
            *material.ablation.get("model", ()),
            *_ticket_models(material),
        }
    )
    title = f"{TITLE} {f'is {models[0]}' if len(models) == 1 else 'are these models'}?"
    body = tag(
        "main",
        tag("header", tag("h1", escape(title)), tag("p", escape(_scope(material, models)), class_="sub")),
        _summary(drawn, missing, material),
        tag("nav", tag("ul", *(tag("li", _link(figure)) for figure in drawn)), aria_label="Figures") if drawn else "",
        pick_bar(material, drawn),
        *(_section(figure, csv_prefix) for figure in drawn),
        _left_out(missing, material.notes),
        _runs(material),
        _footer(material),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        # Keeps browsers from asking for an icon.
        '<link rel="icon" href="data:,"/>',
        tag("title", escape(title)),
        tag("style", style_sheet()),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', body, scripts(drawn)), lang='en')}\n"


def _prose(words: str) -> str:
    """Plain text as markup; text between backticks is code."""
    parts = escape(words).split("`")
    return "".join(tag("code", part) if place % 2 else part for place, part in enumerate(parts))


def _ticket_models(material: Material) -> list[str]:
    return [] if material.densities.empty else list(material.densities["model"])


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _scope(material: Material, models: list[str]) -> str:
    if material.about:
        return material.about
    facts = material.facts
    parts = [_count(facts["tickets"], "ticket"), _count(facts["records"], "record")]
    text = f"{listed(parts)} in {_count(len(material.runs), 'run')}: "
    text += f"{listed(material.studies)}; " if material.studies else ""
    text += _count(len(material.languages), "language")
    text += f", {_count(facts['seeds'], 'seed')}" if facts["seeds"] else ""
    return text + (f"; base models {listed(models)}." if len(models) > 1 else ".")


def _summary(drawn: list[Figure], missing: list[Missing], material: Material) -> str:
    items = [tag("li", escape(gap.title), f": not there, as {_prose(gap.reason)}.") for gap in missing if gap.asked]
    items += [tag("li", _link(figure), f": {_prose(figure.lead)}") for figure in drawn if figure.lead]
    said = tag("ul", *items) if items else tag("p", "No figure has data yet.")
    names = tag("p", "Languages: ", ", ".join(map(html_label, material.languages)), class_="languages")
    return tag("div", tag("h2", "Summary"), said, names if material.languages else "", class_="summary", id="summary")


def _link(figure: Figure) -> str:
    return tag("a", escape(figure.title), href=f"#{figure.name}")


def _section(figure: Figure, csv_prefix: str) -> str:
    numbered = list(enumerate(figure.panels))
    panels = [
        tag("div", *(_panel(panel, f"{figure.name}-{place}") for place, panel in together), class_="group")
        for _, together in groupby(numbered, key=lambda pair: pair[1].group or pair[1].title)
    ]
    files = [f"{csv_prefix}{name}.csv" for name in (figure.name, *figure.more)]
    links = ", ".join(tag("a", escape(file), href=file) for file in files)
    return tag(
        "section",
        tag("h2", escape(figure.title)),
        tag("p", _prose(figure.reading), class_="reading"),
        tag("p", _prose(figure.seeds), class_="reading"),
        tag("div", *panels, class_="panels") if panels else "",
        _tables(figure, f"{csv_prefix}{figure.name}.csv"),
        figure.table,
        tag("p", "Data: ", links, class_="csv"),
        id=figure.name,
    )


def _panel(panel: Panel, chart: str) -> str:
    sparsity = None if panel.sparsity is None else f"{panel.sparsity:g}"
    place = tag("div", class_="chart", tabindex=0, role="group", aria_label=panel.drawing.spec["description"])
    return tag("figure", tag("figcaption", escape(panel.title)), place, data_chart=chart, data_sparsity=sparsity)


def _tables(figure: Figure, csv: str) -> str:
    """The numbers of all panels, open where there is no script to draw them."""
    if not figure.panels:
        return ""
    words = tag("summary", "As a table" if len(figure.panels) == 1 else "As tables")
    tables = (panel_table(panel.title, panel.drawing.table, csv) for panel in figure.panels)
    return tag("details", words, *tables, class_="tables", open="open")


def _left_out(missing: list[Missing], notes: list[str]) -> str:
    if not missing and not notes:
        return ""
    items = [tag("li", tag("b", escape(gap.title)), f": not drawn, as {_prose(gap.reason)}.") for gap in missing]
    items += [tag("li", _prose(note)) for note in notes]
    return tag("section", tag("h2", "Left out"), tag("ul", *items, class_="left"), id="left-out")


def _runs(material: Material) -> str:
    runs = material.runs
    if not runs:
        return ""
    shared, differing = split_settings(runs)
    facts = list(dict.fromkeys(name for run in runs for name in run.facts))
    body = [
        [run.folder]
        + [run.facts.get(name, DASH) for name in facts]
        + [run.settings.get(name, DASH) for name in differing]
        for run in runs
    ]
    parts = [tag("h2", "Runs and their settings"), rows_table(["run", *facts, *differing], body)]
    if shared:
        words = f"Settings that all runs share ({len(shared)})"
        table = rows_table(["setting", "value"], list(shared.items()))
        parts.append(tag("details", tag("summary", escape(words)), table))
    return tag("section", *parts, id="runs")


def _footer(material: Material) -> str:
    links = [tag("a", escape(title), href=address) for title, address in SOURCES]
    numbers = "published numbers" if material.about else "the runs' own records"
    made = f"Made by lnsub {__version__} from {numbers}; nothing is loaded from elsewhere. Charts: "
    made += "Vega and Vega-Lite (University of Washington, BSD-3-Clause). Method: "
    return tag("footer", tag("p", escape(made), "; ".join(links), "."))
