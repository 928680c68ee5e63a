"""An agent of the simulation: the real agent's machine, a scripted job, its own life."""

import itertools
from typing import Any

import gevent
from gevent.event import Event

from kici.agent.wire import Wire
from kici.protocol.agent_client import AgentClient
from kici.protocol.agent_speech import AgentIdentity, CancelJob, Dial, Exit, Ping, RunJob
from kici.protocol.machine import Close, Send
from tests.chaos.memory.loop import Process


class Script:
    """What a job does: ``steps`` of (lines, seconds), its end, whether it obeys a cancel."""

    def __init__(self, random: Any) -> None:
        self.steps = [
            (random.choice((0, 1, 3, 20, 200)), random.choice((0.0, 0.1, 1.0, 10.0, 60.0)))
            for _ in range(random.randint(1, 3))
        ]
        self.chunk = random.choice((1, 5, 50))
        self.width = random.choice((10, 10, 10, 3000))
        self.end = random.choice(("success", "success", "success", "failed"))
        self.obeys_s = random.choice((0.0, 0.1, 5.0, 200.0))
        self.clean_s = random.choice((0.0, 0.0, 2.0))


class SimAgent:
    """Owns: the client machine, its wire (the real one), its running job."""

    def __init__(self, world: Any, agent_id: str, env: dict[str, str], n_jobs: int = 1) -> None:
        self.world, self.agent_id = world, agent_id
        self.process = Process(f"agent {agent_id}")
        self.exited = False
        self._random = world.random
        numbers = itertools.count(1)
        self.client = AgentClient(
            AgentIdentity(
                agent_id=agent_id,
                labels=tuple(env["KICI_LABELS"].split(",")),
                token=env.get("KICI_AGENT_TOKEN"),
                scaler_managed=env.get("KICI_SCALER_MANAGED") == "1",
            ),
            wall_ms=lambda: int(world.wall() * 1000),
            new_id=lambda: f"{agent_id}-{next(numbers)}",
            random=self._random.random,
        )
        self._wire = Wire(
            "",
            self,
            on_crash=lambda _greenlet: None,  # the loop's ``handle_error`` has it too
            connect=lambda _url, **_bounds: world.dial_pool(self),
        )
        self._woken = Event()
        self._cancelled: Event | None = None
        self._force = False

    def run(self) -> None:
        """From its start to its exit."""
        self.perform(self.client.start(self.world.now))
        while not self.exited:
            deadline = self.client.deadline
            self._woken.clear()
            left = None if deadline is None else deadline - self.world.now
            if left is not None and left <= 0:
                self.perform(self.client.tick(self.world.now))
            else:
                self._woken.wait(left)
        self._wire.end()
        self.world.agent_gone(self, "exit code 0")

    def stop(self) -> None:
        """SIGTERM."""
        self.perform(self.client.stop(self.world.now))

    def perform(self, actions: list[Any]) -> None:
        for action in actions:
            match action:
                case Send(text=text):
                    self._wire.queue(text)
                case Ping():
                    self._wire.queue(None)
                case Dial():
                    self._wire.dial()
                case Close(code=code, reason=reason):
                    self._wire.close(code, reason)
                case RunJob(dispatch=dispatch):
                    self._cancelled, self._force = Event(), False
                    gevent.spawn(self._run_job, dispatch, self._cancelled)
                case CancelJob(force=force):
                    if self._cancelled is not None:
                        self._force = self._force or force
                        self._cancelled.set()
                case Exit():
                    self.exited = True
        self._woken.set()

    # --- told by the wire (agent.wire.Hearer) ----------------------------------------

    def opened(self) -> None:
        self.perform(self.client.opened(self.world.now))

    def received(self, message: str | bytes) -> None:
        self.perform(self.client.receive(message, self.world.now))

    def ponged(self) -> None:
        self.perform(self.client.ponged(self.world.now))

    def heard(self) -> None:
        self.client.heard(self.world.now)

    def lost(self, reason: str, code: int) -> None:
        self.perform(self.client.lost(reason, self.world.now, code))

    # --- the job ---------------------------------------------------------------------

    def _run_job(self, dispatch: Any, cancelled: Event) -> None:
        world, job_id = self.world, dispatch.job_id
        script = world.script(job_id)
        execution = world.history.executes(dispatch.run_id, job_id, self.agent_id)
        state = script.end
        for index, (n_lines, seconds) in enumerate(script.steps):
            if not self._step(script, execution, index, n_lines, seconds, cancelled):
                state = "cancelled"
                break
        execution.end = state
        self.perform(self.client.job_finished(state, {"durationMs": 1}, world.now))
        gevent.sleep(script.clean_s)
        self.perform(self.client.job_cleaned(world.now))

    def _step(
        self, script: Script, execution: Any, index: int, n_lines: int, seconds: float,
        cancelled: Event,
    ) -> bool:  # fmt: skip
        now = self.world.now
        self.perform(self.client.job_step(index, f"step {index}", "running", now))
        n_chunks = max(1, -(-n_lines // script.chunk))
        for start in range(0, n_chunks * script.chunk, script.chunk):
            lines = tuple(
                f"{self.agent_id} {index} {number} ".ljust(script.width, "x")
                for number in range(start, min(start + script.chunk, n_lines))
            )
            if lines:
                execution.wrote(index, lines)
                at_ms = int(self.world.wall() * 1000)
                self.perform(self.client.job_log(index, lines, "stdout", at_ms, self.world.now))
            if cancelled.wait(seconds / n_chunks):
                obeys = 0.0 if self._force else script.obeys_s
                gevent.sleep(obeys)
                now = self.world.now
                self.perform(self.client.job_step(index, f"step {index}", "cancelled", now))
                return False
        now = self.world.now
        self.perform(self.client.job_step(index, f"step {index}", "success", now))
        return True
