"""Where parallel sentences come from: files of pairs, data sets of translations, and data sets parallel row by row."""

import csv
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from lnsub.analysis.parallel.sentence_pairs import PIVOT, Pairs, check_limit, made_pairs, parallel_rows, sentences
from lnsub.common.errors import UserError

TRANSLATION = "translation"
"""The column of the Hub's data sets of translations: a sentence by language in each row."""


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
class PairSet:
    """A split of a data set of translations, such as ``wmt/wmt14:fr-en:test``.

    Attributes:
        dataset: a Hub id, or a folder that is laid out like one of the Hub's or has a folder a configuration.
        configuration: the pair of languages.
        split: the split.
    """

    dataset: str
    configuration: str
    split: str = "test"

    @property
    def where(self) -> str:
        """Names it in messages."""
        return f"The {self.split} split of '{self.dataset}' ({self.configuration})"


Source = Path | PairSet
"""A file of sentence pairs, or a split of a data set of translations."""


def find_sources(places: Sequence[str | Path], languages: Sequence[str] | None = None) -> dict[str, Source]:
    """Finds collections of sentence pairs.

    Args:
        places: folders with files named ``<language>.parquet`` (or ``.jsonl``, ``.csv``, ``.tsv``), such files, or
            data sets written ``DATASET:CONFIGURATION[:SPLIT]``, where the split is ``test`` unless named.
        languages: only these, in this order; None takes all.

    Returns:
        The sources by the file's name without its suffix, or the configuration's.

    Raises:
        UserError: a path or language is not there, a file is of another type, or a language has two files.
    """
    found: dict[str, Source] = {}
    for place in places:
        for name, source in _sources_at(place):
            if name in found:
                raise UserError(f"The language '{name}' has two files, '{found[name]}' and '{source}': give one.")
            found[name] = source
    if languages is None:
        return found
    if not languages:
        raise UserError(f"No language is named: there are sentence pairs for {', '.join(found)}.")
    for language in languages:
        if language not in found:
            raise UserError(f"There are no sentence pairs for '{language}': there are for {', '.join(found)}.")
    return {language: found[language] for language in languages}


def _sources_at(place: str | Path) -> list[tuple[str, Source]]:
    path = Path(place)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _READERS and file.is_file())
        if not files:
            raise UserError(f"The folder '{path}' has no file of sentence pairs: none ends in {_types()}.")
        return [(file.stem, file) for file in files]
    if path.is_file():
        if path.suffix not in _READERS:
            raise UserError(f"'{path}' cannot be read: a file of sentence pairs ends in {_types()}.")
        return [(path.stem, path)]
    if named := re.fullmatch(r"([^:]+):([\w.+-]+)(?::([\w.-]+))?", str(place)):
        return [(named[2], PairSet(named[1], named[2], named[3] or "test"))]
    raise UserError(
        f"There is no file or folder '{path}' to read sentence pairs from; a data set is written DATASET:CONFIGURATION."
    )


def read_pairs(source: Source, max_pairs: int | None = None, columns: tuple[str, str] | None = None) -> Pairs:
    """Reads the pairs of two languages.

    Args:
        source: a file, whose first line names the columns if it is a ``.csv`` or ``.tsv``, or a split of a data set.
            A column ``translation`` that holds a sentence by language in each row stands for those languages' columns.
        max_pairs: use only this many, drawn once for all runs and left in their order; None uses all.
        columns: the pivot's column and the other language's. Without it the pivot is ``en`` where there is such a
            column, and the other column is ``other``, or named as the file is, or the only other one; of exactly two
            columns of which neither is ``en``, the first is the pivot's.

    Returns:
        The pairs, without those that have a blank sentence or repeat one. Their language is the file's name where the
        pivot is ``en`` or the column is called ``other``; else, and where the file is named for the pair
        (``en-fr.tsv``), it is the name of the column.

    Raises:
        UserError: it cannot be read, lacks a column or holds something else than text, or fewer than two pairs are
            left.
    """
    check_limit(max_pairs)
    where, stem = (f"'{source}'", source.stem) if isinstance(source, Path) else (source.where, source.configuration)
    table = _read_file(source) if isinstance(source, Path) else _read_set(source, columns)
    nested = TRANSLATION in table and table[TRANSLATION].map(lambda row: isinstance(row, dict)).any()
    if nested:
        rows = [row if isinstance(row, dict) else {} for row in table[TRANSLATION]]
        table = pd.DataFrame(rows, dtype=object)
    names = list(map(str, table.columns))
    first, second = columns or _columns(where, stem, names)
    for name in (first, second):
        if name not in names:
            raise UserError(f"{where} has no column '{name}': it has {_named(names)}.")
    own = nested or columns is not None or first != PIVOT or set(stem.split("-")) == {first, second}
    language = second if own and second != "other" else stem
    texts = table[[first, second]].set_axis(["first", "second"], axis="columns")
    texts = pd.DataFrame(
        {place: sentences(where, texts[place], name) for place, name in (("first", first), ("second", second))}
    )
    return made_pairs(where, texts, language, first, max_pairs)


def read_texts(
    dataset: str,
    column: str,
    languages: Sequence[str],
    *,
    pivot: str = PIVOT,
    split: str = "test",
    max_pairs: int | None = None,
) -> list[Pairs]:
    """Reads data that is parallel row by row: row i of a column is the same sentence in every language.

    XNLI is so: its premises were translated into every language.

    Args:
        dataset: a folder or Hub id, as :func:`lnsub.data.rows.open_rows` takes it.
        column: the column of text.
        languages: the languages to pair with the pivot.
        pivot: the language that they are paired with.
        split: the split.
        max_pairs: see :func:`read_pairs`.

    Returns:
        The pairs of each language, all with the same rows: those whose sentence is blank in no language and repeats
        an earlier one's in none.

    Raises:
        UserError: a language, split or column is not there, or the languages have not the same number of rows.
    """
    from lnsub.data.rows import open_rows

    check_limit(max_pairs)
    if others := [language for language in dict.fromkeys(languages) if language != pivot]:
        table, rows_of = {}, {}
        for language in (pivot, *others):
            rows = open_rows(dataset, language, [column])
            texts = rows.read(split).to_pandas()[column]
            rows_of[language] = len(texts)
            if len(texts) != rows_of[pivot]:
                raise UserError(
                    f"The {split} split of '{dataset}' is not parallel: '{pivot}' has {rows_of[pivot]:,} rows and "
                    f"'{language}' {len(texts):,}."
                )
            table[language] = sentences(rows.where(split), texts, column)
        kept, empty, repeated = parallel_rows(f"The {split} split of '{dataset}'", pd.DataFrame(table), max_pairs)
        return [
            Pairs(language, tuple(kept[pivot]), tuple(kept[language]), empty, repeated, pivot) for language in others
        ]
    raise UserError(f"No language is named that the pivot '{pivot}' could be paired with.")


def _read_file(path: Path) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # pandas would silently drop the extra field that an unquoted comma makes.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return _READERS[path.suffix](path)
    except pd.errors.EmptyDataError as error:
        raise UserError(f"'{path}' is empty.") from error
    except (ValueError, OSError, pa.ArrowException, pd.errors.ParserWarning) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"'{path}' cannot be read: {reason}") from error


def _read_set(source: PairSet, columns: tuple[str, str] | None) -> pd.DataFrame:
    # It imports datasets, which takes seconds.
    from lnsub.analysis.parallel.hub_split import read_split

    choices = [[TRANSLATION], *([list(columns)] if columns else [])]
    return read_split(source.dataset, source.configuration, source.split, choices).to_pandas()


def _columns(where: str, stem: str, names: list[str]) -> tuple[str, str]:
    if PIVOT in names:
        others = [name for name in ("other", stem) if name in names and name != PIVOT]
        if not others and len(names) == 2:
            others = [name for name in names if name != PIVOT]
        if others:
            return PIVOT, others[0]
        missing = f"'other' or '{stem}'"
    elif len(names) == 2:
        # A file that is named for the first of its languages holds that one's pairs with the second.
        first, second = reversed(names) if stem == names[0] else names
        return first, second
    else:
        missing = f"'{PIVOT}'"
    raise UserError(f"{where} has no column {missing}: it has {_named(names)}; choose two with --columns.")


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:8]) or "none"


def _types() -> str:
    return ", ".join(_READERS)
