"""One seed of the real chaos run: a house, its faults, its verdict."""

import os
import re
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec

from tests.chaos.real_check import BUGS, Circumstances, Ended, judge
from tests.chaos.real_faults import Faults
from tests.chaos.real_schedule import Fault, JobPlan, Plan
from tests.support.house import House
from tests.support.proxy import Proxy
from tests.support.waiting import wait_for

#: After the last fault everything must be over within this time.
SETTLE_S = 90.0
#: Size of the data directory's file system, where it can be made.
DATA_BYTES = "768k"
ENVIRONMENT = {
    "KICI_ADOPT_GRACE": "8s",
    "KICI_DRAIN_TIMEOUT": "6s",
    "KICI_SCALER_SPAWN_TIMEOUT_MS": "15000",
    "KICI_CLUSTER_PEER_HEARTBEAT_INTERVAL_MS": "1000",
    "KICI_CLUSTER_PEER_MAX_RECONNECT_DELAY_MS": "1000",
    # The data directory is a tmpfs far below any sensible limit; what is tested is that disk.
    "KICI_GUARD_DISK_MIN": "off",
    "KICI_GUARD_INODES_MIN": "off",
    "KICI_GUARD_MEMORY_MIN": "off",
}
ENDS = ("success", "failed", "cancelled", "timed_out_stale")


class Outcome(msgspec.Struct):
    seed: int
    violations: list[str]
    counts: dict[str, int]
    n_jobs: int = 0
    ends: dict[str, int] = {}
    n_gap_lines: int = 0
    seconds: float = 0.0
    directory: str = ""


class Run:
    """Owns: one seed's house, from its start to the verdict."""

    def __init__(self, wanted: Plan, root: Path, verbose: bool) -> None:
        self.plan, self.root, self._verbose = wanted, root, verbose
        self.secret = secrets.token_hex(16)
        #: By name: a submission without an answer may be a job all the same.
        self.submitted: dict[str, JobPlan] = {}
        self.jobs: dict[str, tuple[str, JobPlan]] = {}
        self.most_agents = 0
        self.violations: list[str] = []
        self._begun = time.monotonic()
        (root / "journal").mkdir()
        self.mounted = _mount(root / "data")
        self.house = House(root, slots=wanted.slots, env=ENVIRONMENT)
        self.proxy = Proxy(self.house.coordinator_port)
        self.house.link_port = self.proxy.port
        self.house.http_timeout_s = 2.0
        self.faults = Faults(self.house, self.proxy, [], self._say)

    def go(self) -> Outcome:
        self.house.start()
        watcher = threading.Thread(target=self._watch, daemon=True)
        self._done = threading.Event()
        watcher.start()
        try:
            self._play()
            self._settle()
            self._judge()
            self._leave()
        finally:
            self._done.set()
            watcher.join(5)
        return self._outcome()

    def close(self) -> None:
        try:
            self.faults.proxy.heal()
            for pid in list(self.faults._stopped):
                self.faults._continue(pid)
            self.house.close()
        finally:
            self.proxy.close()
            if self.mounted:
                subprocess.run(["umount", "-l", str(self.root / "data")], check=False)

    # --- the run -----------------------------------------------------------------------

    def _play(self) -> None:
        events: list[tuple[float, int, object]] = []
        events += [(job.at, n, job) for n, job in enumerate(self.plan.jobs)]
        events += [(fault.at, 100 + n, fault) for n, fault in enumerate(self.plan.faults)]
        events.sort(key=lambda event: event[:2])
        start = time.monotonic()
        number = 1000
        while events:
            at, _, what = events.pop(0)
            time.sleep(max(0.0, start + at - time.monotonic()))
            if isinstance(what, JobPlan):
                if not self._submit(what):
                    events.append((time.monotonic() - start + 0.5, number, what))
            elif isinstance(what, Fault):
                undo = self.faults.begin(what)
                if undo is not None:
                    events.append((time.monotonic() - start + what.lasts_s, number, undo))
            elif what() is False:  # type: ignore[operator]
                events.append((time.monotonic() - start + 0.2, number, what))
            number += 1
            events.sort(key=lambda event: event[:2])

    def _submit(self, job: JobPlan) -> bool:
        """False: the coordinator is away, again later."""
        name = f"job-{len(self.submitted)}"
        self.submitted[name] = job
        journal = self.root / f"journal/{name}"
        script = (
            f"echo start >> {journal}; for i in $(seq {job.n_lines}); do "
            f"echo line $i; echo $i >> {journal}; sleep {job.pause_s}; done; "
            f'echo "secret $TOKEN"; exit {job.exit_code}'
        )
        document = {
            "name": name,
            "runs-on": ["linux", "test"],
            "secrets": {"TOKEN": self.secret},
            "steps": [{"run": script, "secretEnv": {"TOKEN": "TOKEN"}}],
        }
        status, body = self.house.api("POST", "/api/v1/jobs", document)
        if status not in (200, 201, 202):
            return False
        self.faults.jobs.append(body["jobId"])
        self._say(f"{name} is {body['jobId']}")
        return True

    def _settle(self) -> None:
        self._say("heal")
        self.faults.heal()
        for row in self.house.api("GET", "/api/v1/jobs?limit=100")[1]["jobs"]:
            self.jobs[row["jobId"]] = (row["name"], self.submitted[row["name"]])
        until = time.monotonic() + SETTLE_S
        try:
            for job_id in self.jobs:
                left = max(1.0, until - time.monotonic())
                wait_for(lambda j=job_id: self._state(j) in ENDS, f"end of {job_id}", left)
            wait_for(lambda: not self.house.agents(), "no agent left when idle", 30)
            outbox = self.root / "data/worker-outbox"
            try:
                wait_for(lambda: not any(outbox.glob("*__*")), "outbox empty", 30)
            except AssertionError as error:
                left = [path.name for path in outbox.glob("*__*")]
                raise AssertionError(f"{error}: {left}") from None
        except AssertionError as error:
            rows = {job_id: self.house.job(job_id).get("state") for job_id in self.jobs}
            self.violations.append(f"stuck: {error}; jobs {rows}")

    def _state(self, job_id: str) -> str:
        return self.house.job(job_id).get("state", "")

    def _leave(self) -> None:
        """Idle: SIGTERM ends it with 0 and leaves nothing."""
        assert self.house.worker is not None
        pids = self.house.worker_pids()
        self.house.worker.signal(15)
        # The two seconds of W122 are held in tests/e2e; this machine may be very busy.
        code = self.house.worker.wait(30)
        if code != 0:
            self.violations.append(f"idle SIGTERM: exit {code}")
        if self.house.agents() or any(Path(f"/proc/{pid}").exists() for pid in pids):
            self.violations.append("processes left behind")

    def _watch(self) -> None:
        """Never more agents than slots; no secret in a command line."""
        while not self._done.wait(0.4):
            self.most_agents = max(self.most_agents, len(self.house.agents()))
            shown = subprocess.run(["ps", "axww", "-o", "args="], capture_output=True, text=True)
            if self.secret in shown.stdout:
                self.violations.append("secret in a command line")

    # --- the verdict -------------------------------------------------------------------

    def _judge(self) -> None:
        self.ends: Counter[str] = Counter()
        self.n_gap_lines = 0
        around = Circumstances(
            lost_agents=self.faults.lost_agents,
            lost_worker=self.faults.lost_worker,
            terminated=self.faults.terminated,
            refused_disk=self.faults.refused_disk,
        )
        for job_id, (name, job) in self.jobs.items():
            row = self.house.job(job_id)
            journal = self.root / f"journal/{name}"
            log = self.house.log(job_id)
            ended = Ended(
                job_id=job_id,
                state=row.get("state", "?"),
                reason=row.get("reason") or "",
                terminals=tuple(self.house.terminals(job_id)),
                delivered=tuple(log),
                written=tuple(journal.read_text().split()) if journal.exists() else (),
                n_lines=job.n_lines,
                exit_code=job.exit_code,
                cancelled=job_id in self.faults.cancelled,
            )
            self.ends[ended.state] += 1
            gaps = [re.search(r"(\d+) (?:log )?lines are missing", text) for text in log]
            self.n_gap_lines += sum(int(found[1]) for found in gaps if found)
            self.violations += [f"{name} {job_id}: {text}" for text in judge(ended, around)]
        if self.most_agents > self.plan.slots:
            self.violations.append(f"{self.most_agents} agents, allowed {self.plan.slots}")
        self._look_for_secrets()
        self._look_for_bugs()

    def _look_for_secrets(self) -> None:
        words = ["grep", "-rlF", "-f", "-", str(self.root)]  # we look at command lines, too
        found = subprocess.run(words, input=self.secret, capture_output=True, text=True)
        if found.stdout:
            self.violations.append(f"secret in {found.stdout.split()}")

    def _look_for_bugs(self) -> None:
        for name in ("worker.log", "coordinator.log"):
            text = (self.root / name).read_text(errors="replace")
            self.violations += [f"{word!r} in {name}" for word in BUGS if word in text]

    def _outcome(self) -> Outcome:
        return Outcome(
            seed=self.plan.seed,
            violations=self.violations,
            counts=dict(self.faults.counts),
            n_jobs=len(self.jobs),
            ends=dict(self.ends),
            n_gap_lines=self.n_gap_lines,
            seconds=time.monotonic() - self._begun,
            directory=str(self.root),
        )

    def _say(self, *words: str) -> None:
        if self._verbose:
            print(f"{time.monotonic() - self._begun:6.2f}", *words, flush=True)


def _mount(directory: Path) -> bool:
    """A small file system of its own for the data, so that it can be full."""
    directory.mkdir()
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DATA_BYTES},mode=0700", "none"]
    return subprocess.run([*command, str(directory)], capture_output=True).returncode == 0
