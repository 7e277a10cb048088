"""The layout of safetensors files, against the package of that name."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lnsub.tickets.layout import LONGEST_HEADER, MOST_TENSORS, LayoutError, opened, read_layout, read_tensors


def read(path: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    with opened(path) as file:
        layout = read_layout(file)
        return {name: part.tobytes() for name, part in read_tensors(file, layout).items()}, layout.metadata


def file_of(path: Path, header: object, data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entries(count: int) -> dict[str, object]:
    return {f"w{n}": {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n in range(count)}


def test_it_is_read_as_the_package_reads_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "b.weight": rng.random((3, 5)),
        "a.weight": rng.integers(0, 255, 7).astype(np.uint8),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(3, np.int64),
    }
    save_file(arrays, tmp_path / "m", {"format": "pt", "é": "ü"})
    tensors, metadata = read(tmp_path / "m")
    assert metadata == {"format": "pt", "é": "ü"}
    assert tensors == {name: array.tobytes() for name, array in sorted(load_file(tmp_path / "m").items())}
    assert list(tensors) == sorted(arrays)


def test_as_many_tensors_as_are_read_take_a_moment_and_one_more_is_refused(tmp_path: Path) -> None:
    small = {f"w{n}": {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n in range(MOST_TENSORS)}
    tensors, _ = read(file_of(tmp_path / "m", small, bytes(MOST_TENSORS)))
    assert len(tensors) == MOST_TENSORS
    with pytest.raises(LayoutError, match=r"65,537 tensors, more than"):
        read(file_of(tmp_path / "m", entries(MOST_TENSORS + 1), bytes(MOST_TENSORS + 1)))


@pytest.mark.parametrize("length", [LONGEST_HEADER + 1, 2**40, 2**63, 2**64 - 1])
def test_no_header_beyond_the_bound_is_read(length: int, tmp_path: Path) -> None:
    with (tmp_path / "m").open("wb") as file:
        file.write(struct.pack("<Q", length))
        os.truncate(file.fileno(), 2**30)
    with pytest.raises(LayoutError, match="more than the 16,777,216"):
        read(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_offsets": [1, 2]}, "does not begin where"),
        ({"data_offsets": [0, 3]}, "have 3 bytes, and 1 follow"),
        ({"data_offsets": [1, 0]}, "does not begin where"),
        ({"data_offsets": [0, True]}, "no shape or no place"),
        ({"data_offsets": [0]}, "no shape or no place"),
        ({"shape": [-1]}, "no shape or no place"),
        ({"shape": None}, "no shape or no place"),
        ({"dtype": "U8\x1b"}, "has no type"),
        ({"dtype": 8}, "has no type"),
    ],
)
def test_a_tensor_that_is_nowhere_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    entry = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    assert read(file_of(tmp_path / "m", {"a": entry}, b"x"))[0] == {"a": b"x"}
    with pytest.raises(LayoutError, match=message):
        read(file_of(tmp_path / "m", {"a": {**entry, **change}}, b"x"))


@pytest.mark.parametrize("name", ["", "a\x1b[2J", "x" * 1001, "a\nb"])
def test_a_name_that_cannot_be_shown_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="a tensor's name"):
        read(file_of(tmp_path / "m", {name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"x"))


def test_a_file_that_memory_cannot_hold_is_refused(tmp_path: Path) -> None:
    size = 2**45
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with opened(file_of(tmp_path / "m", {})) as file:
        layout = read_layout(file)
    with (tmp_path / "m").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
    with opened(tmp_path / "m") as file:
        layout = type(layout)({}, {}, 8 + len(header), 2**60)
        with pytest.raises(LayoutError, match="do not fit into memory"):
            read_tensors(file, layout)


def test_a_file_that_is_cut_off_meanwhile_is_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path / "m", entries(100), bytes(100))
    with opened(path) as file:
        layout = read_layout(file)
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises(LayoutError, match="cut off while"):
            read_tensors(file, layout)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(LayoutError, match="not a regular file"), opened(place):
            pass
    with pytest.raises(IsADirectoryError), opened(tmp_path):
        pass
