"""kici/shell/durable.py on a real filesystem."""

import os
import stat
import subprocess
import sys

import pytest

from kici.shell import durable


def test_write_atomic_creates_a_private_file_whatever_the_umask_is(tmp_path):
    before = os.umask(0)
    try:
        durable.write_atomic(tmp_path / "a", b"one")
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_write_atomic_replaces_and_leaves_no_temporary(tmp_path):
    (tmp_path / "a.tmp").write_bytes(b"left by a crash, far longer than the new content")
    durable.write_atomic(tmp_path / "a", b"one")
    durable.write_atomic(tmp_path / "a", b"two")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"two"


def test_write_atomic_keeps_the_old_file_when_the_disk_refuses(tmp_path, monkeypatch):
    durable.write_atomic(tmp_path / "a", b"one")

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        durable.write_atomic(tmp_path / "a", b"two")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"one"


def test_remove_says_whether_there_was_something(tmp_path):
    durable.write_atomic(tmp_path / "a", b"one")
    assert durable.remove(tmp_path / "a") is True
    assert durable.remove(tmp_path / "a") is False


def test_make_directory_makes_private_parents_and_leaves_existing_ones(tmp_path):
    tmp_path.chmod(0o755)
    durable.make_directory(tmp_path / "x" / "y")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "x" / "y").stat().st_mode) == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


_IN_A_THREAD_WITH_A_HUB = """
from gevent import monkey
monkey.patch_all()
import os, sys
import gevent
from kici.shell import durable

def sync():
    gevent.sleep(0)  # as a contended lock does: from now on this thread has a hub
    durable.sync_directory(sys.argv[1])

for _ in range(5):
    gevent.get_hub().threadpool.apply(sync)
    gevent.sleep(0.01)
same = os.stat(sys.argv[1]).st_ino
found = 0
for number in range(3, 100):
    try:
        found += os.fstat(number).st_ino == same
    except OSError:
        pass
print(found)
"""


def test_a_synced_directory_is_closed_in_a_thread_whose_loop_never_turns(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_THREAD_WITH_A_HUB, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
