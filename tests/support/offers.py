"""The smallest sound offer of a job, as a coordinator sends it (peer spec 4.5)."""

from typing import Any


def reroute(job_id: str = "j1", run_id: str = "r1", **changes: Any) -> dict[str, Any]:
    """A ``job.reroute`` for the label ``linux``; ``changes`` by their keys on the wire."""
    return {
        "type": "job.reroute",
        "messageId": f"offer-{job_id}",
        "jobId": job_id,
        "runId": run_id,
        "deliveryId": "d",
        "routingKey": "k",
        "event": "push",
        "action": None,
        "payload": {},
        "jobName": "build",
        "workflowName": "ci",
        "runsOnLabels": [["linux"]],
        "triedConnections": ["coord-a"],
        "maxHops": 3,
        "coordinatorId": "coord-a",
    } | changes
