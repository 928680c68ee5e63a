"""The order in which disk, pool and coordinator learn of a job, on a real outbox."""

import contextlib
import errno
import os
import time

import gevent
import pytest

from kici.contracts.link import JobKey
from kici.contracts.link.jobs import JobAccepted, JobFinished, JobStored
from kici.peer.desk import PeerDesk
from kici.peer.outbox import Outbox
from kici.protocol.offer_actions import failed
from kici.protocol.offers import Offers
from kici.protocol.peer_actions import Offered, Receipted
from kici.shell import durable

URL = "ws://127.0.0.1:4000"
KEY = JobKey(owner=URL, run_id="r1", job_id="j1")


class Shell:
    """The link to the pool: each message with the open records that the disk had then."""

    def __init__(self, directory):
        self.told = []
        self._directory = directory

    def tell(self, to, message):
        left = sorted(path.name for path in self._directory.glob("*.open"))
        self.told.append((to, message, left))

    def stored(self):
        return [left for _, message, left in self.told if isinstance(message, JobStored)]


class Silent:
    """A coordinator's outflow and a publisher that nobody listens to."""

    def __getattr__(self, name):
        return lambda *args, **more: None


class Anyone(dict):
    def __init__(self):
        super().__init__({URL: Silent()})
        self[URL].outflow = Silent()
        self[URL].counters = {"jobs_accepted": 0}
        self[URL].coordinator_id = "coord-a"


@pytest.fixture
def desk(tmp_path):
    outbox = Outbox(tmp_path / "outbox", [URL], max_age_s=60, wall=time.time)
    outbox.load()
    publisher = Silent()
    publisher.publish_later = lambda name, make: None
    offers = Offers(lambda: 1)
    shell = Shell(tmp_path / "outbox")
    desk = PeerDesk(shell, outbox, None, offers, publisher, Anyone(), Silent())
    desk.offered(URL, Offered(KEY.run_id, KEY.job_id, "m1", b"{}"))
    desk.pool_said(JobAccepted(key=KEY, message_id="m1"))
    settle(desk)
    yield desk
    desk.disk.worker.kill()


def settle(desk):
    with gevent.Timeout(5):
        while not desk.disk.is_idle:
            gevent.sleep(0.001)


FINISHED = JobFinished(key=KEY, state="failed", frame=failed(KEY, "as it is", 1))


def finish(desk):
    desk.pool_said(FINISHED)
    settle(desk)


@contextlib.contextmanager
def full_disk(monkeypatch, *, deletes=True):
    """No room for a report; an entry of a directory can go."""

    def refuse(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        for name in ("write_new", "write_atomic", *([] if deletes else ["remove"])):
            patched.setattr(durable, name, refuse)
        yield


# P53, P56
def test_the_pool_lets_go_once_the_end_is_on_disk(desk):
    finish(desk)
    assert desk._shell.stored() == [[]]


# P53, P56
def test_the_pool_lets_go_of_a_receipted_end_after_its_promise_is_gone(desk, monkeypatch):
    """Else a peer that is killed in between leaves an open record that nobody claims."""
    with full_disk(monkeypatch):
        finish(desk)
        assert desk._shell.stored() == []
        desk.receipted(URL, Receipted(KEY.run_id, KEY.job_id))
        settle(desk)
    assert desk._shell.stored() == [[]]


# P53, P56
def test_a_promise_that_cannot_be_deleted_keeps_the_pools_row(desk, monkeypatch):
    with full_disk(monkeypatch, deletes=False):
        finish(desk)
        desk.receipted(URL, Receipted(KEY.run_id, KEY.job_id))
        finish(desk)
        assert desk._shell.stored() == []
    desk.disk.in_thread(desk._outbox.retry_unwritten)
    finish(desk)
    assert desk._shell.stored() == [[]]


# P53
def test_a_report_that_the_disk_refused_wakes_the_housekeeper(desk, monkeypatch):
    with full_disk(monkeypatch):
        finish(desk)
    assert desk.performer.refused.is_set()
