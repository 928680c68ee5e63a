"""Turns a checked job document into a ``job.reroute`` (peer spec 4.5, 4.6). Pure."""

from typing import Any

import msgspec

from kici.contracts.wire.peer.jobs import JobReroute
from kici.coordinator.document import JobSpec

#: Peers never forward for us; what matters is that a receiver's check ``len(tried) >=
#: maxHops`` does not refuse a job because others refused it before (4.7).
MIN_HOPS = 3
_EVENT = {"type": "manual", "payload": {}}
_encode = msgspec.json.encode


def make_reroute(spec: JobSpec, *, run_id: str, job_id: str, coordinator_id: str) -> JobReroute:
    """The message without its ``message_id`` and history: those differ for each send. SECRET."""
    return JobReroute(
        message_id="",
        job_id=job_id,
        run_id=run_id,
        delivery_id=run_id,
        routing_key="default",
        event="manual",
        action=None,
        payload=msgspec.Raw(b"{}"),
        job_name=spec.name,
        workflow_name=spec.workflow,
        runs_on_labels=(spec.labels,),
        exclude_labels=spec.exclude,
        runs_on_patterns=spec.patterns,
        exclude_patterns=spec.exclude_patterns,
        tried_connections=(),
        max_hops=MIN_HOPS,
        coordinator_id=coordinator_id,
        job_config=msgspec.Raw(_encode(_job_config(spec))),
        repo_url=spec.repo_url,
        ref=spec.ref,
        sha=spec.sha,
        provider="universal-git",
        provider_context=msgspec.Raw(b"{}"),
        source_tar_url=spec.source_url,
        source_tar_digest=spec.source_sha256,
    )


def for_send(reroute: JobReroute, message_id: str, tried: tuple[str, ...]) -> JobReroute:
    """``reroute`` for one peer; ``tried`` begins with our own id (C35)."""
    return msgspec.structs.replace(
        reroute,
        message_id=message_id,
        tried_connections=tried,
        max_hops=max(MIN_HOPS, len(tried) + 1),
    )


def _job_config(spec: JobSpec) -> dict[str, Any]:
    steps = [
        {"name": step["name"], "hasOutputs": False}
        | ({"timeout": step["timeoutMs"]} if "timeoutMs" in step else {})
        | ({"continueOnError": True} if step.get("continueOnError") else {})
        for step in spec.steps
    ]
    config: dict[str, Any] = {
        "source": {"file": spec.file or ""},
        "workflowName": spec.workflow,
        "name": spec.name,
        "baseJobName": spec.name,
        "steps": steps,
        "needs": [],
        "rules": [],
        "cacheRefScope": "isolated",
        "event": _EVENT,
    }
    if spec.native:
        config["native"] = {
            "version": 1,
            "shell": spec.shell,
            "checkout": bool(spec.repo_url or spec.source_url),
            "steps": list(spec.steps),
        }
    if spec.secrets:
        config["secrets"] = spec.secrets
    if spec.env:
        config["jobEnv"] = spec.env
    if spec.timeout_ms is not None:
        config["timeout"] = spec.timeout_ms
    return config
