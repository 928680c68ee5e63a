"""The bare-metal backend keeps the contract that all backends share."""

import os

import gevent
import pytest

from kici.config.model import LabelSet, Scaler
from kici.pool.scalers.base import LaunchSpec, nobody
from kici.pool.scalers.host import HostBackend
from kici.pool.scalers.host_record import AgentDirectory, AgentRecord
from tests.pool.scalers.contract import FINAL, GRACE_S, KILL_S, BackendContract
from tests.support.waiting import until

AGENT = '#!/bin/sh\n[ -n "$LIVES_S" ] && exec sleep "$LIVES_S"\nexec sleep 60\n'


class Bench:
    def __init__(self, directory):
        self.events = []
        self._state_dir = str(directory / "state")
        self.agents_dir = directory / "state" / "agents"
        self._binary = directory / "agent.sh"
        self._binary.write_text(AGENT)
        self._binary.chmod(0o755)
        self.made = []

    def _label_set(self, binary, env):
        return LabelSet(labels=("x",), enriched=("x",), binary_path=str(binary), env=env)

    def _scaler(self, label_set):
        return Scaler(name="bm", type="bare-metal", max_agents=3, label_sets=(label_set,))

    def make(self, owner="me", held=nobody):
        backend = HostBackend(
            self._scaler(self._label_set(self._binary, {})),
            # Other test processes run agents of the same names beside this one.
            owner=f"{owner}-{os.getpid()}",
            state_dir=self._state_dir,
            report=self.events.append,
            held=held,
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
    def test_a_dead_agent_that_another_object_holds_is_cleared_by_that_one(self, bench, tmp_path):
        owner = f"me-{os.getpid()}"
        record = AgentRecord(
            agent_id="a1", scaler="bm", owner=owner, labels=(), boot="earlier", pid=1, started="1"
        )
        directory = AgentDirectory(str(tmp_path / "state" / "agents"), "a1")
        directory.make()
        directory.write(record)
        watching = bench.make(held=lambda one: one == "a1")
        assert watching.found() == []
        assert watching._leftovers._clearing == set()
        assert bench.make().found() == []
        until(lambda: not os.path.exists(directory.path))

    @pytest.mark.parametrize("wait_s", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02])
    def test_a_reap_during_the_start_ends_it(self, bench, wait_s):
        """From the fork on there is a process, and for some milliseconds nobody knows it."""
        backend = bench.make()
        for number in range(4):
            agent = f"a{number}"
            backend.launch(bench.spec(agent))
            gevent.sleep(wait_s)
            backend.reap(agent, 0.0)
            until(lambda one=agent: {*FINAL} & {*self.kinds(bench, one)}, GRACE_S + KILL_S)
        assert os.listdir(bench.agents_dir) == []
