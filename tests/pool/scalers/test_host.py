"""The bare-metal backend with real processes. Runs in a child where gevent is patched in,
as in the pool process; what the child prints is judged here."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kici.config.model import LabelSet, ResourceSpec, Scaler
from kici.pool.scalers.base import LaunchSpec
from kici.pool.scalers.host_start import agent_environment, find_binary, scope_command, wants_scope
from kici.shell import processes
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[3]
#: Of this test process: agents are found by their owner on the whole machine, and other tests
#: run beside these.
OWNER = f"w{os.getpid()}"
MARK = f"KICIWORKER_AGENT={OWNER}/a1"

#: Drives a backend by lines on stdin, prints events: a pool process in small.
DRIVER = """
from gevent import monkey; monkey.patch_all()
import json, os, sys, gevent, socket
from gevent.fileobject import FileObjectThread
from kici.config.model import LabelSet, ResourceSpec, Scaler
from kici.pool.scalers.base import LaunchSpec
from kici.pool.scalers.host import HostBackend
from kici.shell import cgroup
state_dir, binary, group, owner = sys.argv[1:5]
link = socket.socketpair()  # as inherited from a supervisor
os.set_inheritable(link[0].fileno(), True)
label_set = LabelSet(labels=("x",), enriched=("x",), binary_path=binary, env={"FROM_SET": "1"})
scaler = Scaler(name="bm", type="bare-metal", max_agents=5, label_sets=(label_set,))
def report(event):
    told = {"id": event.agent_id, "kind": event.kind, "detail": event.detail}
    print(json.dumps(told), flush=True)
base = cgroup.CgroupBase(group) if group else None
backend = HostBackend(scaler, owner=owner, state_dir=state_dir, report=report, cgroups=base)
if not group:
    backend._cgroups = None
for line in FileObjectThread(0, "r"):
    verb, *words = line.split()
    if verb == "launch":
        env = {"KICI_AGENT_ID": words[0], "KICI_AGENT_TOKEN": "kat_" + "ab" * 32}
        backend.launch(LaunchSpec(agent_id=words[0], scaler=scaler, label_set=label_set, env=env,
                                  limits=ResourceSpec(cpus=1), job_id="j", run_id="r"))
    elif verb == "reap":
        backend.reap(words[0], float(words[1]))
    elif verb == "found":
        print(json.dumps({"found": [[a.agent_id, a.job_id] for a in backend.found()]}), flush=True)
    elif verb == "adopt":
        backend.adopt(words[0])
    elif verb == "health":
        print(json.dumps({"health": backend.health()}), flush=True)
    elif verb == "link":
        print(json.dumps({"fd": link[0].fileno()}), flush=True)
"""


class Driver:
    def __init__(
        self, state_dir: Path, binary: str, group: str = "", environ: dict[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(state_dir), binary, group, OWNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "KICI_CLUSTER_JOIN_TOKEN": "secret",
                **(environ or {}),
            },
            text=True,
        )

    def say(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict:
        return json.loads(self.process.stdout.readline())

    def ask(self, line: str) -> dict:
        self.say(line)
        return self.hear()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(5)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def agent_binary(tmp_path):
    def make(body: str) -> str:
        path = tmp_path / "agent.sh"
        path.write_text("#!/bin/bash\n" + body)
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def drive(tmp_path):
    drivers: list[Driver] = []

    def start(binary: str, group: str = "") -> Driver:
        drivers.append(Driver(tmp_path / "state", binary, group))
        return drivers[-1]

    yield start
    for driver in drivers:
        if driver.process.poll() is None:
            driver.kill()
    for one in processes.tree([], mark=MARK):
        os.kill(one.pid, 9)


def gone(pid: int) -> bool:
    found = processes.look(pid)
    return found is None or found.zombie


# S114 S116 S117
def test_an_agent_starts_with_a_clean_environment_group_and_no_arguments(
    drive, agent_binary, tmp_path
):
    driver = drive(agent_binary("env > env.txt; echo $# > args; ls -l /proc/$$/fd > fds; sleep 60"))
    link = driver.ask("link")["fd"]
    started = driver.ask("launch a1")
    assert started["kind"] == "started", started
    assert "pid" in started["detail"]
    assert "limits not enforced" in started["detail"]
    home = tmp_path / "state/agents/a1"
    pid = json.loads((home / "agent.json").read_text())["pid"]
    assert (home / "agent.json").stat().st_mode & 0o777 == 0o600
    assert "kat_" not in (home / "agent.json").read_text()
    fds = wait_for(lambda: (home / "fds").exists() and (home / "fds").read_text())
    assert f" {link} ->" not in fds
    environment = dict(x.split("=", 1) for x in (home / "env.txt").read_text().splitlines())
    assert environment["KICI_PORT"] == "0"
    assert environment["KICI_EXECUTION_MODE"] == "bare-metal"
    assert environment["KICI_SCALER_MANAGED"] == "1"
    assert environment["KICI_AGENT_TOKEN"].startswith("kat_")
    assert environment["FROM_SET"] == "1"
    assert "KICI_CLUSTER_JOIN_TOKEN" not in environment
    assert (home / "args").read_text() == "0\n"
    me = processes.look(pid)
    assert me.group == pid
    assert me.session == pid
    driver.say("reap a1 5")
    exited = driver.hear()
    assert exited["kind"] == "exited"
    assert "SIGTERM" in exited["detail"]
    assert gone(pid)
    assert not home.exists()


# S118
def test_reaping_kills_what_ignores_term_and_what_left_the_session(drive, agent_binary, tmp_path):
    body = (
        "trap '' TERM; setsid sleep 1001 & echo $! > one; "
        "(setsid bash -c 'trap \"\" TERM; echo $$ > two; sleep 1002' &) ; "
        "while [ ! -s two ]; do sleep 0.05; done; touch ready; while true; do sleep 1; done"
    )
    driver = drive(agent_binary(body))
    assert driver.ask("launch a1")["kind"] == "started"
    home = tmp_path / "state/agents/a1"
    wait_for(lambda: (home / "ready").exists())
    pids = [int((home / name).read_text()) for name in ("one", "two")]
    begun = time.monotonic()
    driver.say("reap a1 0.5")
    assert driver.hear()["kind"] == "exited"
    assert time.monotonic() - begun < 5.5
    assert all(gone(pid) for pid in pids)
    driver.say("reap a1 0")  # unknown by now: harmless
    assert driver.ask("found") == {"found": []}


def test_what_an_agent_leaves_behind_is_ended_when_it_exits(drive, agent_binary, tmp_path):
    driver = drive(agent_binary(f"setsid sleep 1003 & echo $! > {tmp_path}/p"))
    assert driver.ask("launch a1")["kind"] == "started"
    exited = driver.hear()
    assert exited["kind"] == "exited"
    assert "exit code" in exited["detail"]
    assert gone(int((tmp_path / "p").read_text()))


# S119
def test_a_missing_binary_is_a_failure_and_bad_health(drive):
    driver = drive("/nowhere/kici-agent")
    assert "missing" in driver.ask("health")["health"]
    failed = driver.ask("launch a1")
    assert failed["kind"] == "failed"
    assert "/nowhere/kici-agent" in failed["detail"]


def test_a_file_that_cannot_be_executed_fails_with_a_reason(drive, tmp_path):
    path = tmp_path / "broken"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    failed = drive(str(path)).ask("launch a1")
    assert failed["kind"] == "failed"
    assert "No such file" in failed["detail"]


def test_the_end_is_told_with_the_tail_of_the_output_and_without_tokens(drive, agent_binary):
    driver = drive(agent_binary("seq 1 100; echo $KICI_AGENT_TOKEN >&2; exit 3"))
    assert driver.ask("launch a1")["kind"] == "started"
    detail = driver.hear()["detail"]
    assert detail.startswith("exit code 3\n")
    assert detail.endswith("100\nkat_***")
    assert len(detail.splitlines()) == 51


# S121
def test_an_agent_outlives_its_worker_is_found_adopted_and_reaped(drive, agent_binary, tmp_path):
    binary = agent_binary("sleep 60")
    first = drive(binary)
    assert first.ask("launch a1")["kind"] == "started"
    record = json.loads((tmp_path / "state/agents/a1/agent.json").read_text())
    first.kill()
    assert not gone(record["pid"])
    second = drive(binary)
    assert second.ask("found") == {"found": [["a1", "j"]]}
    second.say("adopt a1")
    second.say("reap a1 2")
    assert second.hear()["kind"] == "exited"
    assert gone(record["pid"])


def test_an_adopted_agent_that_ends_by_itself_is_reported(drive, agent_binary, tmp_path):
    binary = agent_binary("while [ ! -e go ]; do sleep 0.05; done")
    first = drive(binary)
    assert first.ask("launch a1")["kind"] == "started"
    first.kill()
    second = drive(binary)
    assert second.ask("found")["found"]
    second.say("adopt a1")
    (tmp_path / "state/agents/a1/go").touch()
    assert second.hear()["kind"] == "exited"


def test_a_record_of_another_worker_or_of_a_reused_pid_is_left_alone(drive, agent_binary, tmp_path):
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        found = processes.look(stranger.pid)
        for agent_id, owner, started in (("a1", OWNER, "1"), ("a2", "other", found.started)):
            home = tmp_path / "state/agents" / agent_id
            home.mkdir(parents=True)
            record = {
                "agent_id": agent_id,
                "owner": owner,
                "pid": stranger.pid,
                "started": started,
                "scaler": "bm",
                "labels": [],
                "boot": processes.boot_id(),
            }
            (home / "agent.json").write_text(json.dumps(record))
        driver = drive(agent_binary("true"))
        assert driver.ask("found") == {"found": []}
        wait_for(lambda: not (tmp_path / "state/agents/a1").exists())
        assert (tmp_path / "state/agents/a2").exists()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="makes a control group")
def test_a_control_group_lets_nobody_escape(drive, agent_binary, tmp_path):
    from kici.shell.cgroup import _own_group

    own = _own_group("/proc/self/mountinfo", "/proc/self/cgroup")
    if own is None or not os.access(own, os.W_OK):
        pytest.skip("no writable cgroup v2 tree")
    base = Path(own) / f"kici-test-{os.getpid()}"
    base.mkdir()
    try:
        body = (
            "env -i setsid bash -c '(env -i /bin/sleep 1004 & echo $! > escaped)' & wait; "
            "echo > ready; sleep 60"
        )
        driver = drive(agent_binary(body), str(base))
        started = driver.ask("launch a1")
        assert "cgroup" in started["detail"]
        home = tmp_path / "state/agents/a1"
        wait_for(lambda: (home / "ready").exists())
        pid = int((home / "escaped").read_text())
        assert not gone(pid)
        driver.say("reap a1 1")
        assert driver.hear()["kind"] == "exited"
        assert gone(pid)
        assert list(base.glob("kici-agent-*")) == []
    finally:
        base.rmdir()


def _spec(limits: ResourceSpec | None, *, enforce: bool = True, **env: str) -> LaunchSpec:
    label_set = LabelSet(labels=(), enriched=(), binary_path="/bin/a", env=env)
    scaler = Scaler(
        name="s", type="bare-metal", max_agents=1, label_sets=(label_set,), enforce_cgroups=enforce
    )
    env_ = {"KICI_AGENT_ID": "a1"}
    return LaunchSpec(agent_id="a1", scaler=scaler, label_set=label_set, env=env_, limits=limits)


@pytest.mark.parametrize(
    ("limits", "properties"),
    [
        (ResourceSpec(cpus=1.5), ["--property=CPUQuota=150%"]),
        (ResourceSpec(cpus=0.001), ["--property=CPUQuota=1%"]),
        (
            ResourceSpec(cpus=0.125, memory_bytes=1024),
            ["--property=CPUQuota=13%", "--property=MemoryMax=1024"],
        ),
    ],
)
# S120
def test_a_scope_has_the_limits_as_properties(limits, properties):
    head = ["systemd-run", "--user", "--scope", "--quiet", "--slice=kici-scaler"]
    head.append("--unit=kici-agent-a1")
    assert scope_command("a1", "/bin/a", limits, user=True) == [*head, *properties, "/bin/a"]


# S120
def test_a_scope_is_wanted_with_a_limit_and_when_enforced_only():
    assert wants_scope(_spec(ResourceSpec(cpus=1))) == sys.platform.startswith("linux")
    assert not wants_scope(_spec(None))
    assert not wants_scope(_spec(ResourceSpec()))
    assert not wants_scope(_spec(ResourceSpec(cpus=1), enforce=False))


# S115
def test_a_label_set_overrides_the_environment():
    spec = _spec(None, KICI_AGENT_ID="mine", TMPDIR="/t")
    found = agent_environment(spec, {"PATH": "/bin", "SECRET": "x"}, owner="w", scratch="/s")
    assert found["KICI_AGENT_ID"] == "mine"
    assert found["TMPDIR"] == "/t"
    assert "SECRET" not in found


def test_a_binary_is_looked_up_as_configured(tmp_path):
    assert find_binary("bash", os.environ) == ""
    assert find_binary(None, os.environ) == "binaryPath is not set"
    assert "missing" in find_binary(str(tmp_path), os.environ)


def test_directories_that_nobody_can_own_are_cleared_away_when_old(drive, agent_binary, tmp_path):
    driver = drive(agent_binary("true"))
    old, new = (tmp_path / "state/agents" / name for name in ("old", "new"))
    for path in (old, new):
        path.mkdir(parents=True)
        (path / "output.log").write_text("left")
    os.utime(old, (1.0, 1.0))
    driver.ask("found")
    wait_for(lambda: not old.exists())
    assert new.exists()
