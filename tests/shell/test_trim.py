"""Memory goes back once a burst is over."""

import gevent
import pytest

from kici.shell import host, trim
from kici.shell.trim import BURST_BYTES, Trimmer


@pytest.fixture
def trims(monkeypatch):
    made = []
    monkeypatch.setattr(host, "return_freed_memory", lambda: made.append(1))
    return made


def wait_for_trims(trimmer, count):
    with gevent.Timeout(5):
        while trimmer.n_trims < count:
            gevent.sleep(0.005)


def test_small_traffic_trims_nothing_and_starts_nothing(trims, monkeypatch):
    started = []
    monkeypatch.setattr(trim.gevent, "spawn", started.append)
    trimmer = Trimmer(quiet_s=0.01)
    trimmer.passed(BURST_BYTES - 1)
    assert (trims, started) == ([], [])


def test_a_burst_is_trimmed_once_when_it_is_over_and_so_is_the_next(trims):
    trimmer = Trimmer(quiet_s=0.02)
    for _ in range(5):
        trimmer.passed(BURST_BYTES)
        gevent.sleep(0.004)
        assert trims == []
    wait_for_trims(trimmer, 1)
    trimmer.passed(BURST_BYTES)
    wait_for_trims(trimmer, 2)
    assert trims == [1, 1]


@pytest.mark.skipif(not host.abstract_sockets(), reason="needs glibc's malloc_trim")
def test_the_c_library_can_be_asked(tmp_path):
    kept = [bytes(20_000) for _ in range(2000)]
    last = bytes(20_000)
    del kept
    assert host.return_freed_memory()
    assert len(last) == 20_000
