"""Nothing of a directory stays, however it was left, and nothing else goes with it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kici.shell.remove_tree import remove_tree

ROOT = Path(__file__).parents[2]
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
    assert remove_tree(str(root))
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
    assert remove_tree(str(root))
    assert [path.name for path in tmp_path.rglob("*")] == ["outside", "kept"]


def test_a_link_in_the_place_of_the_directory_goes_and_what_it_points_to_stays(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").touch()
    (tmp_path / "job").symlink_to(tmp_path / "outside")
    assert remove_tree(str(tmp_path / "job"))
    assert [path.name for path in tmp_path.rglob("*")] == ["outside", "kept"]


def as_nobody(code, *arguments):
    """Run ``code`` as user 65534; it must end with 0."""
    first = "import os, sys, tempfile\nfrom kici.shell.remove_tree import remove_tree\n"
    # The first call loads all that it needs: nobody may not read root's Python.
    first += "remove_tree('/nonexistent')\nos.setuid(65534)\n"
    subprocess.run(
        [sys.executable, "-c", first + code, *arguments],
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
        timeout=30,
    )


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_modes_do_not_save_a_directory_from_its_owner():
    as_nobody(
        "root = tempfile.mkdtemp(); os.makedirs(root + '/a/b/c')\n"
        "open(root + '/a/b/f', 'w').close()\n"
        "for path in ('/a/b/c', '/a/b', '/a', ''): os.chmod(root + path, 0)\n"
        "sys.exit(not remove_tree(root))\n"
    )


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_what_cannot_be_deleted_is_told_and_the_rest_goes():
    root = Path(tempfile.mkdtemp())
    try:
        (root / "a/foreign").mkdir(parents=True)
        (root / "a/foreign/file").touch()
        (root / "own").mkdir()
        os.chown(root, 65534, -1)
        os.chown(root / "own", 65534, -1)
        as_nobody("sys.exit(remove_tree(sys.argv[1]))", str(root))
        assert [path.name for path in root.iterdir()] == ["a"]
    finally:
        remove_tree(str(root))
    assert not root.exists()
