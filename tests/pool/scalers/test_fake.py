"""The fake backend keeps the contract."""

import pytest

from kici.pool.scalers import BACKENDS, Unsupported, make_backend
from kici.pool.scalers.base import EventKind, LaunchSpec, nobody
from kici.pool.scalers.fake import FakeBackend
from tests.pool.scalers.contract import BackendContract
from tests.support.pool_world import label_set, scaler
from tests.support.waiting import until


class Bench:
    def __init__(self, state_dir):
        self.events = []
        self._state_dir = str(state_dir)

    def make(self, owner="me", held=nobody):
        return FakeBackend(
            scaler(),
            owner=owner,
            state_dir=self._state_dir,
            report=self.events.append,
            held=held,
        )

    def spec(self, agent_id, fail=None, exit_after=None, **env):
        if fail is not None:
            env["FAKE_FAIL"] = fail
        if exit_after is not None:
            env["FAKE_EXIT_AFTER"] = str(exit_after)
        return LaunchSpec(
            agent_id=agent_id,
            scaler=scaler(),
            label_set=label_set("linux", env=env),
            env={},
            run_id="r1",
            job_id="j1",
        )


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


class TestFakeBackend(BackendContract):
    def test_start_delay_is_obeyed_and_a_reap_in_it_fails_the_launch(self, bench):
        backend = bench.make()
        backend.launch(bench.spec("scaler-x-00000002", FAKE_START_DELAY="30"))
        until(lambda: bench.events)
        backend.reap("scaler-x-00000002", 0)
        until(lambda: bench.events[-1].kind is EventKind.FAILED)


# S85 (R: only that scaler is out of service)
def test_scaler_without_a_backend_is_unsupported_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setitem(BACKENDS, "fake", ("kici.pool.scalers.nothing", "Nothing"))
    with pytest.raises(Unsupported, match="fake backend is not installed"):
        make_backend(scaler(), owner="me", state_dir=str(tmp_path), report=print, held=nobody)


def test_scaler_that_the_configuration_calls_unsupported_is_not_made(tmp_path):
    with pytest.raises(Unsupported, match="needs KVM"):
        make_backend(
            scaler(unsupported="needs KVM"),
            owner="me",
            state_dir=str(tmp_path),
            report=print,
            held=nobody,
        )
