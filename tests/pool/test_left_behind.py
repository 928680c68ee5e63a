"""Scalers that were removed while the worker was down are known again at the next start."""

import pytest

from kici.config.model import LabelSet, Scaler
from kici.pool import left_behind
from kici.pool.left_behind import LeftBehind
from kici.pool.scalers.host_record import AgentDirectory, AgentRecord

SECRET = "s3cr3t-value"


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(left_behind, "RETIRE_EVERY_S", 0.001)


def boxes(name="boxes", **more):
    label_set = LabelSet(labels=("Linux",), enriched=("linux",), image="img:1", env={"KEY": SECRET})
    return Scaler(name=name, type="container", max_agents=4, label_sets=(label_set,), **more)


def later(tmp_path, *configured):
    """A later start with these scalers; the names of what it looks after."""
    return list(started(tmp_path, *configured)[1])


def started(tmp_path, *configured):
    one = LeftBehind(str(tmp_path), "w1")
    one.configured(configured)
    return one, one.look_back(configured)


def test_a_container_scaler_is_known_after_its_removal_with_its_engine(tmp_path):
    LeftBehind(str(tmp_path), "w1").configured([boxes(socket_path="/run/x.sock"), boxes("other")])
    again, found = started(tmp_path, boxes("other"))
    left = found["boxes"]
    assert (left.name, left.socket_path, left.max_agents) == ("boxes", "/run/x.sock", 0)
    assert left.label_sets[0].labels == ("Linux",)
    assert again.names == {"boxes"} == set(found)
    assert again.complete


def test_no_environment_is_written_down(tmp_path):
    LeftBehind(str(tmp_path), "w1").configured([boxes()])
    (file,) = tmp_path.iterdir()
    assert SECRET not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_it_is_looked_after_until_nothing_is_left(tmp_path):
    LeftBehind(str(tmp_path), "w1").configured([boxes()])
    assert later(tmp_path) == ["boxes"]
    again, _ = started(tmp_path)
    answers = iter([True, None, False])
    dropped = []
    again.watch(lambda name: next(answers), dropped.append)
    assert dropped == ["boxes"]
    assert again.names == set()
    assert later(tmp_path) == []


def test_the_file_is_written_only_when_something_changed(tmp_path):
    LeftBehind(str(tmp_path), "w1").configured([boxes()])
    (file,) = tmp_path.iterdir()
    file.chmod(0o640)
    LeftBehind(str(tmp_path), "w1").configured([boxes()])
    assert file.stat().st_mode & 0o777 == 0o640
    LeftBehind(str(tmp_path), "w1").configured([boxes(host="tcp://elsewhere:2375")])
    assert file.stat().st_mode & 0o777 == 0o600


def test_without_container_scalers_there_is_no_file(tmp_path):
    LeftBehind(str(tmp_path), "w1").configured([])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_no_proof_that_nothing_is_left(tmp_path):
    (tmp_path / "container-scalers.json").write_text("{")
    damaged = LeftBehind(str(tmp_path), "w1")
    assert not damaged.complete
    assert damaged.look_back([]) == {}


OLD, NEW = {"runtime": "docker"}, {"runtime": "podman"}


def test_a_scaler_that_got_another_engine_is_looked_for_in_the_former_one_too(tmp_path):
    started(tmp_path, boxes(**OLD))
    _, found = started(tmp_path, boxes(**NEW))
    (left,) = found.values()
    assert list(found) == ["boxes (earlier 1)"]
    assert (left.name, left.runtime) == ("boxes", "docker")
    # A third engine; nobody has said meanwhile that nothing is left in the first.
    _, found = started(tmp_path, boxes(runtime="auto"))
    assert {one.runtime for one in found.values()} == {"docker", "podman"}
    assert {one.name for one in found.values()} == {"boxes"}


def test_an_engine_that_a_scaler_has_again_is_no_former_one(tmp_path):
    started(tmp_path, boxes(**OLD))
    started(tmp_path, boxes(**NEW))
    _, found = started(tmp_path, boxes(**OLD))
    assert [one.runtime for one in found.values()] == ["podman"]


def test_an_engine_that_a_reload_changed_is_remembered_for_the_next_start(tmp_path):
    one, _ = started(tmp_path, boxes(**OLD))
    one.configured([boxes(**NEW)])
    one.configured([boxes(**OLD)])
    one.configured([boxes(**NEW)])
    _, found = started(tmp_path, boxes(**NEW))
    assert [left.runtime for left in found.values()] == ["docker"]


def test_a_reload_renames_nothing_that_is_looked_after(tmp_path):
    started(tmp_path, boxes(**OLD))
    one, found = started(tmp_path, boxes(**NEW))
    one.configured([boxes(runtime="auto")])
    one.configured([boxes(**OLD)])
    assert one.names == set(found)
    one.watch(lambda name: False, [].append)
    _, found = started(tmp_path, boxes(**OLD))
    assert {left.runtime for left in found.values()} == {"podman", "auto"}


def test_a_scaler_that_runs_on_the_host_now_had_containers(tmp_path):
    started(tmp_path, boxes(**OLD))
    host = Scaler(name="boxes", type="bare-metal", max_agents=1, label_sets=())
    assert later(tmp_path, host) == ["boxes (earlier 1)"]


def test_a_scaler_that_runs_containers_now_had_host_agents(tmp_path):
    directory = AgentDirectory(str(tmp_path / "agents"), "a1")
    directory.make()
    record = AgentRecord(agent_id="a1", scaler="boxes", owner="w1", labels=("x",), boot="b")
    directory.write(record)
    _, found = started(tmp_path, boxes())
    (left,) = found.values()
    assert (list(found), left.name, left.type) == (["boxes (earlier 1)"], "boxes", "bare-metal")
