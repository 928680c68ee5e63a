"""The installed package in a booted Debian 13."""

import shutil
import time
from pathlib import Path

import pytest

from tests.support import slow_job as slow

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.systemd, pytest.mark.debian, pytest.mark.root, pytest.mark.slow]

JOB = """\
name: probe
runs-on: [self-hosted, linux]
steps:
  - name: where it must not write
    run: |
      for path in /usr/x /etc/kici/x /boot/x /var/lib/x; do
        if touch "$path" 2>/dev/null; then echo "could write $path"; exit 1; fi
      done
      if cat /etc/kici/worker.env 2>/dev/null; then exit 1; fi
      if grep -q '^CapEff:.*[1-9a-f]' /proc/self/status; then exit 1; fi
      echo contained
"""


def _main_pid(machine):
    return machine.run("systemctl show -P MainPID kici-worker")


def test_an_installation_starts_nothing_and_leaves_supervisor_alone(machine):
    assert machine.try_run("systemctl is-enabled kici-worker")[1] == "disabled"
    assert machine.try_run("systemctl is-active kici-worker kici-coordinator supervisor")[1] == (
        "inactive\ninactive\ninactive"
    )
    assert "/var/lib/kici-worker:/usr/sbin/nologin" in machine.run("getent passwd kici-worker")
    assert machine.run("stat -c %a /etc/kici/worker.env") == "640"
    for command in ("kici-worker version", "kici-agent --version", "kici --help",
                    "kici-admin --help", "kici-coordinator --help"):  # fmt: skip
        machine.run(command)


def test_supervisor_runs_when_somebody_else_has_a_program_for_it(machine):
    machine.run("systemctl start supervisor")
    assert machine.try_run("systemctl is-active supervisor")[1] == "inactive"
    machine.put("/etc/supervisor/conf.d/other.conf", "[program:other]\ncommand=sleep 999\n")
    machine.run("systemctl start supervisor; systemctl is-active supervisor")


def test_a_wrong_configuration_fails_once_with_its_reason(machine):
    machine.run("echo KICI_PORT=abc >> /etc/kici/worker.env")
    assert machine.try_run("systemctl start kici-worker")[0] != 0
    status = machine.try_run("systemctl status kici-worker --no-pager -l")[1]
    assert "status=78" in status
    assert "KICI_PORT: expected a whole number" in status
    assert machine.run("systemctl show -P NRestarts kici-worker") == "0"


def test_the_hardening_scores_as_promised(machine):
    shown = machine.try_run("systemd-analyze security --no-pager kici-worker kici-coordinator")[1]
    scores = [float(line.split()[6]) for line in shown.splitlines() if "Overall" in line]
    print(f"systemd-analyze security: {scores}")
    assert len(scores) == 2
    assert max(scores) <= 2.0
    machine.run(
        "install -D -t /etc/systemd/system/kici-worker.service.d"
        " /usr/share/doc/kici-worker/examples/host-agents.conf; systemctl daemon-reload"
    )
    shown = machine.try_run("systemd-analyze security --no-pager kici-worker")[1]
    (score,) = [float(line.split()[6]) for line in shown.splitlines() if "Overall" in line]
    print(f"with host agents: {score}")
    assert score <= 5.0


# W147
def test_three_commands_from_blank_to_a_finished_contained_job(blank):
    began = time.monotonic()
    blank.run("apt-get update -qq; apt-get install -y -qq kici-worker kici-coordinator", 120)
    # On one machine the coordinator has the port that both have by default.
    blank.run("systemctl start kici-coordinator; echo KICI_PORT=4001 >> /etc/kici/worker.env")
    blank.wait_for(
        "kici-admin peer create-token --role worker --json | jq -er .token > /root/token"
    )
    said = blank.run(
        "kici-worker setup --non-interactive --coordinator-url ws://127.0.0.1:4000"
        " --token-file /root/token --labels self-hosted,linux,runtime:native --backend host"
    )
    assert "The worker runs" in said
    assert "coordinator" in said.partition("The worker runs")[2]  # doctor's findings
    blank.put("/root/job.yaml", JOB)
    output = blank.run("kici run /root/job.yaml --follow", 60)
    print(f"blank machine to first job: {time.monotonic() - began:.1f} s")
    assert "contained" in output
    for spent in ("/etc/kici/join-token", "/var/lib/kici-worker/join-token"):
        assert blank.try_run(f"test -s {spent}")[0] != 0
    assert blank.run("systemctl is-enabled kici-worker") == "enabled"
    assert blank.run("systemctl show -P StatusText kici-worker")
    blank.wait_for(
        "test 3 = $(KICI_RUNTIME_DIR=/run/kici-worker kici-workerctl status | grep -c RUNNING)"
    )
    blank.run("systemctl reload kici-worker; systemctl is-active kici-worker")


# W123, W147
def test_a_stop_waits_for_the_running_job_and_delivers_its_result(running):
    job = slow.start(running)
    slow.let_go(running, 2)
    began = time.monotonic()
    running.run("systemctl stop kici-worker", 60)
    assert time.monotonic() - began > 1
    assert running.run("systemctl show -P Result kici-worker") == "success"
    slow.ends_whole(running, job)


def test_a_killed_daemon_is_restarted_and_adopts_the_running_job(running):
    job = slow.start(running)
    killed = _main_pid(running)
    running.run(f"kill -9 {killed}")
    running.wait_for(
        f'test "$(systemctl show -P MainPID kici-worker)" != {killed}'
        " && systemctl is-active kici-worker"
    )
    slow.ends_whole(running, job)


def test_a_child_that_hangs_is_replaced_and_a_daemon_that_hangs_is_restarted(running):
    pool = running.run("pgrep -f '^kici-worker: pool'")
    running.run(f"kill -STOP {pool}")
    running.wait_for(f"test $(pgrep -f '^kici-worker: pool') != {pool}", 60)
    running.put("/etc/systemd/system/kici-worker.service.d/test.conf", "[Service]\nWatchdogSec=2\n")
    running.run("systemctl daemon-reload; systemctl restart kici-worker")
    main = _main_pid(running)
    running.run(f"kill -STOP {main}")
    running.wait_for(
        f'test "$(systemctl show -P MainPID kici-worker)" != {main}'
        " && systemctl is-active kici-worker",
        30,
    )
    assert "Watchdog timeout" in running.run("journalctl -u kici-worker -o cat | grep -i watchdog")


def test_the_package_passes_its_own_autopkgtest(machine):
    shutil.copytree(ROOT / "packaging/debian/tests", machine.root / "opt/tests")
    machine.run("export AUTOPKGTEST_TMP=$(mktemp -d); /opt/tests/commands", 60)
    machine.run("/opt/tests/service", 120)


@pytest.fixture
def files_before(blank):
    """Every file of the machine before we were installed."""
    return _files(blank)


def test_remove_keeps_the_state_and_purge_leaves_nothing(files_before, joined):
    joined.run("systemctl enable kici-worker; systemctl stop kici-worker kici-coordinator")
    joined.run("apt-get remove -y -qq kici-worker kici-coordinator", 120)
    joined.run("test -s /var/lib/kici-worker/peer-credential; test -e /etc/kici/worker.env")
    joined.run("apt-get install -y -qq kici-worker", 120)
    joined.run("systemctl start kici-worker; systemctl stop kici-worker")
    joined.run("apt-get purge -y -qq kici-worker kici-coordinator", 120)
    # The drop-in is the administrator's, put there by this test.
    dropin = "/etc/systemd/system/kici-worker.service.d"
    left = {path for path in _files(joined) - files_before if not path.startswith(dropin)}
    assert left == set()
    assert files_before - _files(joined) == set()
    joined.run("getent passwd kici-worker")


def _files(machine):
    """Paths, but for those that every machine changes all the time."""
    pruned = (
        "/proc /sys /dev /run /tmp /var/tmp /var/log/journal /var/cache /var/lib/apt /root /opt"
    )
    also = "/var/lib/dpkg /var/lib/systemd/random-seed /var/lib/systemd/timers"
    skip = " -o ".join(f"-path {path}" for path in f"{pruned} {also}".split())
    return set(machine.run(f"find / \\( {skip} \\) -prune -o -print").splitlines())
