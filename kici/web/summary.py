"""The numbers several views show, read from the projection and nothing else."""

import time
from typing import Any

from kici.contracts.link.jobs import OutboxState
from kici.contracts.link.lifecycle import ChildState, DrainState, ReloadResult
from kici.contracts.link.views import JobView, PeerState, PoolCapacity, ScalerSlots, SpoolState
from kici.contracts.states import ConnectionState
from kici.protocol.urls import shown_url
from kici.web.desk import Desk
from kici.web.history import Entry
from kici.web.moments import iso
from kici.web.projection import Source

#: ``recentJobs`` of ``/status`` (worker surface 3.5).
RECENT = 20


def links(desk: Desk) -> list[PeerState]:
    """Coordinator links in the configured order, those never heard of included."""
    told = {fact.url: fact for fact in desk.projection.all(PeerState, time.time())}
    return [told.get(url) or _unheard(url, i) for i, url in enumerate(urls(desk))]


def urls(desk: Desk) -> tuple[str, ...]:
    """As the peer names its links: without user name and password."""
    return tuple(shown_url(url) for url in desk.settings.coordinator_urls)


def _unheard(url: str, index: int) -> PeerState:
    return PeerState(
        rev=0,
        url=url,
        index=index,
        state=ConnectionState.DISCONNECTED,
        since=0.0,
        reason="",
        attempt=0,
        next_attempt_at=None,
        coordinator_id=None,
        coordinator_version=None,
        credential_issued_at=None,
        last_connected_at=None,
        counters={},
    )


def n_connected(desk: Desk) -> int:
    return sum(link.state == ConnectionState.CONNECTED for link in links(desk))


def agent_counts(desk: Desk) -> dict[str, int]:
    """Connected agents: in all, with at least one job, without."""
    capacity = desk.projection.one(PoolCapacity)
    slots = capacity.agents if capacity else ()
    active = sum(slot.active_jobs > 0 for slot in slots)
    return {"total": len(slots), "active": active, "idle": len(slots) - active}


def n_active_jobs(desk: Desk) -> int:
    capacity = desk.projection.one(PoolCapacity)
    return capacity.n_active_jobs if capacity else 0


def n_runs(desk: Desk) -> int:
    """Runs with at least one job here that has not ended (W94)."""
    jobs = desk.projection.all(JobView, time.time())
    return len({(job.key.owner, job.key.run_id) for job in jobs})


def is_draining(desk: Desk) -> bool:
    drain = desk.projection.one(DrainState)
    return bool(drain and (drain.draining or drain.stopping))


def recent_job(entry: Entry) -> dict[str, Any]:
    """The seed's seven keys and ``runId`` (W71, W72)."""
    return {
        "runId": entry.run_id,
        "jobId": entry.job_id,
        "jobName": entry.job_name,
        "workflowName": entry.workflow_name,
        "status": entry.status,
        "startedAt": iso(entry.started_at),
        "completedAt": iso(entry.completed_at),
        "durationMs": entry.duration_ms,
    }


def link_view(link: PeerState) -> dict[str, Any]:
    return {
        "url": link.url,
        "state": link.state,
        "since": iso(link.since) if link.since else None,
        "reason": link.reason,
        "attempt": link.attempt,
        "nextAttemptAt": iso(link.next_attempt_at),
        "lastConnectedAt": iso(link.last_connected_at),
        "coordinatorId": link.coordinator_id,
        "coordinatorVersion": link.coordinator_version,
        "credentialIssuedAt": link.credential_issued_at,
        "counters": link.counters,
    }


def child_view(child: ChildState) -> dict[str, Any]:
    return {
        "name": child.name,
        "pid": child.pid,
        "state": child.state,
        "restarts": child.n_restarts,
        "since": iso(child.since),
        "reason": child.reason,
    }


def source_view(source: Source) -> dict[str, Any]:
    """How old the facts of one process are."""
    return {
        "name": source.name,
        "bootedAt": iso(source.booted_at),
        "heardAt": iso(source.heard_at),
        "stale": source.is_stale,
    }


def drain_view(drain: DrainState | None) -> dict[str, Any]:
    return {
        "draining": bool(drain and drain.draining),
        "stopping": bool(drain and drain.stopping),
        "reason": drain.reason if drain else "",
        "deadlineAt": iso(drain.deadline_at) if drain else None,
    }


def free_slots(scaler: ScalerSlots) -> int:
    """Agents that could be started now: none where the backend does not work."""
    return max(0, scaler.max_agents - scaler.active_count) if scaler.healthy else 0


def capacity_view(capacity: PoolCapacity | None) -> dict[str, Any]:
    if capacity is None:
        return {"queuedJobs": 0, "startingJobs": 0, "refusing": "", "scalers": []}
    return {
        "queuedJobs": capacity.n_queued_jobs,
        "startingJobs": capacity.n_starting_jobs,
        "refusing": capacity.refusing,
        "scalers": [
            {
                "name": scaler.name,
                "type": scaler.kind,
                "labelSets": scaler.label_sets,
                "gates": scaler.gates,
                "maxAgents": scaler.max_agents,
                "activeAgents": scaler.active_count,
                "freeSlots": free_slots(scaler),
                "healthy": scaler.healthy,
                "reason": scaler.reason,
            }
            for scaler in capacity.scalers
        ],
    }


def storage_view(desk: Desk) -> dict[str, Any]:
    """What is kept on disk for a coordinator that is away."""
    outbox, spool = desk.projection.one(OutboxState), desk.projection.one(SpoolState)
    return {
        "outbox": {
            "open": len(outbox.open) if outbox else 0,
            "concluded": outbox.n_concluded if outbox else 0,
            "bytes": outbox.n_bytes if outbox else 0,
            "oldestAt": iso(outbox.oldest_at) if outbox else None,
        },
        "logSpool": {
            "bytes": spool.n_bytes if spool else 0,
            "limitBytes": spool.limit_bytes if spool else desk.settings.log_spool_max_bytes,
            "lostLines": spool.n_lost_lines if spool else 0,
        },
    }


def reload_view(result: ReloadResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    return {"ok": result.ok, "at": iso(result.at), "problems": result.problems}
