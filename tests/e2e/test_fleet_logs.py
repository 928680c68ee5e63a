"""The logs of a worker and its agent over the whole chain, with one command."""

import io
import json
import zipfile

from tests.support.house import House

SECRET = "correct-horse-battery-staple"


def everything(archive, prefix=""):
    """``(name, content)`` of each entry, bundles inside bundles opened too."""
    for name in archive.namelist():
        content = archive.read(name)
        yield prefix + name, content
        if name.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(content)) as nested:
                assert nested.testzip() is None
                yield from everything(nested, f"{prefix}{name}/")


# P66 A84 A93 W145
def test_one_command_collects_the_logs_of_a_worker_and_its_agent(tmp_path):
    (tmp_path / "logs").mkdir()
    house = House(tmp_path, env={"KICI_LOG_DIR": str(tmp_path / "logs")})
    try:
        house.start_coordinator()
        token = house.join_token()
        house.start_worker(token)
        job = house.submit(
            "secretive",
            {"run": "echo it is $S; sleep 60", "secretEnv": {"S": "S"}},
            secrets={"S": SECRET},
        )
        house.wait_log(job, "it is ***")
        target = tmp_path / "bundle.zip"
        shown = house.command("kici-coordinator", "logs", "collect", "-o", str(target), "--json")
        assert json.loads(shown.stdout)["worker"] == "worker-1"
        assert target.stat().st_mode & 0o777 == 0o600
        with zipfile.ZipFile(target) as archive:
            found = dict(everything(archive))
        manifest = json.loads(found["fleet-manifest.json"])
        nodes = {node["kind"]: node for node in manifest["nodes"]}
        assert {node["status"] for node in nodes.values()} == {"ok"}
        agent = f"agents/{nodes['agent']['id']}.zip"
        (log,) = (name for name in found if name.startswith("local/bundle.zip/logs/"))
        assert found[log].count(b'"component":"pool"') > 0
        assert job.encode() in found[log]
        assert b"Registered with orchestrator" in found[f"{agent}/logs/agent.log"]
        assert b"kici_agent_active_jobs 1" in found[f"{agent}/metrics/metrics.txt"]
        credential = json.loads((tmp_path / "data/peer-credential").read_text())["credential"]
        admin = (tmp_path / "coordinator/admin-token").read_text().strip()
        for name, content in found.items():
            for hidden in (SECRET, token.split(".")[2], credential, admin):
                assert hidden.encode() not in content, name
            assert b"kat_" not in content.replace(b"kat_***", b""), name
        # The job and the link did not suffer, nothing is left, a file is not overwritten.
        assert house.job(job)["state"] == "running"
        kept = [path for path in (tmp_path / "runtime").rglob("kici-*") if path.is_file()]
        assert kept == []
        again = house.command("kici-coordinator", "logs", "collect", "-o", str(target), check=False)
        assert (again.returncode, "File exists" in again.stderr) == (1, True)
        house.api("POST", f"/api/v1/jobs/{job}/cancel", {"force": True})
        house.wait_end(job)
        other = house.command(
            *("kici-coordinator", "logs", "collect", "--worker", "nobody"),
            *("-o", str(tmp_path / "other.zip")),
            check=False,
        )
        assert (other.returncode, "nobody" in other.stderr) == (1, True)
        assert not (tmp_path / "other.zip").exists()
    finally:
        house.close()
