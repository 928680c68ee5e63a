"""Jobs as a coordinator offers them; their shape is that of the recorded ones."""

import time

import msgspec

from kici.contracts.wire.peer.jobs import JobReroute

_PAYLOAD = msgspec.Raw(
    b'{"ref":"refs/heads/main","after":"783c2cebbfeea40ce7cd7be3504d2b77a507f30b",'
    b'"repository":{"full_name":"acme/app","default_branch":"main"}}'
)
_CONFIG = msgspec.Raw(
    b'{"source":{"file":".kici/workflows/ci.ts","export":"#main"},"workflowName":"main",'
    b'"name":"build","baseJobName":"build","runsOnPick":"deterministic",'
    b'"steps":[{"name":"hello","hasOutputs":false},{"name":"second","hasOutputs":false}],'
    b'"needs":[],"contentHash":"047b431843f2bb64903133aae1275a449c98105573eafe843c5b6fe6cd26ccb8"}'
)


def reroute(number: int, labels: tuple[str, ...] = ("linux",)) -> JobReroute:
    """Job ``number``; its message id tells it again in the ack."""
    return JobReroute(
        message_id=f"m-{number}",
        job_id=f"job-{number:08d}-0000-0000-0000-000000000000",
        run_id=f"run-{number:08d}-0000-0000-0000-000000000000",
        delivery_id=f"d-{number}",
        routing_key="generic:org:source",
        event="push",
        action=None,
        payload=_PAYLOAD,
        job_name="build",
        workflow_name="main",
        runs_on_labels=(labels,),
        tried_connections=("bench",),
        max_hops=3,
        coordinator_id="bench",
        request_id=f"q-{number}",
        job_config=_CONFIG,
        repo_url="https://git.example/acme/app.git",
        ref="main",
        sha="783c2cebbfeea40ce7cd7be3504d2b77a507f30b",
        provider="generic",
    )


def native() -> JobReroute:
    """A job for our own agent: one shell step without a checkout."""
    config = (
        b'{"name":"build","steps":[{"name":"hello","hasOutputs":false}],"native":{"version":1,'
        b'"checkout":false,"steps":[{"name":"hello","run":"echo hello"}]}}'
    )
    job = reroute(0, ("linux", "bench", "runtime:native"))
    unique = f"{time.time_ns():x}"
    return msgspec.structs.replace(
        job,
        job_id=f"native-{unique}",
        run_id=f"native-{unique}",
        job_config=msgspec.Raw(config),
        repo_url=None,
    )
