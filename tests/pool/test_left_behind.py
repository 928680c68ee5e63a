"""Scalers that were removed while the worker was down are known again at the next start."""

from kici.config.model import LabelSet, Scaler
from kici.pool.left_behind import LeftBehind

SECRET = "s3cr3t-value"


def boxes(name="boxes", **more):
    label_set = LabelSet(labels=("Linux",), enriched=("linux",), image="img:1", env={"KEY": SECRET})
    return Scaler(name=name, type="container", max_agents=4, label_sets=(label_set,), **more)


def later(tmp_path, *configured):
    return [one.name for one in LeftBehind(str(tmp_path), "w1").look_back(configured)]


def test_a_container_scaler_is_known_after_its_removal_with_its_engine(tmp_path):
    LeftBehind(str(tmp_path), "w1").configured([boxes(socket_path="/run/x.sock"), boxes("other")])
    again = LeftBehind(str(tmp_path), "w1")
    (left,) = again.look_back(["other"])
    assert (left.name, left.socket_path, left.max_agents) == ("boxes", "/run/x.sock", 0)
    assert left.label_sets[0].labels == ("Linux",)
    assert again.names == {"boxes"}
    assert again.complete


def test_no_environment_is_written_down(tmp_path):
    LeftBehind(str(tmp_path), "w1").configured([boxes()])
    (file,) = tmp_path.iterdir()
    assert SECRET not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_it_is_looked_after_until_nothing_is_left(tmp_path):
    LeftBehind(str(tmp_path), "w1").configured([boxes()])
    assert later(tmp_path) == ["boxes"]
    again = LeftBehind(str(tmp_path), "w1")
    again.look_back([])
    again.gone("boxes")
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
    assert damaged.look_back([]) == []
