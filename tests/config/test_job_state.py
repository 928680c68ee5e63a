"""Where what is known of jobs is kept."""

from kici.config.load import load_config
from kici.config.model import job_state_dir


def loaded(tmp_path, **more):
    return load_config(
        {
            "KICI_CLUSTER_COORDINATOR_URL": "ws://127.0.0.1:1/ws/peer",
            "KICI_DATA_DIR": str(tmp_path / "data"),
            "KICI_RUNTIME_DIR": str(tmp_path / "run"),
            "HOME": str(tmp_path),
            **more,
        }
    ).settings


def test_job_state_is_on_the_disk_unless_the_operator_says_volatile(tmp_path):
    assert job_state_dir(loaded(tmp_path)) == str(tmp_path / "data")
    volatile = loaded(tmp_path, KICI_JOB_STATE="volatile")
    assert job_state_dir(volatile) == str(tmp_path / "run")
