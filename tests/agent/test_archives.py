"""Source archives that attack their agent: refused or harmless, never an unknown error (A101)."""

import contextlib
import io
import os
import random
import socket
import tarfile
import threading

import gevent
import pytest

from kici.agent import archives
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


def _extract(path, directory, stopped=lambda: False):
    archives._extract(path, directory, stopped)


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


def many(tmp_path, n=2000):
    (tmp_path / "archive").write_bytes(packed(lambda t: [member(t, f"f{i}") for i in range(n)]))
    (tmp_path / "source").mkdir()
    return str(tmp_path / "archive"), str(tmp_path / "source")


def test_the_agent_goes_on_while_an_archive_is_extracted(tmp_path):
    path, inside = many(tmp_path)
    ticks = []

    def tick():
        while True:
            ticks.append(1)
            gevent.sleep(0.001)

    ticking = gevent.spawn(tick)
    _extract(path, inside)
    assert len(list((tmp_path / "source").iterdir())) == 2000
    assert len(ticks) > 3
    ticking.kill()


# A95
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_extraction_can_be_ended(tmp_path, mode):
    data = packed(lambda t: [member(t, f"f{i}", os.urandom(20_000)) for i in range(200)], mode)
    (tmp_path / "archive").write_bytes(data)
    inside = tmp_path / "source"
    inside.mkdir()
    begun = (inside / "f0").exists
    with pytest.raises(JobRefused, match="ended"):
        _extract(str(tmp_path / "archive"), str(inside), begun)
    assert len(list(inside.iterdir())) < 200


# A101
def test_an_archive_that_unpacks_to_more_than_a_disk_holds_is_refused(tmp_path):
    info = tarfile.TarInfo("huge")
    info.size = archives.MAX_UNPACKED_BYTES
    start = packed(lambda t: member(t, "a"), "w")[:1024]
    (tmp_path / "archive").write_bytes(start + info.tobuf())
    (tmp_path / "source").mkdir()
    with pytest.raises(JobRefused, match="too big"):
        _extract(str(tmp_path / "archive"), str(tmp_path / "source"))
    assert not (tmp_path / "source/huge").exists()


class Origin:
    """Owns: a server that answers one request with ``answer``, then waits or hangs up."""

    def __init__(self, answer, *, waits):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/a.tar"
        self.asked, self.over = threading.Event(), threading.Event()
        self._answer, self._waits = answer, waits
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(self._answer)
            self.asked.set()
            if self._waits:
                self.over.wait(60)

    def close(self):
        self.over.set()
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def origin():
    opened = []

    def open_one(answer, *, waits=False):
        opened.append(Origin(answer, waits=waits))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
STEPS = [{"name": "s", "run": "true"}]


# A95
@pytest.mark.parametrize("answer", [b"", HEAD, HEAD + b"x" * 5000])
def test_a_download_that_stands_still_ends_with_its_job(worker, start_agent, origin, answer):
    server = origin(answer, waits=True)
    start_agent()
    side = worker.accept()
    side.register()
    side.dispatch(STEPS, sourceTarUrl=server.url)
    assert server.asked.wait(10)
    side.send("job.cancel", messageId="c", runId="run-1", jobId="job-1", reason="by me")
    end = side.until("job.status", state="cancelled", timeout_s=10)
    assert end["data"]["error"] == "by me"
    side.until("agent.status", activeJobs=0)


# A101
def test_a_download_that_ends_early_is_refused(tmp_path, origin):
    server = origin(HEAD + packed(lambda t: member(t, "a"), "w")[:1024])
    with pytest.raises(JobRefused, match="cannot be fetched: IncompleteRead"):
        archives.fetch_archive(server.url, None, str(tmp_path), str(tmp_path), lambda: False)
    assert not list(tmp_path.iterdir())
