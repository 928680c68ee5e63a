"""From a dialled connection to a registered agent, or a refused one (agent spec 1.4, 2.2.2)."""

from kici.contracts.wire.agent.session import AgentRegister, ConfigAck, InFlightJob, RegisterAck
from kici.protocol.agent_replay import announcements
from kici.protocol.agent_slot import AgentSlot
from kici.protocol.agent_speech import (
    EXIT_REFUSED,
    HEARTBEAT_S,
    STOP_S,
    CancelJob,
    ClientState,
    Dial,
    Exit,
    text_of,
)
from kici.protocol.machine import Actions, Note, Send


class AgentRegistering(AgentSlot):
    """Owns: the steps of a connection, and what is said first on each."""

    def _dial(self) -> Actions:
        self.state = ClientState.CONNECTING
        return [Dial()]

    def _register(self) -> Actions:
        self.state = ClientState.REGISTERING
        # Not a job whose end is confirmed and that is only cleaned up: it has no other end.
        jobs = dict.fromkeys([*self.outbox.jobs_ended(), *self._at_work()])
        in_flight = tuple(InFlightJob(run_id=run_id, job_id=job_id) for run_id, job_id in jobs)
        agent_id = self.identity.agent_id
        message = AgentRegister(
            message_id=f"register-{agent_id}-{self._wall_ms():.0f}",
            agent_id=agent_id,
            labels=self.identity.labels,
            in_flight_jobs=in_flight or None,
            **self.identity.facts,
        )
        return [Send(text_of(message))]

    def _on_register_ack(self, ack: RegisterAck, now: float) -> Actions:
        self.state = ClientState.REGISTERED
        if self._job is not None:
            self._job.n_cancels = 0  # told again to a new connection, a cancel is no second wish
        self._n_attempts = 0
        self._warm = ack.warm_pool is True
        self._timers.clear("answer", "retry", "abandon")
        self._timers.set("heartbeat", now + HEARTBEAT_S)
        actions: Actions = [Note("info", "Registered with orchestrator", {})]
        actions += self._replay(now)
        config_id = f"config-ack-{self.identity.agent_id}-{self._wall_ms():.0f}"
        actions += self._say(ConfigAck(message_id=config_id, agent_id=self.identity.agent_id))
        pending = ack.pending_dispatch is True
        wait = self.identity.pending_timeout_s if pending else self.identity.idle_timeout_s
        self._arm_idle(now, wait)
        return actions + self._leave_if_done(now)

    def _replay(self, now: float) -> Actions:
        actions: Actions = []
        for message in announcements(
            self.outbox,
            self.identity.agent_id,
            away_s=now - (self._lost_at if self._lost_at is not None else now),
            wall_ms=self._wall_ms,
            new_id=self._new_id,
        ):
            actions += self._say(message)
        self.outbox.gaps.clear()
        actions += [Send(text) for text in self.outbox.unconfirmed()]
        self._confirm(now, soon=True)
        self._lost_at = None
        return actions

    def _refused(self, reason: str, now: float) -> Actions:
        self._exit = Exit(EXIT_REFUSED, f"refused by the orchestrator: {reason}")
        self._timers.clear("retry", "idle")
        note = Note("error", "Orchestrator refused this agent", {"reason": reason})
        self._draining = True
        if self._job is None:
            return [note, *self._leave_now()]
        self._timers.set("stop", now + STOP_S * 2)
        reason = "agent was refused"
        ended = self._give_up_next("failed", reason, now)
        return [note, *ended, CancelJob(reason, force=True, on_request=False)]
