"""The scaler backend of the simulation: its agents are the world's."""

from typing import Any

from kici.pool.scalers.base import BackendEvent, CleaningBudget, EventKind, FoundAgent, LaunchSpec

#: The world of the present schedule.
worlds: list[Any] = []


class SimBackend:
    on_local_host = True

    def __init__(self, scaler: Any, *, owner: str, state_dir: str, report: Any, held: Any) -> None:
        self._scaler, self._report = scaler, report
        self._world = worlds[-1]
        self._pool = self._world.loop.current
        self._watched: set[str] = set()
        self._world.backend = self

    def health(self) -> str:
        return ""

    def launch(self, spec: LaunchSpec) -> None:
        self._watched.add(spec.agent_id)
        self._world.launch(spec)

    def reap(self, agent_id: str, grace_s: float) -> None:
        if agent_id not in self._watched:
            return
        self._world.reap(agent_id, grace_s)

    def found(self) -> list[FoundAgent]:
        return [
            FoundAgent(
                agent_id=name, job_id=spec.job_id, run_id=spec.run_id,
                label_set_labels=spec.label_set.labels,
            )
            for name, spec in self._world.specs.items()
            if name in self._world.agents and name not in self._watched
        ]  # fmt: skip

    def adopt(self, agent_id: str) -> None:
        self._watched.add(agent_id)
        if agent_id not in self._world.agents:
            self.tell(agent_id, EventKind.EXITED, "gone")

    def cleans(self) -> str:
        return ""

    def clean(self, budget: CleaningBudget) -> None:
        """Nothing is left behind."""

    def close(self) -> None:
        """Nothing of its own."""

    def tell(self, agent_id: str, kind: EventKind, detail: str) -> None:
        """News of an agent, from the world."""
        if agent_id in self._watched:
            if kind in (EventKind.EXITED, EventKind.FAILED):
                self._watched.discard(agent_id)
            event = BackendEvent(agent_id=agent_id, kind=kind, detail=detail)
            self._world.loop.later(0.001, self._pool, self._report, event)
