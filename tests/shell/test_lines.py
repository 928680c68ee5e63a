"""A file of lines that grows at its end."""

from pathlib import Path

from kici.shell import lines
from kici.shell.lines import append_line, read_lines


def test_lines_come_back_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "f"
    append_line(path, b"one\n")
    append_line(path, b"two\n")
    assert list(read_lines(path)) == [b"one", b"two"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_line_is_closed_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"torn")
    append_line(path, b"next\n")
    assert list(read_lines(path)) == [b"torn", b"next"]


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert list(read_lines(tmp_path / "none")) == []


def test_of_a_huge_file_only_the_end_is_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lines, "MAX_READ_BYTES", 10)
    path = tmp_path / "f"
    path.write_bytes(b"a" * 100 + b"\nlast\n")
    assert list(read_lines(path))[-1] == b"last"
