"""What can be said of the packages without installing them."""

import hashlib
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.debian, pytest.mark.slow]


def _fields(path, *names):
    shown = subprocess.run(
        ["dpkg-deb", "-f", path, "Package", *names], capture_output=True, text=True, check=True
    ).stdout
    return dict(line.split(": ", 1) for line in shown.splitlines())


def _digests(directory):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.glob("*")
        if path.suffix in (".deb", ".dsc", ".gz", ".xz")
    }


def test_two_builds_of_one_commit_are_the_same_bytes(packages, revision):
    first = _digests(packages)
    subprocess.run(["packaging/build-deb", revision], cwd=ROOT, check=True, timeout=300)
    assert _digests(packages) == first
    assert sum(name.endswith(".deb") for name in first) == 2


def test_the_worker_is_small_and_for_every_architecture(packages):
    (worker,) = packages.glob("kici-worker_*.deb")
    assert worker.stat().st_size < 400_000
    fields = _fields(worker, "Architecture", "Installed-Size", "Depends")
    assert fields["Architecture"] == "all"
    assert int(fields["Installed-Size"]) < 2048
    assert "python3-gevent (>= 24.11)" in fields["Depends"]


def test_every_dependency_of_setup_py_is_one_of_the_package(packages):
    (worker,) = packages.glob("kici-worker_*.deb")
    depends = _fields(worker, "Depends")["Depends"]
    names = {"pyyaml": "python3-yaml", "python-json-logger": "python3-pythonjsonlogger"}
    names |= {"supervisor": "supervisor"}
    wanted = subprocess.run(
        ["sed", "-n", 's/^        "\\([A-Za-z-]*\\)>=.*/\\1/p', ROOT / "setup.py"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.lower()
    for name in wanted.split():
        assert names.get(name, f"python3-{name}") in depends
    assert len(wanted.split()) > 8


def test_lintian_finds_no_error_and_no_warning(packages):
    (changes,) = packages.glob("*.changes")
    done = subprocess.run(
        ["lintian", "--allow-root", "-i", "-E", "--pedantic", changes],
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))]
    assert found == []
    assert done.returncode == 0, done.stderr


def test_the_repository_is_signed_and_by_hash(repository):
    release = (repository / "dists/stable/InRelease").read_text()
    assert "Acquire-By-Hash: yes" in release
    subprocess.run(
        ["gpgv", "--keyring", repository / "kici-archive-keyring.pgp",
         repository / "dists/stable/InRelease"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    for architecture in ("amd64", "arm64", "armhf"):
        index = repository / f"dists/stable/main/binary-{architecture}"
        digest = hashlib.sha256((index / "Packages.xz").read_bytes()).hexdigest()
        assert (index / "by-hash/SHA256" / digest).exists()
        assert "Package: kici-worker" in (index / "Packages").read_text()


def test_an_older_version_stays_in_the_repository(packages, repository):
    older = repository / "pool/main/k/kici-worker/kici-worker_0.0.9-1_all.deb"
    (worker,) = packages.glob("kici-worker_*.deb")
    older.write_bytes(worker.read_bytes())
    subprocess.run(["packaging/apt-repo", repository], cwd=ROOT, check=True, timeout=60)
    packages_file = repository / "dists/stable/main/binary-arm64/Packages"
    assert older.name in packages_file.read_text()
    older.unlink()
    subprocess.run(["packaging/apt-repo", repository], cwd=ROOT, check=True, timeout=60)
