"""A backend without agents, steered by the environment of the label set it launches.

For tests and trials of the pool. Variables, all optional, in ``labelSets[].env``:

    FAKE_START_DELAY  seconds from launch to ``started`` (0)
    FAKE_FAIL         text: the launch ends in ``failed`` with it
    FAKE_EXIT_AFTER   seconds from ``started`` to an ``exited`` of its own accord
    FAKE_EXIT_DETAIL  how that end is described
    FAKE_REAP_DELAY   seconds from ``reap`` to ``exited`` (0)

Nothing runs; what exists is kept in one small file per agent below ``state_dir``, so that
``found`` works after a restart as it does for the real backends.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import gevent
import msgspec

from kici.config.model import Scaler
from kici.pool.scalers.base import (
    BackendEvent,
    CleaningBudget,
    EventKind,
    FoundAgent,
    Held,
    LaunchSpec,
    Report,
    nobody,
)


class _Record(msgspec.Struct):
    owner: str
    scaler: str
    agent_id: str
    job_id: str | None
    run_id: str | None
    labels: tuple[str, ...]


class FakeBackend:
    """Owns: its records and timers. Told by: the pool's main."""

    on_local_host = True

    def __init__(
        self, scaler: Scaler, *, owner: str, state_dir: str, report: Report, held: Held = nobody
    ) -> None:
        self._scaler = scaler
        self._owner = owner
        self._dir = Path(state_dir, "fake-agents")
        self._report = report
        self._held = held
        self._timers: dict[str, gevent.Greenlet] = {}
        self._reap_delays: dict[str, float] = {}
        self._started: set[str] = set()

    def health(self) -> str:
        return ""

    def launch(self, spec: LaunchSpec) -> None:
        settings = dict(spec.label_set.env)
        self._reap_delays[spec.agent_id] = float(settings.get("FAKE_REAP_DELAY", 0))
        self._write(spec)
        self._timers[spec.agent_id] = gevent.spawn(self._live, spec.agent_id, settings)

    def reap(self, agent_id: str, grace_s: float) -> None:
        timer = self._timers.pop(agent_id, None)
        if timer is None:
            return
        timer.kill(block=False)
        delay = min(self._reap_delays.get(agent_id, 0.0), grace_s)
        gevent.spawn_later(delay, self._end, agent_id, "reaped")

    def found(self) -> Sequence[FoundAgent]:
        return [
            FoundAgent(
                agent_id=record.agent_id,
                job_id=record.job_id,
                run_id=record.run_id,
                label_set_labels=record.labels,
            )
            for record in self._records()
            if record.agent_id not in self._timers and not self._held(record.agent_id)
        ]

    def adopt(self, agent_id: str) -> None:
        if not self._path(agent_id).exists():
            self._tell(agent_id, EventKind.EXITED, "it is gone")
        elif agent_id not in self._timers:
            # Nothing to watch: it ends when it is reaped.
            self._started.add(agent_id)
            self._timers[agent_id] = gevent.spawn(lambda: None)

    def cleans(self) -> str:
        return ""

    def clean(self, budget: CleaningBudget) -> None:
        """It leaves nothing behind."""

    def close(self) -> None:
        for timer in self._timers.values():
            timer.kill(block=False)
        self._timers.clear()

    def _live(self, agent_id: str, settings: dict[str, str]) -> None:
        self._tell(agent_id, EventKind.PROVISIONING, "starting a fake agent")
        gevent.sleep(float(settings.get("FAKE_START_DELAY", 0)))
        if failure := settings.get("FAKE_FAIL"):
            self._forget(agent_id)
            self._tell(agent_id, EventKind.FAILED, failure)
            return
        self._started.add(agent_id)
        self._tell(agent_id, EventKind.STARTED, "")
        if "FAKE_EXIT_AFTER" in settings:
            gevent.sleep(float(settings["FAKE_EXIT_AFTER"]))
            self._end(agent_id, settings.get("FAKE_EXIT_DETAIL", "exit code 0"))

    def _end(self, agent_id: str, detail: str) -> None:
        kind = EventKind.EXITED if self._forget(agent_id) else EventKind.FAILED
        self._tell(agent_id, kind, detail)

    def _forget(self, agent_id: str) -> bool:
        """Remove every trace; whether it had started."""
        self._timers.pop(agent_id, None)
        self._reap_delays.pop(agent_id, None)
        self._path(agent_id).unlink(missing_ok=True)
        started = agent_id in self._started
        self._started.discard(agent_id)
        return started

    def _tell(self, agent_id: str, kind: EventKind, detail: str) -> None:
        self._report(BackendEvent(agent_id=agent_id, kind=kind, detail=detail))

    def _path(self, agent_id: str) -> Path:
        return self._dir / f"{os.path.basename(agent_id)}.json"

    def _write(self, spec: LaunchSpec) -> None:
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = _Record(
            owner=self._owner,
            scaler=self._scaler.name,
            agent_id=spec.agent_id,
            job_id=spec.job_id,
            run_id=spec.run_id,
            labels=spec.label_set.labels,
        )
        self._path(spec.agent_id).write_bytes(msgspec.json.encode(record))

    def _records(self) -> list[_Record]:
        records = [
            msgspec.json.decode(path.read_bytes(), type=_Record)
            for path in sorted(self._dir.glob("*.json"))
        ]
        mine = (self._owner, self._scaler.name)
        return [record for record in records if (record.owner, record.scaler) == mine]
