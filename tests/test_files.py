"""Files are read with one clear error for whatever is wrong, and written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from code_opt import files
from code_opt.errors import InputError
from code_opt.files import read_text, write_atomically


def test_text_comes_back_without_its_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbf\xc3\xa9\r\n\xef\xbb\xbf")
    assert read_text(path) == "é\n\ufeff"
    assert read_text(str(path), newline="") == "é\r\n\ufeff"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "no such file"),
        ("none/none", "no such file"),
        ("folder", "is a directory, expected a file"),
        ("binary", "not UTF-8 text (byte 1)"),
        ("pipe", "not a regular file"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
        ("dangling", "no such file"),
        ("binary/x", "cannot be read: Not a directory"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("long" * 1000, "cannot be read: File name too long"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"a\xff\x00")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    with pytest.raises(InputError) as caught:
        read_text(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: {message}"


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as stream:
        stream.truncate(files.MAX_BYTES + 1)  # sparse: takes no space
    with pytest.raises(InputError, match=f"{files.MAX_BYTES + 1} bytes, more than"):
        read_text(path)


@pytest.mark.parametrize(("data", "content"), [("é\n", b"\xc3\xa9\n"), (b"\xff\r\n", b"\xff\r\n")])
def test_a_file_is_replaced_by_exactly_the_data(
    data: str | bytes, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_text("old", encoding="utf-8")
    write_atomically(path, data)
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_new_file_has_the_usual_rights(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_atomically(tmp_path / "x", "")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_text("old", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_no_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        write_atomically(tmp_path / "none" / "x", "data")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        write_atomically(tmp_path / "folder", "data")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without /dev/full")
def test_a_device_is_written_and_never_replaced() -> None:
    write_atomically("/dev/null", "x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(InputError, match="/dev/full: cannot be written: No space left on device"):
        write_atomically("/dev/full", "x")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
