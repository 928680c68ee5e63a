"""What the pool reads of its machine."""

import os

from kici.config.model import ScalerConfig
from kici.pool.watching import places, read_machine
from kici.shell.machine_facts import file_systems, memory_available
from tests.support.pool_world import config, label_set, scaler


def test_every_place_that_is_written_to_is_looked_at():
    container = scaler("c", label_set("linux"))
    container = type(container)(
        name="c", type="container", max_agents=1, label_sets=container.label_sets
    )
    here = scaler("s", label_set("linux", env={"TMPDIR": "/mnt/scratch"}))
    found = places(config().settings, ScalerConfig(scalers=(here, container)))
    assert {"/nonexistent", "/mnt/scratch", "/var/lib/docker"} <= set(found)
    assert "/var/lib/docker" not in places(config().settings, ScalerConfig(scalers=(here,)))


def test_a_file_system_is_read_once_and_a_missing_directory_is_left_out(tmp_path):
    (tmp_path / "deeper").mkdir()
    seen = list(file_systems([str(tmp_path), str(tmp_path / "deeper"), "/nonexistent"]))
    assert len(seen) == 1
    path, n_bytes, n_inodes = seen[0]
    assert path == str(tmp_path)
    assert 0 < n_bytes <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    assert n_inodes is None or n_inodes > 0


def test_a_reading_has_what_this_machine_tells(tmp_path):
    reading = read_machine([str(tmp_path)])
    assert reading.disks[0].bytes_free > 0
    assert reading.memory_available == memory_available() or reading.memory_available > 0
