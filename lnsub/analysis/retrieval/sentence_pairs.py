"""Parallel sentences: English and its translations, read from one file a language."""

import csv
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from lnsub.common.errors import UserError

PIVOT = "en"
"""The language that all others are paired with, and the name of its column."""

SUBSET_SEED = 20220
"""Seed of the choice of pairs, so that every ticket, layer and run is measured on the same ones."""


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path)


def _read_jsonl(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True, dtype=False, convert_dates=False, encoding="utf-8")


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8-sig")


def _read_tsv(path: Path) -> pd.DataFrame:
    # Quotation marks in a TSV of sentences are part of them.
    return pd.read_csv(
        path,
        sep="\t",
        dtype=str,
        keep_default_na=False,
        index_col=False,
        quoting=csv.QUOTE_NONE,
        encoding="utf-8-sig",
    )


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
}


@dataclass(frozen=True)
class Pairs:
    """Sentences of English and of another language; row i of one translates row i of the other.

    Attributes:
        language: the other language: the file's name without its suffix.
        english: the English sentences.
        other: their translations.
        empty: pairs left out because a sentence is missing or blank.
        repeated: pairs left out because one of their sentences is in an earlier pair: it has two right answers.
    """

    language: str
    english: tuple[str, ...]
    other: tuple[str, ...]
    empty: int = 0
    repeated: int = 0

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.english)


def find_files(paths: Sequence[Path], languages: Sequence[str] | None = None) -> dict[str, Path]:
    """Finds the file of each language.

    Args:
        paths: folders with files named ``<language>.parquet`` (or ``.jsonl``, ``.csv``, ``.tsv``), or such files.
        languages: only these, in this order; None takes all.

    Returns:
        The files by language.

    Raises:
        UserError: a path or language is not there, a file is of another type, or a language has two files.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in _READERS and file.is_file())
            if not files:
                raise UserError(f"The folder '{path}' has no file of sentence pairs: none ends in {_types()}.")
        elif not path.is_file():
            raise UserError(f"There is no file or folder '{path}' to read sentence pairs from.")
        elif path.suffix not in _READERS:
            raise UserError(f"'{path}' cannot be read: a file of sentence pairs ends in {_types()}.")
        else:
            files = [path]
        for file in files:
            if file.stem in found:
                raise UserError(
                    f"The language '{file.stem}' has two files, '{found[file.stem]}' and '{file}': give one."
                )
            found[file.stem] = file
    if languages is None:
        return found
    if not languages:
        raise UserError(f"No language is named: there are sentence pairs for {', '.join(found)}.")
    for language in languages:
        if language not in found:
            raise UserError(f"There are no sentence pairs for '{language}': there are for {', '.join(found)}.")
    return {language: found[language] for language in languages}


def read_pairs(path: Path, max_pairs: int | None = None) -> Pairs:
    """Reads one language's pairs.

    Args:
        path: a file with the columns ``en``, and ``other`` or the language's own name; with two columns, the one that
            is not ``en`` may have any name. The first line of a ``.csv`` or ``.tsv`` names them.
        max_pairs: use only this many, drawn once for all runs and left in their order; None uses all.

    Returns:
        The pairs, without those that have a blank sentence or repeat one.

    Raises:
        UserError: the file cannot be read, lacks a column or holds something else than text, or fewer than two pairs
            are left.
    """
    if max_pairs is not None and max_pairs < 2:
        raise UserError(f"max_pairs is {max_pairs}: retrieval needs at least two pairs.")
    try:
        with warnings.catch_warnings():
            # pandas would silently drop the extra field that an unquoted comma makes.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = _READERS[path.suffix](path)
    except pd.errors.EmptyDataError as error:
        raise UserError(f"'{path}' is empty.") from error
    except (ValueError, OSError, pa.ArrowException, pd.errors.ParserWarning) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"'{path}' cannot be read: {reason}") from error
    columns = table[list(_columns(path, list(map(str, table.columns))))].set_axis([PIVOT, "other"], axis="columns")
    texts = pd.DataFrame({name: _sentences(path, name, columns[name]) for name in (PIVOT, "other")})
    whole = texts[(texts != "").all(axis="columns")]
    kept = whole[~(whole[PIVOT].duplicated() | whole["other"].duplicated())]
    if len(kept) < 2:
        raise UserError(
            f"'{path}' has {len(kept) or 'no'} usable sentence pair{'' if len(kept) == 1 else 's'} in {len(table)} rows"
            " (blank and repeated sentences are left out): retrieval needs at least two."
        )
    empty, repeated = len(texts) - len(whole), len(whole) - len(kept)
    if max_pairs is not None and max_pairs < len(kept):
        kept = kept.iloc[np.sort(np.random.default_rng(SUBSET_SEED).permutation(len(kept))[:max_pairs])]
    return Pairs(path.stem, tuple(kept[PIVOT]), tuple(kept["other"]), empty, repeated)


def _columns(path: Path, names: list[str]) -> tuple[str, str]:
    others = [name for name in ("other", path.stem) if name in names and name != PIVOT]
    if PIVOT in names and not others and len(names) == 2:
        others = [name for name in names if name != PIVOT]
    if PIVOT not in names or not others:
        missing = f"'{PIVOT}'" if PIVOT not in names else f"'other' or '{path.stem}'"
        has = ", ".join(f"'{name}'" for name in names[:8]) or "none"
        raise UserError(f"'{path}' has no column {missing}: it has {has}. English is in '{PIVOT}'.")
    return PIVOT, others[0]


def _sentences(path: Path, name: str, column: pd.Series) -> pd.Series:
    """The column without white space around its sentences; a missing one is blank."""
    filled = column.astype(object).where(column.notna(), "")
    odd = filled[~filled.map(lambda text: isinstance(text, str))]
    if len(odd):
        which = "English" if name == PIVOT else "other"
        raise UserError(f"The {which} sentence in row {odd.index[0] + 1} of '{path}' is not text: {odd.iloc[0]!r}.")
    return filled.str.strip()


def _types() -> str:
    return ", ".join(_READERS)
