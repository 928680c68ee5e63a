"""Nothing of a job stays on the disk, however it was left."""

import os
import subprocess
import sys

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


@pytest.mark.root
def test_modes_do_not_save_a_directory_from_its_owner():
    code = (
        "import os, tempfile, sys\n"
        "from kici.agent.clearing import clear\n"
        "clear('/nonexistent')\n"  # loads all that it needs
        "os.setuid(65534)\n"
        "root = tempfile.mkdtemp(); os.makedirs(root + '/a/b/c')\n"
        "open(root + '/a/b/f', 'w').close()\n"
        "for path in ('/a/b/c', '/a/b', '/a', ''): os.chmod(root + path, 0)\n"
        "clear(root); sys.exit(os.path.exists(root))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
        timeout=30,
    )


@pytest.mark.root
def test_what_cannot_be_deleted_is_named(tmp_path, caplog):
    root = tmp_path / "job"
    (root / "busy").mkdir(parents=True)
    (root / "file").touch()
    mount = ["mount", "-t", "tmpfs", "none", str(root / "busy")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    try:
        clear(str(root))
        assert str(root) in caplog.text
        assert [path.name for path in root.iterdir()] == ["busy"]
    finally:
        subprocess.run(["umount", str(root / "busy")], check=True)
