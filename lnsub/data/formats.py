"""The file formats of local data, each read into a table in memory.

Files are read here rather than by the packaged readers of ``datasets``: those write a copy into a cache whose name
depends on the files' dates but not on their content, need the types of all columns to leave "null" and "1984" as they
are in a ``.csv``, and take three times as long (200,000 pairs of sentences: 0.06 s of Parquet or ``.csv`` against 0.17
and 0.19). For JSON see :mod:`lnsub.data.json_records`.
"""

import io
import secrets
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import conllu
import datasets
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from conllu.exceptions import ParseException

from lnsub.common.errors import UserError
from lnsub.data.json_records import read_records
from lnsub.data.text_files import first_wrong_byte, opened

_CONLLU = {"tokens": "form", "lemmas": "lemma", "upos": "upos", "xpos": "xpos"}
"""Columns under the names that they have in Universal Dependencies on the Hub, and their names in CoNLL-U."""

_LARGEST_BLOCK = 2**30
"""The most bytes of ``.csv`` that pyarrow takes at once, and so of a row; it cannot take 2**31."""

_LONGEST_REASON = 200


def read_file(path: Path, columns: Sequence[str], separator: str | None = None) -> pa.Table:
    """Reads columns of a file of one of :data:`SUFFIXES`; what its other columns hold does not matter.

    Args:
        path: the file; an empty one has no columns.
        columns: the wanted columns, which are text in ``.csv`` and ``.tsv``.
        separator: what separates the columns of a ``.csv``; None takes the comma.

    Raises:
        UserError: the file is not what its suffix says, or lacks a column.
    """
    suffix = suffix_of(path.name)
    if suffix is None:
        raise UserError(f"'{path}' cannot be read: its name ends in none of {', '.join(SUFFIXES)}.")
    try:
        table, names = SUFFIXES[suffix](path, columns, separator) if path.stat().st_size else (pa.table({}), [])
        check_columns(f"'{path}'", columns, names)
        return _decoded(table.select(list(columns)))
    except UserError:
        raise
    except (pa.ArrowException, OSError, ValueError, EOFError, OverflowError, zlib.error) as error:
        wrong = None
        if suffix != ".parquet" and (isinstance(error, UnicodeError) or "UTF8" in str(error)):
            wrong = first_wrong_byte(path)
        raise UserError(f"'{path}' cannot be read: {wrong or reason(error)}") from error


def suffix_of(name: str) -> str | None:
    """Returns which of :data:`SUFFIXES` a file's name ends in; None if none."""
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def check_columns(where: str, columns: Sequence[str], names: Sequence[str]) -> None:
    """Raises a :class:`UserError` unless ``names`` has each of ``columns`` once."""
    if missing := [column for column in columns if column not in names]:
        raise UserError(f"{where} has no column {', '.join(missing)}: it has {', '.join(names) or 'none'}.")
    if twice := [column for column in columns if list(names).count(column) > 1]:
        raise UserError(f"{where} has more than one column {', '.join(twice)}: keep one.")


def reason(error: BaseException) -> str:
    """Returns what an error says, in one short line; of an error that ``datasets`` wraps, the cause."""
    while isinstance(error, datasets.exceptions.DatasetsError) and error.__cause__ is not None:
        error = error.__cause__
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."


def _decoded(table: pa.Table) -> pa.Table:
    """Writes out what is stored as numbers of a dictionary (pandas' categories), which ``datasets`` does not know."""
    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            column = table.column(number).cast(field.type.value_type)
            table = table.set_column(number, pa.field(field.name, column.type), column)
    return table


def _parquet(path: Path, columns: Sequence[str], separator: str | None) -> tuple[pa.Table, list[str]]:
    with pa.parquet.ParquetFile(path, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        table = file.read(columns=[column for column in columns if column in names])
    table.validate(full=True)  # text that is not UTF-8 would otherwise be found when a row is used
    return table, names


def _json(path: Path, columns: Sequence[str], separator: str | None) -> tuple[pa.Table, list[str]]:
    with opened(path) as file:
        return read_records(file, columns)


def _csv(path: Path, columns: Sequence[str], separator: str | None) -> tuple[pa.Table, list[str]]:
    return _separated(path, columns, pa.csv.ParseOptions(delimiter=separator or ",", newlines_in_values=True))


def _tsv(path: Path, columns: Sequence[str], separator: str | None) -> tuple[pa.Table, list[str]]:
    # Quotation marks in a TSV of sentences are part of them.
    return _separated(path, columns, pa.csv.ParseOptions(delimiter=separator or "\t", quote_char=False))


def _separated(path: Path, columns: Sequence[str], options: pa.csv.ParseOptions) -> tuple[pa.Table, list[str]]:
    # From memory: pyarrow reads ahead in a thread of its own, where a packed file would be unpacked by Python.
    with opened(path) as file:
        data = file.read()
    names = _header(data, options)
    # pyarrow takes all that follows an open quotation mark for one value, which hides that a file is cut off. A row
    # after the last then becomes part of that value.
    last = secrets.token_hex()
    data += f"\n{options.delimiter.join([last] * len(names))}\n".encode()
    wanted = [column for column in columns if column in names] or names[:1]
    # All text, or a premise "1984" would become a number and "null" no premise at all.
    types = dict.fromkeys(wanted, pa.string())
    converting = pa.csv.ConvertOptions(column_types=types, include_columns=wanted)
    # In one block, unless the file is huge: a row that goes on in the block after the next is an error, upon which
    # pyarrow 16 may wait for ever.
    reading = pa.csv.ReadOptions(block_size=min(len(data) + 1, _LARGEST_BLOCK))
    table = pa.csv.read_csv(pa.BufferReader(data), reading, options, converting)
    rows = len(table) - 1
    if table.column(0)[rows].as_py() != last:
        raise ValueError(f"a quotation mark in row {rows} (counting from 0) is not closed")
    return table.slice(0, rows), names


def _header(data: bytes, options: pa.csv.ParseOptions) -> list[str]:
    """Returns the names in the first row that is not blank, which goes on within quotation marks."""
    file, header = io.BytesIO(data), b""
    while line := file.readline():
        header += line
        if header.strip() and (not options.quote_char or header.count(b'"') % 2 == 0):
            break
    return list(pa.csv.read_csv(pa.BufferReader(header), parse_options=options).column_names)


def _conllu(path: Path, columns: Sequence[str], separator: str | None) -> tuple[pa.Table, list[str]]:
    """A row for each sentence: lists of strings, one for each syntactic word (https://universaldependencies.org/format).

    Multiword tokens (``1-2``) and empty nodes (``1.1``) are not syntactic words.
    """
    lists: dict[str, list[list[str | None]]] = {column: [] for column in _CONLLU}
    read = 0
    with opened(path) as file, io.TextIOWrapper(file, encoding="utf-8") as text:
        try:
            for sentence in conllu.parse_incr(text, fields=("id", *_CONLLU.values())):
                read += 1
                if words := [token for token in sentence if isinstance(token["id"], int)]:
                    for column, field in _CONLLU.items():
                        lists[column].append([word.get(field) for word in words])
        except ParseException as error:
            raise ValueError(f"sentence {read} (counting from 0): {error}") from error
    return pa.table(lists, schema=pa.schema([(column, pa.list_(pa.string())) for column in _CONLLU])), list(_CONLLU)


_Reader = Callable[[Path, Sequence[str], str | None], tuple[pa.Table, list[str]]]
"""Reads columns; returns a table that has at least those of the wanted columns that there are, and all names."""

_TEXT: dict[str, _Reader] = {
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".conllu": _conllu,
}

SUFFIXES: dict[str, _Reader] = {
    ".parquet": _parquet,
    **_TEXT,
    **{f"{suffix}.gz": reader for suffix, reader in _TEXT.items()},
}
"""Readers by suffix."""

SUFFIXES_UNPACKED = tuple(suffix for suffix in SUFFIXES if not suffix.endswith(".gz"))
"""The suffixes of files that are not packed."""
