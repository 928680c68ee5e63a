"""Log files of the last hours, bounded and masked."""

import gzip
import io
import os
import zipfile

import pytest

from kici.protocol.bundle_pieces import BundleFailed
from kici.shell import recent_logs as module
from kici.shell.recent_logs import masked_blocks, recent_logs
from kici.shell.zip_writer import ZipWriter, safe_name

NOW = 1_800_000_000.0


def write(tmp_path, name, text, age_s=0.0):
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    os.utime(path, (NOW - age_s, NOW - age_s))
    return path


def text_of(log):
    return b"".join(masked_blocks(log)).decode()


def test_files_of_the_window_are_found_newest_first(tmp_path):
    write(tmp_path, "orchestrator-w-2027-01-15.log", "today\n")
    write(tmp_path, "orchestrator-w-2027-01-14.log.1.gz", "yesterday\n", 3600)
    write(tmp_path, "orchestrator-w-2027-01-10.log", "old\n", 7200)
    write(tmp_path, "orchestrator-other-2027-01-15.log", "another worker\n")
    write(tmp_path, "passwords-2027-01-15.log", "no log of ours\n")
    (tmp_path / "orchestrator-w-2027-01-13.log").symlink_to("/etc/hostname")
    found = recent_logs(str(tmp_path), "w", NOW - 7000, 10**6)
    assert [log.name for log in found] == [
        "orchestrator-w-2027-01-15.log",
        "orchestrator-w-2027-01-14.log.1",
    ]
    assert [text_of(log) for log in found] == ["today\n", "yesterday\n"]
    assert recent_logs(str(tmp_path / "none"), "w", 0, 10) == []


@pytest.mark.parametrize("ending", ["log", "log.gz"])
def test_of_too_much_the_end_is_kept_in_whole_lines(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(module, "BLOCK_BYTES", 7)
    lines = [f"line {number:04}\n" for number in range(100)]
    write(tmp_path, f"orchestrator-w-2027-01-15.{ending}", "".join(lines))
    write(tmp_path, "orchestrator-w-2027-01-14.log", "older\n", 60)
    (log,) = recent_logs(str(tmp_path), "w", 0, 95)
    assert text_of(log) == "".join(lines[-9:])
    both = recent_logs(str(tmp_path), "w", 0, 1003)
    assert [each.n_wanted for each in both] == [1000, 3]


# W145
def test_secrets_of_known_forms_are_masked_wherever_blocks_end(tmp_path, monkeypatch):
    token = "kat_" + "s3cret" * 6
    text = "".join(f'{{"n":{number},"token":"{token}"}}\n' for number in range(300))
    write(tmp_path, "orchestrator-w-2027-01-15.log", text)
    for size in (50, 64, 1000):
        monkeypatch.setattr(module, "BLOCK_BYTES", size)
        (log,) = recent_logs(str(tmp_path), "w", 0, 10**6)
        assert text_of(log) == text.replace(token, "kat_***")


def test_a_line_without_an_end_takes_no_more_memory_than_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(module, "BLOCK_BYTES", 100)
    write(tmp_path, "orchestrator-w-2027-01-15.log", "x" * 10_000)
    (log,) = recent_logs(str(tmp_path), "w", 0, 10**6)
    blocks = list(masked_blocks(log))
    assert max(map(len, blocks)) <= 1100
    assert b"".join(blocks) == b"x" * 10_000


def test_a_broken_or_vanished_file_is_said_in_its_place(tmp_path):
    broken = write(tmp_path, "orchestrator-w-2027-01-14.log.gz", "x")
    broken.write_bytes(broken.read_bytes()[:-6] + b"\x00\x00\x00\x00\x05\x00")
    spoilt = write(tmp_path, "orchestrator-w-2027-01-13.log.gz", "x" * 1000)
    data = bytearray(spoilt.read_bytes())
    data[10:16] = b"\xff" * 6
    spoilt.write_bytes(data)
    gone = write(tmp_path, "orchestrator-w-2027-01-15.log", "x\n")
    found = recent_logs(str(tmp_path), "w", 0, 10**6)
    gone.unlink()
    assert len(found) == 3
    for log in found:
        assert f"[{log.name}: " in text_of(log)


def test_a_zip_is_written_block_by_block_until_somebody_stops_it():
    file, stop = io.BytesIO(), []
    writer = ZipWriter(file, lambda: bool(stop))
    writer.add("logs/a", iter([b"x" * 70_000] * 3))
    writer.add_json("b.json", {"header": "Authorization: Bearer abcdefghijkl"})

    def blocks():
        yield b"1"
        stop.append(True)
        yield b"2"

    with pytest.raises(BundleFailed, match="stopped"):
        writer.add("c", blocks())
    stop.clear()
    writer.close()
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.read("logs/a") == b"x" * 210_000
        assert b"abcdefgh" not in archive.read("b.json")


def test_names_in_a_zip_are_plain_and_different():
    taken = set()
    names = ["host-1", "../../etc/passwd", "host-1", "..", "", "ä/ö", "x" * 300]
    safe = [safe_name(name, taken) for name in names]
    assert safe[:6] == ["host-1", "_.._etc_passwd", "host-1-2", "_", "_-2", "___"]
    assert len(safe[6]) == 100
