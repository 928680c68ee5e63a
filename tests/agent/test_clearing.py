"""Nothing of a job stays on the disk, however it was left."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kici.agent.clearing import clear
from tests.agent.conftest import ROOT

#: Directories nested so deeply that no path names the last one.
DEEP = 1200


def nest(directory, n_levels):
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(n_levels):
        os.mkdir("level", dir_fd=fd)
        below = os.open("level", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.fchmod(fd, 0)
    os.close(fd)


def test_directories_deeper_than_any_path_are_deleted(tmp_path):
    root = tmp_path / "job"
    (root / "a/b").mkdir(parents=True)
    nest(root / "a", DEEP)
    nest(root / "a/b", 3)
    clear(str(root))
    assert list(tmp_path.iterdir()) == []


def test_what_links_point_to_stays(tmp_path):
    root, outside = tmp_path / "job", tmp_path / "outside"
    (root / "d").mkdir(parents=True)
    outside.mkdir()
    (outside / "kept").touch()
    (root / "d/link").symlink_to(outside)
    (root / "link").symlink_to(outside)
    (root / "d/nowhere").symlink_to("missing")
    os.mkfifo(root / "d/fifo")
    clear(str(root))
    assert [path.name for path in tmp_path.rglob("*")] == ["outside", "kept"]


def as_nobody(code, *arguments):
    """Run ``code`` as user 65534; its standard error."""
    first = "import os, sys, tempfile\nfrom kici.agent.clearing import clear\n"
    # A clearing loads all that it needs: nobody may not read root's Python.
    first += "clear('/nonexistent')\nos.setuid(65534)\n"
    return subprocess.run(
        [sys.executable, "-c", first + code, *arguments],
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stderr


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_modes_do_not_save_a_directory_from_its_owner():
    as_nobody(
        "root = tempfile.mkdtemp(); os.makedirs(root + '/a/b/c')\n"
        "open(root + '/a/b/f', 'w').close()\n"
        "for path in ('/a/b/c', '/a/b', '/a', ''): os.chmod(root + path, 0)\n"
        "clear(root); sys.exit(os.path.exists(root))\n"
    )


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_what_cannot_be_deleted_is_named_and_the_rest_goes():
    root = Path(tempfile.mkdtemp())
    try:
        (root / "a/foreign").mkdir(parents=True)
        (root / "a/foreign/file").touch()
        (root / "own").mkdir()
        os.chown(root, 65534, -1)
        os.chown(root / "own", 65534, -1)
        said = as_nobody("clear(sys.argv[1])", str(root))
        assert f"Directory {root} of a job could not be deleted" in said
        assert [path.name for path in root.iterdir()] == ["a"]
    finally:
        clear(str(root))
    assert not root.exists()
