"""Source archives that attack their agent: refused or harmless, never an unknown error (A101)."""

import contextlib
import io
import random
import tarfile

import pytest

from kici.agent.archives import _extract
from kici.agent.native import JobRefused


def member(archive, name, data=b"x", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data) if info.isreg() else None)


def link(archive, name, target, kind=tarfile.SYMTYPE):
    member(archive, name, b"", type=kind, linkname=target)


TRICKS = {
    "an absolute name": lambda t: member(t, "/evil"),
    "a way up": lambda t: member(t, "../evil"),
    "a link out": lambda t: (link(t, "l", "/tmp"), member(t, "l/evil")),
    "a link up": lambda t: (link(t, "l", ".."), member(t, "l/evil")),
    "links in a ring": lambda t: (link(t, "a", "b"), link(t, "b", "a"), member(t, "a/x")),
    "a hard link out": lambda t: link(t, "h", "/etc/passwd", tarfile.LNKTYPE),
    "a device": lambda t: member(t, "d", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "a FIFO": lambda t: member(t, "f", b"", type=tarfile.FIFOTYPE),
    "a file as a folder": lambda t: (member(t, "x"), member(t, "x/y")),
    "a path of 3000 parts": lambda t: member(t, "a/" * 3000 + "b"),
    "a root's program": lambda t: member(t, "s", mode=0o6777),
}


def packed(build, mode="w:gz"):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as archive:
        build(archive)
    return content.getvalue()


# A101
@pytest.mark.parametrize("trick", list(TRICKS))
def test_a_tricky_archive_writes_nothing_outside(tmp_path, trick):
    (tmp_path / "archive").write_bytes(packed(TRICKS[trick]))
    inside = tmp_path / "source"
    inside.mkdir()
    with contextlib.suppress(JobRefused):
        _extract(str(tmp_path / "archive"), str(inside))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "source"]
    for path in inside.rglob("*"):
        assert not path.is_symlink() or path.readlink().parent == path.parent.__class__(".")
        assert not path.lstat().st_mode & 0o6000


# A101
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_damaged_archive_is_refused_or_read(tmp_path, mode):
    def build(archive):
        member(archive, "a", b"hello" * 1000)
        link(archive, "l", "a")
        member(archive, "p" * 150, pax_headers={"path": "q" * 200})

    good, rng = packed(build, mode), random.Random(mode)
    refused = 0
    for number in range(150):
        bad = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        path, inside = tmp_path / "archive", tmp_path / f"s{number}"
        path.write_bytes(bad[: rng.randint(1, len(bad))] if rng.random() < 0.3 else bad)
        inside.mkdir()
        try:
            _extract(str(path), str(inside))
        except JobRefused:
            refused += 1
    assert refused > 20


ODD_TIMES = {
    "mtime beyond any clock": {"mtime": 10**20},
    "pax mtime of infinity": {"pax_headers": {"mtime": "inf"}},
    "pax mtime that is no number": {"pax_headers": {"mtime": "nan"}},
}


# A101
@pytest.mark.parametrize("odd", list(ODD_TIMES))
def test_a_time_that_no_file_can_have_is_refused_or_ignored(tmp_path, odd):
    mode = {"format": tarfile.PAX_FORMAT if "pax" in odd else tarfile.GNU_FORMAT}
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", **mode) as archive:
        member(archive, "a", **ODD_TIMES[odd])
    (tmp_path / "archive").write_bytes(content.getvalue())
    (tmp_path / "source").mkdir()
    with contextlib.suppress(JobRefused):
        _extract(str(tmp_path / "archive"), str(tmp_path / "source"))
