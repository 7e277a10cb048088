"""The file formats of local data, each read into a table in memory."""

from collections.abc import Sequence
from pathlib import Path

import conllu
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from conllu.exceptions import ParseException

from lnsub.common.errors import UserError

_CONLLU = {"tokens": "form", "lemmas": "lemma", "upos": "upos", "xpos": "xpos"}
"""Columns under the names that they have in Universal Dependencies on the Hub, and their names in CoNLL-U."""


def read_file(path: Path, columns: Sequence[str]) -> pa.Table:
    """Reads a file of one of :data:`FORMATS`.

    Args:
        path: the file; an empty one has no columns.
        columns: the columns that are wanted, which ``.csv`` reads as text; others may be there too.

    Raises:
        UserError: the file is not what its suffix says.
    """
    try:
        return FORMATS[path.suffix](path, columns) if path.stat().st_size else pa.table({})
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read: {str(error).splitlines()[0]}") from error


def _parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    return pa.parquet.read_table(path)


def _jsonl(path: Path, columns: Sequence[str]) -> pa.Table:
    return pa.json.read_json(path)


def _csv(path: Path, columns: Sequence[str]) -> pa.Table:
    return pa.csv.read_csv(
        path,
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        # All text, or a premise "1984" would become a number and "null" no premise at all.
        convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string())),
    )


def _conllu(path: Path, columns: Sequence[str]) -> pa.Table:
    """A row for each sentence: lists of strings, one for each syntactic word (https://universaldependencies.org/format).

    Multiword tokens (``1-2``) and empty nodes (``1.1``) are not syntactic words.
    """
    lists: dict[str, list[list[str | None]]] = {column: [] for column in _CONLLU}
    read = 0
    with path.open(encoding="utf-8") as file:
        try:
            for sentence in conllu.parse_incr(file, fields=("id", *_CONLLU.values())):
                read += 1
                if words := [token for token in sentence if isinstance(token["id"], int)]:
                    for column, field in _CONLLU.items():
                        lists[column].append([word.get(field) for word in words])
        except ParseException as error:
            raise ValueError(f"sentence {read} (counting from 0): {error}") from error
    return pa.table(lists, schema=pa.schema([(column, pa.list_(pa.string())) for column in _CONLLU]))


FORMATS = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _csv, ".conllu": _conllu}
"""Readers by suffix."""
