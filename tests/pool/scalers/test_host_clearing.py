"""Directories of an earlier instance id are deleted when they are old, and dead."""

import logging
import os

import pytest

from kici.pool.scalers.base import CleaningBudget
from kici.pool.scalers.host_clearing import HostLeftovers
from kici.pool.scalers.host_record import AgentDirectory, AgentRecord
from kici.shell import processes

AGE_S = 3600.0


def made(root, name, *, owner="earlier", age_s=2 * AGE_S, **more):
    record = AgentRecord(
        agent_id=name, scaler="bm", owner=owner, labels=("x",), boot="another boot", **more
    )
    if more:
        record = AgentRecord(
            agent_id=name, scaler="bm", owner=owner, labels=("x",), boot=processes.boot_id(), **more
        )
    directory = AgentDirectory(str(root), name)
    directory.make()
    directory.write(record)
    at = os.stat(directory.path).st_mtime - age_s
    os.utime(directory.path, (at, at))


@pytest.fixture
def clean(tmp_path):
    def clean(age_s=AGE_S):
        HostLeftovers(str(tmp_path), "w1").clean(CleaningBudget(agents_max_age_s=age_s))
        return sorted(os.listdir(tmp_path))

    return clean


def test_an_old_dead_one_of_an_earlier_instance_goes_and_the_log_says_why(tmp_path, clean, caplog):
    caplog.set_level(logging.INFO)
    made(tmp_path, "old")
    made(tmp_path, "young", age_s=AGE_S / 2)
    made(tmp_path, "ours", owner="w1")
    assert clean() == ["ours", "young"]
    (said,) = caplog.records
    assert "KICI_CLEAN_AGENTS_MAX_AGE" in said.reason
    assert "instance id earlier" in said.reason


def test_one_that_lives_stays(tmp_path, clean):
    me = processes.look(os.getpid())
    made(tmp_path, "alive", pid=me.pid, started=me.started)
    assert clean() == ["alive"]


def test_off_deletes_nothing(tmp_path, clean):
    made(tmp_path, "old")
    assert clean(0.0) == ["old"]
