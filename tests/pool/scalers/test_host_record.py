"""What host agents leave on disk belongs to somebody, or is cleared away."""

import os

from kici.pool.scalers import host_leftovers
from kici.pool.scalers.host_record import AgentDirectory, AgentRecord, nameless


def record(state_dir, agent_id, owner="w1", scaler="s1"):
    directory = AgentDirectory(str(state_dir), agent_id)
    directory.make()
    directory.write(
        AgentRecord(agent_id=agent_id, scaler=scaler, owner=owner, labels=("x",), boot="b")
    )
    return directory.path


def aged(path, seconds):
    at = os.stat(path).st_mtime - seconds
    os.utime(path, (at, at))
    return str(path)


def test_only_old_directories_without_a_readable_record_are_nameless(tmp_path):
    aged(record(tmp_path, "owned"), 9999)
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    aged(old, 9999)
    (tmp_path / "file").write_text("no directory")
    assert nameless(str(tmp_path), os.stat(new).st_mtime - 60) == [str(old)]
    assert nameless(str(tmp_path / "missing"), 0.0) == []


def test_leftovers_are_told_by_scaler_and_owner(tmp_path):
    agents = tmp_path / "agents"
    agents.mkdir()
    record(agents, "a1")
    record(agents, "a2", scaler="s2")
    record(agents, "a3", owner="another")
    assert host_leftovers(str(tmp_path), "w1") == {"s1": {("x",)}, "s2": {("x",)}}
    assert host_leftovers(str(tmp_path / "missing"), "w1") == {}
