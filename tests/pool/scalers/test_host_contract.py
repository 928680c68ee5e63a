"""The bare-metal backend keeps the contract that all backends share."""

import pytest

from kici.config.model import LabelSet, Scaler
from kici.pool.scalers.base import LaunchSpec
from kici.pool.scalers.host import HostBackend
from tests.pool.scalers.contract import BackendContract

AGENT = '#!/bin/sh\n[ -n "$LIVES_S" ] && exec sleep "$LIVES_S"\nexec sleep 60\n'


class Bench:
    def __init__(self, directory):
        self.events = []
        self._state_dir = str(directory / "state")
        self._binary = directory / "agent.sh"
        self._binary.write_text(AGENT)
        self._binary.chmod(0o755)
        self.made = []

    def _label_set(self, binary, env):
        return LabelSet(labels=("x",), enriched=("x",), binary_path=str(binary), env=env)

    def _scaler(self, label_set):
        return Scaler(name="bm", type="bare-metal", max_agents=3, label_sets=(label_set,))

    def make(self, owner="me"):
        backend = HostBackend(
            self._scaler(self._label_set(self._binary, {})),
            owner=owner,
            state_dir=self._state_dir,
            report=self.events.append,
        )
        self.made.append(backend)
        return backend

    def spec(self, agent_id, fail=None, exit_after=None):
        env = {} if exit_after is None else {"LIVES_S": str(exit_after)}
        label_set = self._label_set("/nowhere" if fail else self._binary, env)
        return LaunchSpec(
            agent_id=agent_id,
            scaler=self._scaler(label_set),
            label_set=label_set,
            env={},
            run_id="r1",
            job_id="j1",
        )


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    for backend in made.made:
        backend.close()


class TestHostBackend(BackendContract):
    pass
