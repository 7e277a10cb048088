"""Records of JSON, one a line or in one list, into columns whose values are exactly those of the file.

The packaged reader of ``datasets`` and pyarrow's are not used, though they are faster (0.5 and 0.1 s against 0.8 for
200,000 pairs of sentences, which take thirty times that to tokenise): they make "2024-01-01" a time, and refuse a file
for a column that nobody asked for, if its values are of several types.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO

import pyarrow as pa

_ROWS, _CHARACTERS = 10_000, 2**25
"""Records that are kept as Python's objects before they become columns, and how much text they may have been."""

_SPACE = " \t\r\n"


def read_records(file: BinaryIO, columns: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Reads columns of all records; a record that lacks one has null there.

    Args:
        file: the file, after any byte order mark.
        columns: the wanted columns.

    Returns:
        Those of the wanted columns that there are, and the names of all that any record has.

    Raises:
        ValueError: it is no JSON, no records, or a wanted column has values of several types.
    """
    names: dict[str, None] = {}
    pieces: list[pa.Table] = []
    row = 0
    for records in _batches(_records(file)):
        for record in records:
            if not record.keys() <= names.keys():
                names |= dict.fromkeys(record)
        values = {column: [record.get(column) for record in records] for column in columns}
        pieces.append(pa.table({column: _array(column, listed, row) for column, listed in values.items()}))
        row += len(records)
    table = pa.concat_tables(pieces, promote_options="permissive") if pieces else pa.table({})
    return table.select([column for column in columns if column in names]), list(names)


def _records(file: BinaryIO) -> Iterator[tuple[dict[str, Any], int]]:
    """Yields the records, each with the length of its text."""
    first = next((line for line in file if not line.isspace()), b"")
    if first.lstrip().startswith(b"["):
        yield from _listed((first + file.read()).decode())
    else:
        yield from _lines(chain([first], file) if first else ())


def _lines(lines: Iterable[bytes]) -> Iterator[tuple[dict[str, Any], int]]:
    decode = json.JSONDecoder().decode
    for number, line in enumerate(lines, 1):
        try:
            record = decode(line.decode())
        except (RecursionError, ValueError) as error:
            if line.isspace():
                continue
            raise _refusal(error, f"line {number}") from error
        if not isinstance(record, dict):
            raise _no_record(f"line {number}")
        yield record, len(line)


def _listed(text: str) -> Iterator[tuple[dict[str, Any], int]]:
    decode = json.JSONDecoder().raw_decode
    number, place = 0, _after_space(text, text.index("[") + 1)
    while not text.startswith("]", place):
        try:
            record, end = decode(text, place)
        except (RecursionError, ValueError) as error:
            raise _refusal(error, f"record {number} (counting from 0)") from error
        if not isinstance(record, dict):
            raise _no_record(f"record {number} (counting from 0)")
        yield record, end - place
        number, place = number + 1, _after_space(text, end)
        if text.startswith(",", place):
            place = _after_space(text, place + 1)
        elif not text.startswith("]", place):
            raise ValueError(f"its list of records ends without a ] after record {number - 1} (counting from 0)")
    if text[place + 1 :].strip(_SPACE):
        raise ValueError("there is something after its list of records")


def _after_space(text: str, place: int) -> int:
    while place < len(text) and text[place] in _SPACE:
        place += 1
    return place


def _no_record(where: str) -> ValueError:
    return ValueError(f"{where} is no object of columns: expected one a line, or a list of them")


def _refusal(error: Exception, where: str) -> ValueError:
    if isinstance(error, UnicodeError):
        return error
    if isinstance(error, json.JSONDecodeError):
        reason = f"{error.msg} at character {error.pos:,}"
    else:
        # What follows the semicolon tells programmers how to raise Python's limit of digits.
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).split(";")[0]
    return ValueError(f"{where} is not JSON: {reason}")


def _batches(records: Iterable[tuple[dict[str, Any], int]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for record, length in records:
        batch.append(record)
        size += length
        if len(batch) == _ROWS or size > _CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _array(column: str, values: list[Any], start: int) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        some = next(value for value in values if value is not None)
        for number, value in enumerate(values, start):
            try:
                pa.array([some, value])
            except (pa.ArrowException, ValueError, OverflowError) as cause:
                place = f"column '{column}' of record {number} (counting from 0)"
                if isinstance(cause, UnicodeError):
                    raise ValueError(f"{place} has half a surrogate pair, which is no text") from error
                if isinstance(cause, OverflowError):
                    raise ValueError(f"{place} has a number of more than 64 bits") from error
                raise ValueError(f"{place} is not of the type of those before: {cause}") from error
        raise
