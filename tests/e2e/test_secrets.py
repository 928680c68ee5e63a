"""Where secrets must not be: every log, file, command line and environment of a whole house."""

import json
from pathlib import Path

import pytest

from tests.support.house import House

SECRET = "correct-horse-battery-staple"
CLONE = "clone-token-of-the-job-0042"


def processes(house):
    """Pid, command line and environment of everything that belongs to this house."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            argv = (entry / "cmdline").read_bytes()
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(house.root).encode() in argv + environ or str(house.port).encode() in environ:
            found[int(entry.name)] = (argv, environ)
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
# A93 P48 W145
def test_no_secret_is_in_any_log_file_title_or_foreign_environment(tmp_path):
    house = House(tmp_path)
    try:
        house.start_coordinator()
        token = house.join_token()
        house.start_worker(token)
        job = house.submit(
            "secretive",
            {"run": "echo it is $S; sleep 5; exit 1", "secretEnv": {"S": "S"}},
            secrets={"S": SECRET, "unused": CLONE},
        )
        house.wait_log(job, "it is ***")
        credential = json.loads((tmp_path / "data/peer-credential").read_text())["credential"]
        admin = (tmp_path / "coordinator/admin-token").read_text().strip()
        agents = house.agents()
        assert agents
        for argv, environ in processes(house).values():
            for hidden in (SECRET, CLONE, token, credential, admin, "kat_"):
                assert hidden.encode() not in argv
            for hidden in (credential, admin, CLONE):
                assert hidden.encode() not in environ
        # Running and afterwards: what is written, and what is said over HTTP.
        for _ in range(2):
            for path in (entry for entry in tmp_path.rglob("*") if entry.is_file()):
                data = path.read_bytes()
                for hidden in (SECRET, CLONE, token.split(".")[2]):
                    assert hidden.encode() not in data, path
                assert credential.encode() not in data or path.name == "peer-credential", path
                assert admin.encode() not in data or path.name == "admin-token", path
                if path.suffix == ".log":
                    assert b"kat_" not in data.replace(b"kat_***", b""), path
            for place in ("/", "/status", "/metrics", f"/jobs/{job}"):
                text = str(house.web("GET", place)[1])
                for hidden in (SECRET, CLONE, token, credential):
                    assert hidden not in text
            house.wait_end(job)
        modes = {
            path.name: path.stat().st_mode & 0o777
            for path in tmp_path.rglob("*")
            if path.name in ("peer-credential", "admin-token") or path.suffix == ".sock"
        }
        assert modes
        assert set(modes.values()) == {0o600}, modes
    finally:
        house.close()
