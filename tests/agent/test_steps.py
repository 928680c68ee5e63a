"""Commands of a real agent on a link that is slow or does not move at all."""

import os
import socket
import subprocess
import sys

from kici.agent.steps import CUT
from tests.agent.conftest import ROOT
from tests.support.waiting import wait_for

#: Writes for ever; in mode "pause" until the link is congested, as its ``progress`` shows.
FLOOD = """
import os, sys
for n in range(10**9):
    os.write(1, b"x" * 99 + b"\\n")
    if n % 1000 == 0:
        open(sys.argv[1], "w").write(str(n))
"""
#: Ends when ``progress`` stands still for a second: then the link is congested.
STALLED = (
    "old=none; now=first; until [ $old = $now ] && [ $now != first ]; do"
    " old=$now; sleep 1; now=$(cat {tmp}/progress || echo first); done"
)


def test_the_tail_of_a_step_is_not_lost_when_the_job_ends_on_a_slow_link(
    worker, start_agent, tmp_path
):
    (tmp_path / "flood.py").write_text(FLOOD)
    start_agent(KICI_MAX_LOG_SIZE_BYTES="1000000000")
    side = worker.accept()
    side.register()
    side.reading.clear()
    flood = f"{sys.executable} {tmp_path}/flood.py {tmp_path}/progress &"
    tail = f"{STALLED.format(tmp=tmp_path)}; seq 1 5000; seq 1 5000 >&2; touch {tmp_path}/done"
    side.dispatch([{"run": flood}, {"run": tail}])
    wait_for((tmp_path / "done").exists)
    wait_for(lambda: not list((tmp_path / "agent").glob("kici-*")))
    side.reading.set()
    end = side.until("job.status", state="success", timeout_s=30)
    assert sorted(map(int, side.log_lines(1))) == sorted([*range(1, 5001)] * 2)
    assert end["data"]["logLines"]["0"] == len(side.log_lines(0))


def test_output_that_somebody_outside_the_job_holds_is_cut_and_the_log_says_so(
    worker, start_agent, tmp_path
):
    give = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('{}')\nsocket.send_fds("
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        step = {"run": give.format(tmp_path / "s") + "s, [b'x'], [1]); print('mine')"}
        start_agent()
        side = worker.accept()
        side.register()
        side.dispatch([step | {"shell": "python"}])
        with listener.accept()[0] as connection:
            _, fds, _, _ = socket.recv_fds(connection, 1, 1)
        side.until("job.status", state="success")
        os.close(fds[0])
    assert side.log_lines(0) == ["mine", CUT]


#: Commands of one job, in a process of its own: it ends all its children.
MANY = """
import os
from gevent import monkey
monkey.patch_all()
from kici.agent import steps
from kici.agent.logs import StepLog
from kici.agent.redact import Redactor
from kici.shell.processes import adopt_orphans

steps.MAX_HELD = 3
said = {}
adopt_orphans()
n_fds = []
commands = steps.Commands(steps.Interrupt(), lambda released: None)
for number in range(8):
    emit = lambda index, lines, stream: said.setdefault(index, []).extend(lines)
    log = StepLog(number, Redactor([]), 1000, emit)
    argv = ["sh", "-c", "echo up; sleep 1000 &"]
    assert commands.run(argv, cwd="/", env=dict(os.environ), log=log, timeout_s=20).ok
    n_fds.append(len(os.listdir("/proc/self/fd")))
assert n_fds[7] == n_fds[4], n_fds
for number in range(8):
    assert said[number] == ["up", steps.CUT][: 2 if number < 5 else 1], said
assert commands.end_everything() == []
assert all(said[number] == ["up"] for number in range(5, 8)), said
"""


def test_background_processes_do_not_use_up_the_descriptors():
    subprocess.run(
        [sys.executable, "-c", MANY],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=True,
    )
