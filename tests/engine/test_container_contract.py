"""The container backend keeps the contract that all backends share, on both engines."""

import pytest

from kici.config.model import LabelSet
from kici.pool.scalers.base import LaunchSpec, nobody
from kici.pool.scalers.container import ContainerBackend
from tests.pool.scalers.contract import BackendContract
from tests.support.backend_world import SLEEPER, scaler_for
from tests.support.container_engine import IMAGE, VOLUMES
from tests.support.waiting import until

pytestmark = pytest.mark.engine


class Bench:
    def __init__(self, engine, directory):
        self.events = []
        self.made = []
        self._engine = engine
        self._state_dir = str(directory)
        self._scaler = scaler_for(engine, name="contract")

    def make(self, owner="me", held=nobody):
        backend = ContainerBackend(
            self._scaler,
            owner=owner,
            state_dir=self._state_dir,
            report=self.events.append,
            held=held,
        )
        self.made.append(backend)
        return backend

    def spec(self, agent_id, fail=None, exit_after=None):
        code = SLEEPER if exit_after is None else f"import time; time.sleep({exit_after})"
        label_set = LabelSet(
            labels=("x",),
            enriched=("x",),
            image="kici-nowhere:1" if fail else IMAGE,
            image_pull_policy="Never",
            volumes=VOLUMES,
            env={"CODE": code},
        )
        return LaunchSpec(
            agent_id=agent_id,
            scaler=self._scaler,
            label_set=label_set,
            env={},
            run_id="r1",
            job_id="j1",
        )

    def close(self):
        for backend in self.made:
            backend.close()
        cleaner = self.make()
        for one in cleaner.found():
            cleaner.reap(one.agent_id, 0)
        until(lambda: not cleaner.found())
        cleaner.close()


@pytest.fixture
def bench(engine, tmp_path):
    made = Bench(engine, tmp_path)
    yield made
    made.close()


class TestContainerBackend(BackendContract):
    def started(self, bench, *args, **behaviour):
        backend, agent = super().started(bench, *args, **behaviour)
        return self._connected(backend), agent

    @staticmethod
    def _connected(backend):
        until(lambda: backend.health() == "")
        return backend
