import gzip
import logging
import os
import re
import subprocess
import sys
import time

import pytest

from kici import log_files
from kici.log_files import DailyFile

DAY = 86_400


def _record(text, at=None):
    record = logging.LogRecord("kici.x", logging.INFO, "", 0, text, (), None)
    record.created = time.time() if at is None else at
    return record


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Handlers whose tidying runs at once, in this thread."""
    monkeypatch.setattr(log_files, "_in_background", lambda work: work())
    made = []

    def make(instance="pi", max_bytes=10**6, retention_days=7.0, total_bytes=0):
        handler = DailyFile(
            str(tmp_path),
            instance,
            max_bytes=max_bytes,
            retention_days=retention_days,
            total_bytes=total_bytes,
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
        made.append(handler)
        return handler

    yield make
    for handler in made:
        handler.close()


def _names(directory):
    return sorted(name for name in os.listdir(directory) if not name.startswith("."))


# W144
def test_a_day_has_a_file_of_its_own(make, tmp_path):
    handler = make()
    noon = 1_800_000_000 // DAY * DAY + DAY // 2
    handler.emit(_record("one", noon))
    handler.emit(_record("two", noon + DAY))
    days = [time.strftime("%Y-%m-%d", time.gmtime(noon + n * DAY)) for n in (0, 1)]
    assert _names(tmp_path) == [f"orchestrator-pi-{day}.log" for day in days]
    assert (tmp_path / f"orchestrator-pi-{days[1]}.log").read_text() == "two\n"


# W144
def test_without_an_instance_there_is_no_suffix(make, tmp_path):
    make(instance="").emit(_record("x"))
    assert re.fullmatch(r"orchestrator-\d{4}-\d\d-\d\d\.log", _names(tmp_path)[0])


def test_a_full_file_is_put_aside_and_no_line_is_lost(make, tmp_path):
    handler = make(max_bytes=1000)
    for number in range(100):
        handler.emit(_record(f"line {number:090d}"))
    names = _names(tmp_path)
    assert len(names) == 10
    content = "".join(
        (tmp_path / name).read_text()
        for name in sorted(names, key=lambda n: int(n.rpartition(".")[2]) if n[-1] != "g" else 999)
    )
    assert content == "".join(f"line {number:090d}\n" for number in range(100))
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)


def test_another_process_notices_that_the_file_was_put_aside(make, tmp_path):
    one, two = make(max_bytes=100), make(max_bytes=100)
    two.emit(_record("two"))
    for _ in range(5):
        one.emit(_record("x" * 60))
    two.emit(_record("again"))
    (current,) = tmp_path.glob("*.log")
    assert current.read_text().endswith("again\n")


def test_old_files_are_compressed_and_then_deleted(make, tmp_path):
    def old(name, days, text="text\n"):
        path = tmp_path / name
        path.write_text(text)
        os.utime(path, (time.time() - days * DAY,) * 2)

    old("orchestrator-pi-2026-01-01.log", 1)
    old("orchestrator-pi-2026-01-02.log.3", 2)
    old("orchestrator-pi-2025-01-01.log", 8)
    old("orchestrator-pi-2025-01-02.log.gz", 9)
    old("orchestrator-other-2025-01-01.log", 99)
    old("orchestrator-pi-notes.txt", 99)
    make().emit(_record("today"))
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert _names(tmp_path) == sorted(
        [
            "orchestrator-other-2025-01-01.log",
            "orchestrator-pi-2026-01-01.log.gz",
            "orchestrator-pi-2026-01-02.log.3.gz",
            f"orchestrator-pi-{today}.log",
            "orchestrator-pi-notes.txt",
        ]
    )
    with gzip.open(tmp_path / "orchestrator-pi-2026-01-01.log.gz", "rt") as file:
        assert file.read() == "text\n"


def test_the_oldest_go_when_all_are_too_much_and_the_log_says_why(make, tmp_path):
    for number in (1, 2, 3):
        path = tmp_path / f"orchestrator-pi-2026-01-0{number}.log.gz"
        path.write_bytes(b"x" * 100)
        os.utime(path, (time.time() - (4 - number) * 3600,) * 2)
    handler = make(total_bytes=250)
    handler.emit(_record("today"))
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert _names(tmp_path) == [
        "orchestrator-pi-2026-01-02.log.gz",
        "orchestrator-pi-2026-01-03.log.gz",
        f"orchestrator-pi-{today}.log",
    ]
    handler.emit(_record("next"))
    text = (tmp_path / f"orchestrator-pi-{today}.log").read_text()
    why = "KICI_LOG_TOTAL_MAX is 250 bytes"
    assert f"Deleted log file orchestrator-pi-2026-01-01.log.gz: {why}" in text


def test_a_directory_that_vanishes_and_returns_costs_only_the_lines_between(make, tmp_path):
    handler = make()
    handler.emit(_record("one"))
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    handler.emit(_record("lost"))
    tmp_path.mkdir()
    handler.emit(_record("two"))
    (current,) = tmp_path.glob("*.log")
    assert current.read_text() == "two\n"


def test_processes_share_a_file_line_by_line(tmp_path):
    program = (
        "import sys, logging; from kici.log_files import DailyFile;"
        "h = DailyFile(sys.argv[1], 'pi', max_bytes=20_000, retention_days=7);"
        "h.setFormatter(logging.Formatter('%(message)s'));"
        "[h.emit(logging.LogRecord('k', 20, '', 0, sys.argv[2] * 100 + f'{n:04d}', (), None))"
        " for n in range(500)]"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), letter]) for letter in "abc"
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    lines = [line for path in tmp_path.glob("*.log*") for line in path.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{c * 100}{n:04d}" for c in "abc" for n in range(500))
    assert len(list(tmp_path.glob("*.log*"))) >= 8
