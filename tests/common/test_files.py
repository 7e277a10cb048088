"""Files that are whole or not there, on real full disks and through real failures."""

import os
import stat
from pathlib import Path

import pytest

from lnsub.common.errors import UserError
from lnsub.common.files import append_lines, make_folder, replacing, sync_folder, writing
from tests.support.file_limits import file_size_limit


def test_a_file_is_replaced_once_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    for content in (b"one", b"two"):
        with replacing(path) as file:
            file.write(content)
            file.flush()
            assert path.exists() == (content == b"two")
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["file"]  # noqa: PTH208 (hidden files too)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"earlier")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(bytes(1 // 0))
    with file_size_limit(1000):
        with pytest.raises(UserError, match=str(path)), replacing(path) as file:
            file.write(bytes(2000))
        with pytest.raises(UserError, match="other"), writing(tmp_path / "other") as file:
            file.write(bytes(2000))
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_lines_are_appended_whole_or_not_at_all(tmp_path):
    path = tmp_path / "lines"
    append_lines(path, b"one\n")
    path.write_bytes(path.read_bytes() + b"unfin")
    append_lines(path, b"two\n", sync=False)
    assert path.read_bytes() == b"one\nunfin\ntwo\n"
    with file_size_limit(1000), pytest.raises(UserError, match=str(path)):
        append_lines(path, bytes(2000) + b"\n")
    assert path.read_bytes() == b"one\nunfin\ntwo\n"


def test_a_folder_that_is_not_there_cannot_be_synced(tmp_path: Path):
    sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "none")


@pytest.mark.parametrize(("name", "what"), [("file", "file is a file"), ("link", "link is a link to nothing")])
def test_what_is_in_a_folders_place_is_named(name, what, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for folder in (tmp_path / name, tmp_path / name / "below" / "it"):
        with pytest.raises(UserError, match=what):
            make_folder(folder)
        with pytest.raises(UserError, match=what), replacing(folder / "output"):
            pass
    make_folder(tmp_path / "new" / "folders")
    make_folder(tmp_path / "new" / "folders")
    with pytest.raises(UserError, match="null"):
        make_folder(tmp_path / "a\0b")
    with pytest.raises(UserError, match="name too long"):
        make_folder(tmp_path / ("x" * 300))
