"""Receipts of prepared data: what `lnsub prepare` leaves, read without torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lnsub.common.files import check_output, replacing, starts_with
from lnsub.common.plain_data import UnreadableError, parse_json, read_text

_FORMAT = "lnsub-receipt/1"


@dataclass(frozen=True)
class Receipt:
    """What was prepared for a task and language.

    Attributes:
        task: the task's name.
        language: the language or mixture.
        base_model: whose tokenizer it was.
        dataset: the data.
        fetched_only: whether nothing was tokenised.
        rows: tokenised rows by split.
        tokens: their tokens by split, without padding.
        files: tables in the cache.
    """

    task: str
    language: str
    base_model: str
    dataset: str
    fetched_only: bool
    rows: dict[str, int]
    tokens: dict[str, int]
    files: list[str]

    def write(self, path: Path) -> None:
        """Writes it, whole or not at all.

        Raises:
            UserError: it cannot be written, or something else is there.
        """
        check_output(path, "a receipt", lambda there: _FORMAT.encode() in starts_with(there))
        text = json.dumps({"format": _FORMAT, **asdict(self)}, ensure_ascii=False, indent=1)
        with replacing(path) as file:
            file.write(f"{text}\n".encode())

    @property
    def whole(self) -> bool:
        """Whether the tables are still there."""
        return all(Path(file).is_file() for file in self.files)


def receipt_path(folder: Path, task: str, language: str, seed: int | None = None, *, fetched: bool = False) -> Path:
    """The place of a receipt.

    Args:
        folder: where receipts are.
        task: the task's name.
        language: the language or mixture.
        seed: of a mixture, whose rows depend on it.
        fetched: whether it is of what was fetched, rather than tokenised.
    """
    of_seed = f"-seed{seed}" if "+" in language and seed is not None else ""
    return folder / f"{task}-{language}{'' if fetched else of_seed}{'.fetched' if fetched else ''}.json"


def read_receipt(path: Path) -> Receipt | None:
    """Reads a receipt; None where there is none that is whole."""
    try:
        found = parse_json(read_text(path))
        if found.pop("format") != _FORMAT:
            return None
        return Receipt(**found)
    except (OSError, UnreadableError, TypeError, KeyError, AttributeError):
        return None
