"""A bug of the agent's own ends its job, not the agent, and is loud in its log."""

import subprocess
import sys

from tests.agent.conftest import ROOT

#: A job whose reporter has a bug, in a process of its own: it ends all its children.
JOB = """
from gevent import monkey
monkey.patch_all()
import logging
from kici.agent.jobs import JobRun
from kici.agent.settings import read_settings
from kici.contracts.wire.agent.jobs import JobDispatch

logging.basicConfig()

class Reporter:
    def log(self, step_index, lines, stream): pass
    def pause(self, released): pass
    def step(self, step_index, name, state, **more): raise KeyError("bug with hidden-secret")
    def finished(self, state, data): print(state, data["error"])
    def cleaned(self): print("cleaned")

native = {"steps": [{"run": "true"}]}
ids = {"message_id": "m", "run_id": "r", "job_id": "j", "timestamp": 1}
where = {"repo_url": "", "ref": "", "sha": "", "lock_file_url": ""}
dispatch = JobDispatch(
    job_config={"native": native}, secrets={"S": "hidden-secret"}, **ids, **where
)
settings = read_settings({"KICI_ORCHESTRATOR_URL": "ws://w:4000/ws"}, find=lambda tool: tool)
JobRun(dispatch, settings, Reporter()).run()
"""


# A90 A93
def test_a_bug_ends_the_job_with_its_name_and_the_log_has_it_without_secrets():
    done = subprocess.run(
        [sys.executable, "-c", JOB],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.splitlines() == ["failed agent: internal error (KeyError)", "cleaned"]
    assert "Traceback" in done.stderr
    assert "bug with ***" in done.stderr
    assert "hidden-secret" not in done.stderr
    assert done.returncode == 0
