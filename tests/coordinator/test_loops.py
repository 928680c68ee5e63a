"""When the coordinator wakes up: counted, not timed."""

import gevent
import pytest

from kici.coordinator import main
from kici.coordinator.service import Service
from kici.coordinator.settings import CoordinatorSettings
from kici.coordinator.store import StoreError
from tests.support.waiting import until

#: Ticks for which nothing happens.
IDLE_TICKS = 30


class CountingService(Service):
    n_ticks = 0
    n_flushes = 0

    def tick(self):
        self.n_ticks += 1
        super().tick()

    def flush(self):
        self.n_flushes += 1
        super().flush()


@pytest.fixture
def service(tmp_path, monkeypatch):
    # The same proportion as in earnest, so that five flushes would fit into one tick.
    monkeypatch.setattr(main, "TICK_S", 0.01)
    monkeypatch.setattr(main, "BATCH_S", 0.002)
    made = CountingService(CoordinatorSettings(data_dir=str(tmp_path / "data")))
    loops = main.start_loops(made)
    yield made
    gevent.killall(loops)
    made.store.close()


def tick_on(service):
    enough = service.n_ticks + IDLE_TICKS
    until(lambda: service.n_ticks >= enough)


def test_nothing_is_flushed_while_nothing_is_written(service):
    tick_on(service)
    assert service.n_flushes == 1  # what was written before the loops began


def test_what_is_written_is_committed_soon_and_once(service):
    tick_on(service)
    service.store.write("UPDATE jobs SET reason = 'x'")
    service.store.write("UPDATE jobs SET reason = 'y'")
    until(lambda: service.n_flushes == 2)
    assert not service.store.dirty
    tick_on(service)
    assert service.n_flushes == 2


def test_a_refused_commit_does_not_end_the_flushing(service, monkeypatch):
    def full():
        service.store.rollback()
        raise StoreError("database or disk is full")

    tick_on(service)
    with monkeypatch.context() as patched:
        patched.setattr(service.store, "commit", full)
        service.store.write("UPDATE jobs SET reason = 'x'")
        until(lambda: service.n_flushes == 2)
    service.store.write("UPDATE jobs SET reason = 'y'")
    until(lambda: service.n_flushes == 3)
    assert not service.store.dirty
