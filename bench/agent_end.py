"""A scripted agent: registers, takes jobs, says what an agent says, at once."""

from collections.abc import Callable

import msgspec

from bench.sockets import Loop, dial, text_frame


class _Said(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    run_id: str = ""
    job_id: str = ""


_said = msgspec.json.Decoder(_Said)


def line_frames(run_id: str, job_id: str, lines: list[str]) -> bytes:
    """One masked ``log.chunk`` frame."""
    return text_frame(
        _encode(
            "log.chunk", runId=run_id, jobId=job_id, stepIndex=0, lines=lines, timestamp=1700000000
        ),
        masked=True,
    )


def _encode(kind: str, **fields: object) -> bytes:
    return msgspec.json.encode({"type": kind, "messageId": "m-1", **fields})


class Agent:
    """One connected agent. ``dispatched(run_id, job_id)`` and ``cancelled(job_id)`` are called
    back; ``automatic`` makes it acknowledge, run and end every job by itself."""

    def __init__(self, loop: Loop, port: int, name: str, *, slots: int = 1) -> None:
        self.name = name
        self.registered = False
        self.automatic = True
        self.n_jobs = 0
        self.dispatched: Callable[[str, str], None] = lambda run_id, job_id: None
        self.cancelled: Callable[[str], None] = lambda job_id: None
        self._slots = slots
        self.end = dial(loop, port, "/ws")
        self.end.opened = self._register
        self.end.heard = self._hear

    def say(self, kind: str, **fields: object) -> None:
        self.end.send(_encode(kind, **fields))

    def begin(self, run_id: str, job_id: str) -> None:
        job = {"runId": run_id, "jobId": job_id, "timestamp": 1700000000000}
        self.say("job.ack", **job)
        self.say("job.status", state="running", **job)

    def step(self, run_id: str, job_id: str, lines: int = 3) -> None:
        job = {"runId": run_id, "jobId": job_id, "timestamp": 1700000000000}
        step = {"stepIndex": 0, "stepName": "build", **job}
        self.say("step.status", state="running", **step)
        text = ["a line of the log, about as long as they are"] * lines
        self.say("log.chunk", stepIndex=0, lines=text, **job)
        self.say("step.status", state="success", data={"durationMs": 12}, **step)

    def finish(self, run_id: str, job_id: str, state: str = "success") -> None:
        job = {"runId": run_id, "jobId": job_id, "timestamp": 1700000000000}
        self.say("job.status", state=state, data={"durationMs": 20}, **job)
        self.say("agent.status", agentId=self.name, activeJobs=0)

    def _register(self) -> None:
        self.say(
            "agent.register",
            agentId=self.name,
            labels=["linux"],
            platform="linux",
            arch="x64",
            maxConcurrency=self._slots,
        )

    def _hear(self, payload: bytes) -> None:
        said = _said.decode(payload)
        if said.type == "register.ack":
            self.registered = True
        elif said.type == "job.dispatch":
            self.n_jobs += 1
            self.dispatched(said.run_id, said.job_id)
            if self.automatic:
                self.begin(said.run_id, said.job_id)
                self.step(said.run_id, said.job_id)
                self.finish(said.run_id, said.job_id)
        elif said.type == "job.cancel":
            self.cancelled(said.job_id)
