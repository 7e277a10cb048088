"""A report's panels as files for a paper, one a panel and format, with a list of them that has their captions."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lnsub.charts.files import FORMATS, rendered
from lnsub.common.errors import UserError
from lnsub.common.files import check_folder, check_output, replacing
from lnsub.report.figure import Figure, Missing, Panel

LIST = "figures.json"
"""The list: for each file its title, how to read it, its seeds and its SHA-256."""


@dataclass(frozen=True)
class FigureFiles:
    """Where panels go as files, and in which formats.

    Attributes:
        folder: it is made where there is none.
        formats: some of :data:`lnsub.charts.files.FORMATS`.
    """

    folder: Path
    formats: tuple[str, ...] = ("pdf",)

    def check(self) -> None:
        """Refuses formats that there are not, and a folder that cannot be written to; call it before the work.

        Raises:
            UserError: see there.
        """
        unknown = [form for form in self.formats if form not in FORMATS]
        if unknown or not self.formats:
            named = f"'{unknown[0]}' is none of them" if unknown else "name at least one"
            raise UserError(f"Figures are written as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}; {named}.")
        check_folder(self.folder)
        check_output(self.folder / LIST, "the list of a report's figures", lambda path: self._listed(path) is not None)

    def write(self, figures: Sequence[Figure | Missing]) -> tuple[Path, ...]:
        """Writes the panels, and removes those of an earlier report that are not drawn any more.

        The list goes first, with the hashes of what is there and of what comes, so that after an interruption at any
        moment every file is still known as a report's.

        Args:
            figures: those without data have no files.

        Returns:
            The files.

        Raises:
            UserError: a file of that name is there that no report wrote, or that was changed since; or one cannot be
                written. Nothing is written where a name is taken.
        """
        earlier = self._listed(self.folder / LIST) or {}
        named = list(_named_panels(figures))
        paths = {f"{name}.{form}": panel for name, _, panel in named for form in self.formats}
        for file in paths:
            check_output(self.folder / file, "a figure that a report wrote", lambda path: _is_own(path, earlier))
        contents: dict[str, bytes] = {}
        entries: dict[str, dict[str, Any]] = {}
        for name, figure, panel in named:
            for form in self.formats:
                contents[f"{name}.{form}"] = content = rendered(panel.drawing, form)
                entries[f"{name}.{form}"] = {
                    "figure": figure.title,
                    "title": panel.title,
                    "reading": figure.reading,
                    "seeds": figure.seeds,
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
        before = {file: {"earlier": sorted(hashes)} for file, hashes in earlier.items()}
        self._list({file: before.get(file, {}) | entries.get(file, {}) for file in before | entries})
        for file, content in contents.items():
            _write(self.folder / file, content)
        for file in earlier.keys() - entries.keys():
            path = self.folder / file
            if path.is_file() and _is_own(path, earlier):
                path.unlink()
        self._list(entries)
        return tuple(self.folder / file for file in entries)

    def _list(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        _write(self.folder / LIST, f"{json.dumps(entries, indent=2, ensure_ascii=False)}\n".encode())

    def _listed(self, path: Path) -> dict[str, set[str]] | None:
        """The files of a list with the hashes that they may have; None where it is no such list."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return {
                Path(file).name: {str(entry.get("sha256")), *map(str, entry.get("earlier", ()))}
                for file, entry in found.items()
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def _named_panels(figures: Sequence[Figure | Missing]) -> Iterator[tuple[str, Figure, Panel]]:
    """The panels with the names of their files: ``transfer-ner-50-change``."""
    taken: set[str] = set()
    for figure in (figure for figure in figures if isinstance(figure, Figure)):
        for panel in figure.panels:
            sparsity = "" if panel.sparsity is None else f"{100 * panel.sparsity:g}"
            parts = (figure.name.replace("_", "-"), panel.study, sparsity, panel.part)
            plain = "-".join(filter(None, map(_plain, parts)))[:120]
            name, place = plain, 1
            while name in taken:
                place += 1
                name = f"{plain}-{place}"
            taken.add(name)
            yield name, figure, panel


def _plain(text: str) -> str:
    """Text as a part of a file's name: letters and digits, without accents, and hyphens."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return re.sub(r"[\W_]+", "-", bare).strip("-").lower()


def _is_own(path: Path, earlier: Mapping[str, set[str]]) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() in earlier.get(path.name, set())


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)
