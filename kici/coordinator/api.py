"""The coordinator's HTTP surface (worker surface 9.2; the rest is ours, docs/coordinator.md).

``/health`` and ``/cluster/*`` are open as in the reference; ``/api/v1`` needs the admin token.
"""

import os
from time import monotonic
from typing import Any

from kici import __version__
from kici.contracts.states import HELD_ENDED, HeldState
from kici.coordinator.dispatcher import TooManyJobs
from kici.coordinator.document import read_document
from kici.coordinator.http import Download, HttpError, JsonApp, Request, Route
from kici.coordinator.log_bundles import NotCollected
from kici.coordinator.service import Service
from kici.coordinator.times import iso
from kici.coordinator.tokens import DEFAULT_TOKEN_LIFE_MS, ROLES

#: A reader of a log is answered after this long, news or not.
MAX_WAIT_S = 30
MAX_LISTED = 1000
#: Readers that wait at once: each holds a connection.
MAX_WAITERS = 500
#: Agents that one collection of logs may name.
MAX_AGENT_IDS = 1000
MAX_TOKEN_LIFE_MS = 30 * 86_400_000


class Api:
    """Owns nothing. Told by: HTTP clients."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._n_waiters = 0

    def app(self, token: str) -> JsonApp:
        """The WSGI application; ``token`` opens what is not open to all."""
        jobs, admin = "/api/v1/jobs", "/api/v1/admin"
        return JsonApp(
            [
                Route("GET", "/health", self.health, True),
                Route("GET", "/cluster/health", self.cluster_health, True),
                Route("GET", "/cluster/peers", self.cluster_peers, True),
                Route("POST", jobs, self.submit),
                Route("GET", jobs, self.jobs),
                Route("GET", jobs + "/{job}", self.job),
                Route("POST", jobs + "/{job}/cancel", self.cancel),
                Route("GET", jobs + "/{job}/log", self.log),
                Route("POST", admin + "/join-tokens", self.join_token),
                Route("GET", admin + "/peers", self.peers),
                Route("POST", admin + "/peers/revoke-all", self.revoke_all),
                Route("POST", admin + "/peers/{peer}/revoke", self.revoke),
                Route("POST", admin + "/peers/{peer}/logs", self.peer_logs),
            ],
            token,
        )

    # --- open ------------------------------------------------------------------------

    def health(self, request: Request) -> tuple[int, Any]:
        return 200, {
            "status": "ok",
            "role": "coordinator",
            "version": __version__,
            "timestamp": iso(self._service.store.wall()),
            "uptime": round(monotonic() - self._service.started_at, 3),
        }

    def cluster_health(self, request: Request) -> tuple[int, Any]:
        return 200, self._service.cluster_health()

    def cluster_peers(self, request: Request) -> tuple[int, Any]:
        now, wall = monotonic(), self._service.store.wall()
        peers = [
            {
                "instanceId": peer.instance_id,
                "connected": peer.link is not None,
                "address": peer.link.address if peer.link else None,
                "role": peer.link.role if peer.link else "worker",
                "hostname": peer.hostname,
                "version": peer.version,
                "draining": peer.draining,
                "lastHeartbeat": iso(wall - (now - peer.heard_at) * 1000),
                "agentCount": len(peer.inventory.agents),
                "freeAgentSlots": sum(agent.free for agent in peer.inventory.agents),
                "scalerCapacity": [
                    {
                        "name": backend.name,
                        "labelSets": [sorted(one.labels) for one in backend.sets],
                        "free": backend.free,
                    }
                    for backend in peer.inventory.backends
                ],
                "activeJobs": len(self._service.dispatcher.placement.held_by(peer.instance_id)),
                "nakCount": peer.n_naks,
                "backoffMs": max(0, int((peer.nak_until - now) * 1000)),
            }
            for peer in self._service.registry.known()
        ]
        return 200, {"peers": peers}

    # --- jobs ------------------------------------------------------------------------

    def submit(self, request: Request) -> tuple[int, Any]:
        """A document, or ``{"job": document, "runId": …}``; 201 with the ids."""
        body = request.json()
        document = body.get("job", body)
        run_id = body.get("runId") if "job" in body else None
        if run_id is not None and not _is_id(run_id):
            raise HttpError(400, "runId: expected at most 128 printable characters")
        if self._service.dispatcher.draining:
            raise HttpError(503, "the coordinator is shutting down")
        try:
            job = self._service.dispatcher.submit(read_document(document), run_id, monotonic())
        except TooManyJobs:
            raise HttpError(429, "too many jobs have not ended") from None
        return 201, {
            "jobId": job.job_id,
            "runId": job.run_id,
            "state": str(job.state),
            "waiting": job.why or None,
        }

    def jobs(self, request: Request) -> tuple[int, Any]:
        state = request.query.get("state")
        if state is not None and state not in frozenset(HeldState):
            raise HttpError(400, f"state: expected one of {', '.join(HeldState)}")
        found = self._service.rows.listed(request.number("limit", 50, MAX_LISTED), state)
        return 200, {"jobs": [self._with_reason(job) for job in found]}

    def job(self, request: Request) -> tuple[int, Any]:
        return 200, self._with_reason(self._find(request))

    def cancel(self, request: Request) -> tuple[int, Any]:
        job = self._find(request)
        body = request.json()
        reason = body.get("reason") or "cancelled by the user"
        if not isinstance(reason, str):
            raise HttpError(400, "reason: expected text")
        force = body.get("force") is True
        if not self._service.dispatcher.cancel(job["jobId"], reason[:500], force, monotonic()):
            raise HttpError(409, f"the job has ended: {job['state']}")
        self._service.flush()
        return 200, self._with_reason(self._find(request))

    def log(self, request: Request) -> tuple[int, Any]:
        """Chunks after ``after``; without any, waits up to ``wait`` seconds for news."""
        job = self._find(request)
        after = request.number("after", 0, 2**62)
        wait_s = request.number("wait", 0, MAX_WAIT_S)
        chunks, following = self._service.logs.read(job["jobId"], after)
        if not chunks and wait_s and job["state"] not in HELD_ENDED:
            self._wait(job["jobId"], wait_s)
            # The state first: lines that came with the end must not be missed.
            job = self._find(request)
            chunks, following = self._service.logs.read(job["jobId"], after)
        ended = job["state"] in HELD_ENDED and not chunks
        answer = {"chunks": chunks, "next": following, "state": job["state"], "ended": ended}
        return 200, answer | {"waiting": self._service.waiting_reason(job["jobId"])}

    def _wait(self, job_id: str, wait_s: int) -> None:
        if self._n_waiters >= MAX_WAITERS:
            raise HttpError(429, "too many readers wait")
        self._n_waiters += 1
        try:
            self._service.logs.wait(job_id, wait_s)
        finally:
            self._n_waiters -= 1

    def _find(self, request: Request) -> dict[str, Any]:
        job = self._service.rows.shown(request.path["job"])
        if job is None:
            raise HttpError(404, "no such job (or the beginning of its id is ambiguous)")
        return job

    def _with_reason(self, job: dict[str, Any]) -> dict[str, Any]:
        return job | {"waiting": self._service.waiting_reason(job["jobId"])}

    # --- administration --------------------------------------------------------------

    def join_token(self, request: Request) -> tuple[int, Any]:
        body = request.json()
        role = body.get("role", "worker")
        life_ms = body.get("expiryMs", DEFAULT_TOKEN_LIFE_MS)
        org_id, routing_key = body.get("orgId", "default"), body.get("routingKey", "default")
        if role not in ROLES:
            raise HttpError(400, f"role: expected one of {', '.join(ROLES)}")
        if type(life_ms) is not int or not 0 < life_ms <= MAX_TOKEN_LIFE_MS:
            raise HttpError(400, f"expiryMs: expected a number from 1 to {MAX_TOKEN_LIFE_MS}")
        if not all(
            isinstance(name, str) and 0 < len(name) <= 200 for name in (org_id, routing_key)
        ):
            raise HttpError(400, "orgId, routingKey: expected text of at most 200 characters")
        made = self._service.tokens.mint(role, life_ms, org_id, routing_key, "api")
        return 201, {
            "token": made.token,
            "role": made.role,
            "orgId": made.org_id,
            "routingKey": made.routing_key,
            "expiresAt": iso(made.expires_at),
        }

    def peers(self, request: Request) -> tuple[int, Any]:
        return 200, {"peers": [row.shown() for row in self._service.tokens.peers()]}

    def revoke(self, request: Request) -> tuple[int, Any]:
        n = self._service.tokens.revoke(request.path["peer"])
        if not n:
            raise HttpError(404, "no active credential of that instance")
        self._service.enforce_revocations()
        return 200, {"revoked": n}

    def revoke_all(self, request: Request) -> tuple[int, Any]:
        n = self._service.tokens.revoke(None)
        self._service.enforce_revocations()
        return 200, {"revoked": n}

    def peer_logs(self, request: Request) -> tuple[int, Any]:
        """A ZIP of a worker's logs; ``agentIds`` names those whose bundles are in it, all
        without it. Answered within a minute."""
        body = request.json()
        hours, agent_ids = body.get("hours", 4), body.get("agentIds")
        if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 < hours <= 9000:
            raise HttpError(400, "hours: expected a number above 0")
        if agent_ids is not None and not _is_names(agent_ids):
            raise HttpError(400, f"agentIds: expected a list of at most {MAX_AGENT_IDS} texts")
        chosen = None if agent_ids is None else tuple(agent_ids)
        try:
            file = self._service.bundles.collect(request.path["peer"], hours, chosen)
        except NotCollected as error:
            raise HttpError(error.status, str(error)) from None
        return 200, Download(file, os.fstat(file.fileno()).st_size, "application/zip")


def _is_id(value: Any) -> bool:
    """It becomes a part of environments, log lines and names at the worker."""
    return isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable()


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_AGENT_IDS
        and all(isinstance(one, str) and 0 < len(one) <= 256 for one in value)
    )
