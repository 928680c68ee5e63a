"""From ``job.reroute`` to ``job.dispatch`` (peer spec 4.5-4.7, agent spec 3).

Everything here holds the job's SECRETS: nothing of it may be logged or kept.
"""

from typing import Any

import msgspec

from kici.config.model import Resources
from kici.contracts.wire.agent.jobs import JobDispatch
from kici.contracts.wire.peer.jobs import JobReroute
from kici.pool.resources import BadResources, read_resources
from kici.protocol.labels import BadLabels, Requirements, requirements
from kici.protocol.nesting import MAX_DEPTH, is_too_deep, may_be_deep

#: Keys that leave ``jobConfig`` for the top level of the dispatch (A30).
LIFTED = {
    "secrets": "secrets",
    "namespacedSecrets": "namespaced_secrets",
    "runPublicKey": "run_public_key",
    "npmRegistries": "npm_registries",
    "installEnvSecrets": "install_env_secrets",
    "containerRegistryAuth": "container_registry_auth",
    "cloneToken": "token",
    "sourceAuth": "source_auth",
    "workflowAuth": "workflow_auth",
    "upstreamJobOutputs": "upstream_job_outputs",
    "upstreamJobStatuses": "upstream_job_statuses",
}
#: Keys that are copied and stay (A33).
COPIED = {"cacheOrgId": "org_id", "cacheRepoId": "repo_id", "cacheRefScope": "cache_ref_scope"}

#: Characters of a name as people see it; the agent gets the whole.
MAX_SHOWN = 500

_reroutes = msgspec.json.Decoder(JobReroute)


class Refused(Exception):
    """The offer cannot be taken; the text goes into ``job.reroute.ack``."""


class JobSpec(msgspec.Struct, kw_only=True):
    """One job as offered. ``fields`` is the dispatch but message id and timestamp; the names
    beside it are for people, and cut."""

    message_id: str
    job_name: str
    workflow_name: str
    repo_url: str
    ref: str
    sha: str
    request_id: str | None
    labels: tuple[str, ...]
    need: Requirements
    tried: tuple[str, ...]
    max_hops: float
    resources: Resources | None
    image: str | None
    #: SECRET; None once an agent runs the job.
    fields: dict[str, Any] | None


def read_offer(reroute: bytes) -> JobSpec:
    """Parse and check an offer; ``Refused`` with the reason when it cannot be taken."""
    try:
        message = _reroutes.decode(reroute)
        config = _config(message)
    except (msgspec.DecodeError, RecursionError) as error:
        # The text of msgspec's errors names fields and types, never values.
        raise Refused(f"Invalid job.reroute: {error}") from None
    container = config.get("container")
    container = container if isinstance(container, dict) else {}
    try:
        need = requirements(
            runs_on=message.runs_on_labels,
            exclude=message.exclude_labels or (),
            patterns=message.runs_on_patterns or (),
            exclude_patterns=message.exclude_patterns or (),
            pick=_text(config.get("runsOnPick")),
            builds_image=bool(container.get("dockerfile")),
        )
        resources = read_resources(config.get("resources"))
    except (BadLabels, BadResources) as error:
        raise Refused(f"Invalid job: {error}") from None
    return JobSpec(
        message_id=message.message_id,
        job_name=_shown(message.job_name),
        workflow_name=_shown(message.workflow_name),
        repo_url=_shown(message.repo_url),
        ref=_shown(message.ref),
        sha=_shown(message.sha),
        request_id=_shown(message.request_id) or None,
        labels=tuple(map(_shown, message.runs_on_labels[0])) if message.runs_on_labels else (),
        need=need,
        tried=message.tried_connections,
        max_hops=message.max_hops,
        resources=resources,
        image=_text(container.get("image")),
        fields=_dispatch_fields(message, config),
    )


def _config(message: JobReroute) -> dict[str, Any]:
    raw = bytes(message.job_config) or bytes(message.payload)
    config = msgspec.json.decode(raw, type=dict[str, Any] | None) or {}
    if may_be_deep(raw) and is_too_deep(config):
        raise Refused(f"Invalid job.reroute: jobConfig is nested deeper than {MAX_DEPTH}")
    if message.clone_token:
        config["cloneToken"] = message.clone_token
    return config


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _shown(text: str | None) -> str:
    return (text or "")[:MAX_SHOWN]


def _dispatch_fields(message: JobReroute, config: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "run_id": message.run_id,
        "job_id": message.job_id,
        "job_name": message.job_name,
        "workflow_name": message.workflow_name,
        "repo_url": message.repo_url or "",
        "ref": message.ref or "",
        "sha": message.sha or "",
        "lock_file_url": _text(config.get("lockFileUrl")) or "",
        "request_id": message.request_id,
        "source_tar_url": message.source_tar_url,
        "source_tar_hash": message.source_tar_hash,
        "source_tar_digest": message.source_tar_digest,
        "deps_url": message.deps_url,
        "deps_hash": message.deps_hash,
    }
    for key, name in LIFTED.items():
        # Empty ones are left out altogether (A32).
        if value := config.pop(key, None):
            fields[name] = value
    _settle_source_auth(fields)
    for key, name in COPIED.items():
        if value := config.get(key):
            fields[name] = value
    fields["job_config"] = config
    return fields


def _settle_source_auth(fields: dict[str, Any]) -> None:
    """A31: ``token`` and ``sourceAuth`` must not contradict; pinned ssh needs its hosts."""
    auth = fields.get("source_auth")
    if auth is None:
        return
    broken = not isinstance(auth, dict) or (
        auth.get("sshHostKeyPolicy") == "pinned" and not auth.get("sshKnownHostsPem")
    )
    if broken:
        del fields["source_auth"]
    elif auth.get("kind") != "basic" or auth.get("secret") != fields.get("token"):
        # The structured form says more than the plain token.
        fields.pop("token", None)


def build_dispatch(spec: JobSpec, *, message_id: str, timestamp_ms: int) -> JobDispatch:
    """The frame for one attempt; raises ``Refused`` when the agent could not read it."""
    assert spec.fields is not None
    return JobDispatch(message_id=message_id, timestamp=timestamp_ms, **spec.fields)
