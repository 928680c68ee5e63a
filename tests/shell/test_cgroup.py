"""Which control group is ours to divide."""

import pytest

from kici.shell import cgroup


@pytest.fixture
def tree(tmp_path):
    """``make(own)`` gives mountinfo and cgroup files of a process in the group ``own`` of a
    cgroup v2 tree below ``tmp_path``; all directories are the user's own."""
    root = tmp_path / "cgroup"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"30 23 0:26 / {root} rw - cgroup2 cgroup2 rw\n")

    def make(own):
        group = root / own
        group.mkdir(parents=True)
        for directory in (group, group.parent):
            (directory / "cgroup.procs").touch()
            (directory / "cgroup.subtree_control").touch()
        file = tmp_path / "own"
        file.write_text(f"0::/{own}\n")
        return str(mounts), str(file), root

    return make


@pytest.fixture(autouse=True)
def delegated(monkeypatch):
    """As systemd marks a group that it gave away."""
    given = []

    def getxattr(path, name):
        if name == "trusted.delegate" and path in given:
            return b"1"
        raise OSError(61, "No data available")

    monkeypatch.setattr(cgroup.os, "getxattr", getxattr)
    monkeypatch.setattr(cgroup.os, "getuid", lambda: 0)
    monkeypatch.setattr(cgroup.os.path, "isdir", lambda path: path == "/run/systemd/system")
    return given


def test_agents_lie_beside_the_daemons_subgroup(tree, delegated):
    mounts, own, root = tree("system.slice/kici-worker.service/daemon")
    delegated.append(str(root / "system.slice/kici-worker.service"))
    base = cgroup.delegated_base(mounts, own)
    assert base.path == str(root / "system.slice/kici-worker.service")


def test_a_group_that_was_given_away_whole_is_the_base(tree, delegated):
    mounts, own, root = tree("system.slice/kici-worker.service")
    delegated.append(str(root / "system.slice/kici-worker.service"))
    assert cgroup.delegated_base(mounts, own).path == delegated[0]


def test_a_group_that_is_systemds_is_nobodys_base(tree):
    mounts, own, _root = tree("system.slice/daemon")
    assert cgroup.delegated_base(mounts, own) is None
