"""Driving jobs through a rig and noting the moments that matter."""

import time
from typing import Any

from bench.agent_end import Agent
from bench.jobs import reroute
from bench.worker_end import Rig
from kici.contracts.states import WIRE_TERMINAL
from kici.contracts.wire.peer.jobs import JobProgress, JobProgressAck, JobRerouteAck, PeerLogChunk

#: Every run of a bench offers jobs with numbers that the worker has never seen.
_numbers = iter(range(1, 10**9))


class Work:
    """Owns: what the coordinator heard. Receipts are given at once, as a coordinator does."""

    def __init__(self, rig: Rig, *, receipts: bool = True) -> None:
        self._rig = rig
        self.acked: dict[str, float] = {}
        self.refused: dict[str, str] = {}
        self.ended: dict[str, float] = {}
        self.states: dict[str, str] = {}
        self.running: dict[str, float] = {}
        self.n_ended = 0
        self.n_lines = 0
        self.n_frames = 0
        self.receipts = receipts
        rig.coordinator.hear = self.hear

    def hear(self, message: Any) -> None:
        self.n_frames += 1
        if isinstance(message, PeerLogChunk):
            self.n_lines += len(message.lines)
        elif isinstance(message, JobRerouteAck):
            self.acked[message.message_id] = time.perf_counter()
            if not message.accepted:
                self.refused[message.message_id] = message.reason or ""
        elif isinstance(message, JobProgress) and message.kind == "job":
            if message.state not in WIRE_TERMINAL:
                self.running.setdefault(message.job_id, time.perf_counter())
                return
            if message.job_id not in self.ended:
                self.n_ended += 1
            self.ended[message.job_id] = time.perf_counter()
            self.states[message.job_id] = message.state
            if self.receipts:
                receipt = JobProgressAck(
                    run_id=message.run_id, job_id=message.job_id, state=message.state
                )
                self.link.say(receipt)

    @property
    def link(self) -> Any:
        return self._rig.coordinator.link

    def offer(self) -> tuple[str, str, str, float]:
        """Offer a new job: message id, run id, job id, moment."""
        job = reroute(next(_numbers))
        at = time.perf_counter()
        self.link.say(job)
        return job.message_id, job.run_id, job.job_id, at

    def run_jobs(self, count: int, *, at_once: int = 8, timeout_s: float = 600.0) -> float:
        """``count`` jobs through automatic agents, ``at_once`` in flight; seconds."""
        loop, target = self._rig.loop, self.n_ended + count
        began, offered = time.perf_counter(), self.n_ended
        beat_at = began + 30
        deadline = began + timeout_s
        while self.n_ended < target:
            while offered < target and offered - self.n_ended < at_once:
                self.offer()
                offered += 1
            loop.turn(0.05)
            if time.perf_counter() > beat_at:
                self.link.beat()
                beat_at += 30
            if self.refused or time.perf_counter() > deadline:
                raise RuntimeError(f"{self.n_ended} of {target} ended; refused: {self.refused}")
        seconds = time.perf_counter() - began
        self.acked.clear()
        self.ended.clear()
        self.running.clear()
        self.states.clear()
        return seconds

    def one(self, agent: Agent) -> dict[str, float]:
        """One job by hand on an idle agent; milliseconds of its parts."""
        loop = self._rig.loop
        agent.automatic = False
        seen: dict[str, float] = {}
        agent.dispatched = lambda run_id, job_id: seen.setdefault("dispatch", time.perf_counter())
        message_id, run_id, job_id, at = self.offer()
        loop.run(lambda: "dispatch" in seen and message_id in self.acked, "job is dispatched", 10)
        agent.begin(run_id, job_id)
        loop.rest(0.004)
        ending = time.perf_counter()
        agent.finish(run_id, job_id)
        loop.run(lambda: job_id in self.ended, "job ends", 10)
        return {
            "ack": (self.acked[message_id] - at) * 1000,
            "dispatch": (seen["dispatch"] - at) * 1000,
            "terminal": (self.ended[job_id] - ending) * 1000,
        }
