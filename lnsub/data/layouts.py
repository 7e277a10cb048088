"""Where the splits of a language lie in a folder of local data.

``<folder>/<language>/`` has, itself or in ``data/``, a file for each split (``train.parquet``), its shards
(``train-00000-of-00002.parquet``, ...), or a folder that ``datasets`` saved (``train/state.json``). A folder that was
downloaded from the Hugging Face Hub may instead list the files of its configurations in ``README.md``; see
:mod:`lnsub.data.hub_folder`.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lnsub.common.errors import UserError
from lnsub.common.plain_data import UnreadableError, parse_json, read_text
from lnsub.data.formats import SUFFIXES, SUFFIXES_UNPACKED, suffix_of
from lnsub.data.splits import LocalSplit, SavedSplit, SplitFiles, check_regular

SPLITS = ("train", "validation", "test")

DEV = "dev"
"""What some data sets, such as Universal Dependencies, call the validation split."""

# push_to_hub of earlier releases of datasets appended a hash.
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(-[0-9a-f]{8,})?")


def splits_in(folder: Path) -> dict[str, LocalSplit]:
    """Finds the splits in a language's folder.

    Returns:
        The splits there are, in the order of :data:`SPLITS`.

    Raises:
        UserError: two things could be one split, a shard is missing, or what should be a file is none.
    """
    places = [place for place in (folder, folder / "data") if place.is_dir()]
    found: dict[str, list[LocalSplit]] = defaultdict(list)
    for place in places:
        files: dict[tuple[str, str], list[Path]] = defaultdict(list)
        named = [(suffix, path) for path in sorted(place.iterdir()) if (suffix := suffix_of(path.name))]
        for suffix, path in sorted(named, key=lambda found: list(SUFFIXES).index(found[0])):
            stem = path.name.removesuffix(suffix)
            shard = _SHARD.fullmatch(stem)
            name, total = (shard["stem"], shard["total"]) if shard else (stem, "")
            if name in (*SPLITS, DEV):
                files[name, suffix + total].append(path)
        for (name, _), paths in files.items():
            check_regular(paths)
            check_shards(paths)
            found[name].append(SplitFiles(tuple(paths)))
        for name in (*SPLITS, DEV):
            if (place / name / "state.json").is_file():
                found[name].append(SavedSplit(place / name))
            elif name in _saved_names(place):
                raise UserError(f"'{place}' was saved with a split '{name}', but '{place / name}' is not there.")
    ordered = by_convention(found)
    for several in ordered.values():
        if len(several) > 1:
            names = " and ".join(str(split.files[0].relative_to(folder)) for split in several)
            raise UserError(f"The folder '{folder}' has both {names}: keep one of them.")
    return {name: several[0] for name, several in ordered.items()}


def by_convention(found: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries that are splits, in order; ``dev`` is the validation split where there is no other."""
    names = {split: split for split in SPLITS}
    if "validation" not in found:
        names["validation"] = DEV
    return {split: found[name] for split, name in names.items() if name in found}


def names_looked_for(split: str) -> str:
    """Says what a split's files may be called, for a message that there are none."""
    names = f"{split}.parquet, {split}-00000-of-00001.parquet" + (f", {DEV}.parquet" * (split == "validation"))
    text = ", ".join(suffix for suffix in SUFFIXES_UNPACKED if suffix != ".parquet")
    return f"{names} (or {text}, each also with .gz) and {split}/state.json, here and in data/"


def check_shards(paths: Iterable[Path]) -> None:
    """Refuses files that are named as the shards of a set of which one is missing, or there twice."""
    sets: dict[tuple[Path, str, str], dict[int, Path]] = defaultdict(dict)
    for path in paths:
        suffix = suffix_of(path.name) or path.suffix
        if shard := _SHARD.fullmatch(path.name.removesuffix(suffix)):
            numbers = sets[path.parent, f"{shard['stem']}-{{:05}}-of-{shard['total']}{suffix}", shard["total"]]
            if (other := numbers.setdefault(int(shard["number"]), path)) != path:
                raise UserError(f"The folder '{path.parent}' has both {other.name} and {path.name}: keep one of them.")
    for (folder, pattern, total), numbers in sets.items():
        missing = [pattern.format(number) for number in range(int(total)) if number not in numbers]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise UserError(f"The folder '{folder}' lacks {', '.join(missing[:3])}{more}: it has the other shards.")


def _saved_names(folder: Path) -> Sequence[str]:
    """Returns the splits of a data set that was saved into ``folder``, as its description lists them."""
    listing = folder / "dataset_dict.json"
    if not listing.is_file():
        return ()
    try:
        names = parse_json(read_text(listing))["splits"]
        return [str(name) for name in names]
    except (OSError, UnreadableError, KeyError, TypeError) as error:
        raise UserError(f"'{listing}' cannot be read: it does not list the splits of a saved data set.") from error
