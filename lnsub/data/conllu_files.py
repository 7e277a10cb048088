"""CoNLL-U files (https://universaldependencies.org/format.html) as tables, a row for each sentence."""

from pathlib import Path

import conllu
import pyarrow as pa
from conllu.exceptions import ParseException

_FIELDS = {"tokens": "form", "lemmas": "lemma", "upos": "upos", "xpos": "xpos"}
"""The columns, under the names that they have in Universal Dependencies on the Hub."""


def read_conllu(path: Path) -> pa.Table:
    """Reads the words of each sentence.

    A multiword token (``1-2``) and an empty node (``1.1``) are no syntactic words and are left out.

    Args:
        path: a file in UTF-8.

    Returns:
        ``tokens``, ``lemmas``, ``upos`` and ``xpos``, lists of strings of equal length.

    Raises:
        ValueError: a line has no columns, or a first one that is no id; tells which sentence it is in.
    """
    columns: dict[str, list[list[str | None]]] = {column: [] for column in _FIELDS}
    read = 0
    with path.open(encoding="utf-8") as file:
        try:
            for sentence in conllu.parse_incr(file, fields=("id", *_FIELDS.values())):
                read += 1
                if words := [token for token in sentence if isinstance(token["id"], int)]:
                    for column, field in _FIELDS.items():
                        columns[column].append([word.get(field) for word in words])
        except ParseException as error:
            raise ValueError(f"sentence {read} (counting from 0): {error}") from error
    return pa.table(columns, schema=pa.schema([(column, pa.list_(pa.string())) for column in _FIELDS]))
