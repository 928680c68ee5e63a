"""Faults on real processes: each begins, and most are undone later."""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.chaos.real_schedule import Fault
from tests.support.house import House, alive
from tests.support.proxy import Proxy
from tests.support.waiting import wait_for

#: How long a worker may take to stop on SIGTERM here: its drain time-out and the rest.
TERM_WITHIN_S = 30.0


class Faults:
    """Owns: what is broken at the moment. ``counts``: faults that were really done."""

    def __init__(self, house: House, proxy: Proxy, jobs: list[str], say: Callable[..., None]):
        self.house, self.proxy, self.jobs, self._say = house, proxy, jobs, say
        self.counts: Counter[str] = Counter()
        self.cancelled: set[str] = set()
        self.lost_agents = False
        self.lost_worker = False
        self.terminated = False
        self.refused_disk = False
        self._stopped: set[int] = set()
        self._filler: Path | None = None

    def begin(self, fault: Fault) -> Callable[[], object] | None:
        """Do it; returns how to undo it, None when there is nothing to undo."""
        undo = getattr(self, "_" + fault.kind.replace("-", "_"))(fault)
        self._say(f"{fault.kind} {fault.target}", "did nothing" if undo is None else "")
        if undo is None:
            return None
        self.counts[f"{fault.kind} {fault.target}".strip()] += 1
        return undo

    def heal(self) -> None:
        """Everything works again; every process runs."""
        self.proxy.heal()
        self._empty_disk()
        for pid in list(self._stopped):
            self._continue(pid)
        if self.house.coordinator is None or not self.house.coordinator.running():
            self.house.start_coordinator()
        self._start_worker()
        self.house.web("DELETE", "/drain")

    # --- processes ---------------------------------------------------------------------

    def _kill(self, fault: Fault) -> Callable[[], object] | None:
        pid = self._child(fault.target)
        if pid is None:
            return None
        os.kill(pid, signal.SIGKILL)
        return _nothing

    def _kill_worker(self, fault: Fault) -> Callable[[], object] | None:
        pids = self.house.worker_pids()
        if not pids:
            return None
        self.lost_worker = True
        for pid in pids if fault.target == "all" else pids[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.house.worker is not None
        self.house.worker.wait(10)
        self._wait_children_gone(pids)
        return self._start_worker

    def _wait_children_gone(self, pids: list[int]) -> None:
        for pid in pids:
            self._continue(pid)
        wait_for(lambda: not any(alive(pid) for pid in pids), "children left with their parent")

    def _term(self, fault: Fault) -> Callable[[], object] | None:
        pids = self.house.worker_pids()
        if not pids:
            return None
        for pid in pids:
            self._continue(pid)
        self.terminated = True
        worker, until = self.house.worker, time.monotonic() + TERM_WITHIN_S
        assert worker is not None
        worker.signal(signal.SIGTERM)

        def ended() -> bool:
            """Asked again and again: what else is broken must heal meanwhile."""
            if worker.running():
                assert time.monotonic() < until, "SIGTERM: the worker does not end"
                return False
            assert worker.exit_code in (0, -signal.SIGKILL), f"SIGTERM: {worker.exit_code}"
            self._wait_children_gone(pids)
            self._start_worker()
            return True

        return ended

    def _start_worker(self) -> None:
        worker = self.house.worker
        if worker is not None and worker.running():
            return
        if worker is not None and worker.exit_code not in (0, -signal.SIGKILL):
            raise AssertionError(f"the worker ended by itself: {worker.exit_code}")
        self.house.start_worker(connected=False)

    def _stop(self, fault: Fault) -> Callable[[], object] | None:
        pids = self.house.worker_pids()
        pid = pids[0] if pids and fault.target == "supervisor" else self._child(fault.target)
        return None if pid is None else self._stop_pid(pid)

    def _stop_pid(self, pid: int) -> Callable[[], object]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
        self._stopped.add(pid)
        return lambda: self._continue(pid)

    def _continue(self, pid: int) -> None:
        if pid in self._stopped:
            self._stopped.discard(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _kill_agent(self, fault: Fault) -> Callable[[], object] | None:
        agents = self.house.agents()
        if not agents:
            return None
        self.lost_agents = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(agents[fault.variant % len(agents)], signal.SIGKILL)
        return _nothing

    def _stop_agent(self, fault: Fault) -> Callable[[], object] | None:
        agents = self.house.agents()
        return self._stop_pid(agents[fault.variant % len(agents)]) if agents else None

    def _kill_coordinator(self, fault: Fault) -> Callable[[], object] | None:
        coordinator = self.house.coordinator
        if coordinator is None or not coordinator.running():
            return None
        self._continue(coordinator.pid)
        coordinator.kill()
        return self._start_coordinator

    def _start_coordinator(self) -> None:
        coordinator = self.house.coordinator
        if coordinator is not None and not coordinator.running():
            self.house.start_coordinator()

    def _stop_coordinator(self, fault: Fault) -> Callable[[], object] | None:
        coordinator = self.house.coordinator
        if coordinator is None or not coordinator.running():
            return None
        return self._stop_pid(coordinator.pid)

    def _child(self, name: str) -> int | None:
        """Pid of a child by its title: the web process may not answer now."""
        for pid in self.house.worker_pids()[1:]:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_text().startswith(f"kici-worker: {name}"):
                    return pid
        return None

    # --- the link ----------------------------------------------------------------------

    def _cut(self, fault: Fault) -> Callable[[], object] | None:
        self.proxy.cut(reset=fault.target == "reset")
        return _nothing

    def _half_open(self, fault: Fault) -> Callable[[], object] | None:
        self.proxy.hold = True

        def end() -> None:
            if fault.target == "reset":
                self.proxy.cut()
            self.proxy.hold = False

        return end

    def _slow(self, fault: Fault) -> Callable[[], object] | None:
        self.proxy.bytes_a_second = 20_000

        def end() -> None:
            self.proxy.bytes_a_second = None

        return end

    def _refuse(self, fault: Fault) -> Callable[[], object] | None:
        self.proxy.refuse = True
        self.proxy.cut(reset=False)

        def end() -> None:
            self.proxy.refuse = False

        return end

    # --- disk, drain, cancel -----------------------------------------------------------

    def _full_disk(self, fault: Fault) -> Callable[[], object] | None:
        if self._filler is not None or not os.path.ismount(self.house.root / "data"):
            return None
        self.refused_disk = True
        self._filler = self.house.root / "data/filler"
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        return self._empty_disk

    def _empty_disk(self) -> None:
        if self._filler is not None:
            self._filler.unlink(missing_ok=True)
            self._filler = None

    def _drain(self, fault: Fault) -> Callable[[], object] | None:
        if self.house.web("POST", "/drain")[0] != 200:
            return None
        return lambda: self.house.web("DELETE", "/drain") and None

    def _cancel(self, fault: Fault) -> Callable[[], object] | None:
        if not self.jobs:
            return None
        job = self.jobs[fault.variant % len(self.jobs)]
        wish = {"force": True} if fault.target == "force" else {}
        self.cancelled.add(job)
        status, _ = self.house.api("POST", f"/api/v1/jobs/{job}/cancel", wish)
        return _nothing if status == 200 else None


def _nothing() -> None:
    """Undoes a fault that is over as it begins."""
