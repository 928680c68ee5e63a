"""A job on the agent link, from ``job.dispatch`` to its end (agent spec 2.1, 2.2, 3.1)."""

from typing import Any

import msgspec

from kici.contracts.wire import Number, Wire


class JobDispatch(Wire, tag="job.dispatch", frozen=True, kw_only=True):
    """W -> A; answered by ``job.ack`` or ``job.reject`` (3.1). Holds SECRETS."""

    message_id: str
    run_id: str
    job_id: str
    repo_url: str
    ref: str
    sha: str
    lock_file_url: str
    job_config: dict[str, Any]
    timestamp: Number
    job_name: str | None = None
    workflow_name: str | None = None
    token: str | None = None
    source_auth: dict[str, Any] | None = None
    workflow_auth: dict[str, Any] | None = None
    secrets: dict[str, str] | None = None
    namespaced_secrets: dict[str, dict[str, str]] | None = None
    run_public_key: str | None = None
    npm_registries: list[dict[str, Any]] | None = None
    install_env_secrets: dict[str, str] | None = None
    container_registry_auth: dict[str, Any] | None = None
    max_log_size_bytes: Number | str | None = None
    source_tar_url: str | None = None
    source_tar_hash: str | None = None
    source_tar_digest: str | None = None
    deps_url: str | None = None
    deps_hash: str | None = None
    request_id: str | None = None
    upstream_job_outputs: dict[str, Any] | None = None
    upstream_job_statuses: dict[str, Any] | None = None
    org_id: str | None = None
    repo_id: str | None = None
    cache_ref_scope: str | None = None


class JobCancel(Wire, tag="job.cancel", frozen=True, kw_only=True):
    """W -> A; answered by a terminal ``job.status``."""

    message_id: str
    run_id: str
    job_id: str
    reason: str
    force: bool | None = None


class JobAck(Wire, tag="job.ack", frozen=True, kw_only=True):
    message_id: str
    run_id: str
    job_id: str
    timestamp: Number


class JobReject(Wire, tag="job.reject", frozen=True, kw_only=True):
    message_id: str
    run_id: str
    job_id: str
    timestamp: Number
    reason: str


class JobStatus(Wire, tag="job.status", frozen=True, kw_only=True):
    """A -> W, relayed as ``job.progress`` kind job (2.2.8)."""

    message_id: str
    run_id: str
    job_id: str
    state: str
    timestamp: Number
    data: dict[str, Any] | None = None
    dropped_jobs: tuple[str, ...] | None = None
    secret_outputs: dict[str, Any] | None = None


class StepStatus(Wire, tag="step.status", frozen=True, kw_only=True):
    """A -> W, relayed as ``job.progress`` kind step (2.2.9)."""

    message_id: str
    run_id: str
    job_id: str
    step_index: int
    step_name: str
    state: str
    timestamp: Number
    data: dict[str, Any] | None = None
    # snake_case on the wire, unlike everything else.
    step_type: str | None = msgspec.field(default=None, name="step_type")
    secrets_accessed: tuple[str, ...] | None = None
    concurrency_kind: str | None = None
    group_id: str | None = None
    log_bytes_streamed: int | None = None


class LogChunk(Wire, tag="log.chunk", frozen=True, kw_only=True):
    """A -> W, relayed as ``peer.log.chunk``; ``step_index`` -1 is the job itself (2.2.10).

    Ours: ``first_line`` is the number of the first line within its step, from 0; ``n_covered``
    how many numbers the chunk takes when that is not its number of lines: its text then
    stands for lines that are gone. Others ignore both.
    """

    message_id: str
    run_id: str
    job_id: str
    step_index: Number
    lines: tuple[str, ...]
    timestamp: Number
    stream: str | None = None
    first_line: int | None = None
    n_covered: int | None = None


class JobHeartbeat(Wire, tag="job.heartbeat", frozen=True, kw_only=True):
    run_id: str
    job_id: str
    timestamp: Number
