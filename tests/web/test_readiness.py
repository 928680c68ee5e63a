"""``/ready?strict=1``: 503 with reasons while no job could be taken (ours)."""

import json

import pytest

from kici.contracts.link.lifecycle import DrainState
from tests.support.web_child import WebChild, capacity, peer_state, scaler_slots

CHECKS = ("coordinator", "drain", "scalers", "machine")


def strict(web: WebChild) -> tuple[int, dict]:
    status, _headers, body = web.request("GET", "/ready?strict=1")
    return status, json.loads(body)


def test_a_worker_that_nobody_told_anything_is_not_ready(web: WebChild) -> None:
    status, body = strict(web)
    assert status == 503
    assert body["checks"] == {
        "coordinator": "no coordinator is connected",
        "drain": "ok",
        "scalers": "the pool has not reported yet",
        "machine": "ok",
    }


def test_it_is_ready_when_jobs_can_come_and_run(web: WebChild) -> None:
    web.peer.tell(peer_state(1, "connected"))
    web.pool.tell(capacity(1))
    web.eventually("/status", lambda b: b["scalers"] and b["coordinatorConnection"] == "connected")
    assert strict(web) == (
        200,
        {"status": "ready", "checks": dict.fromkeys(CHECKS, "ok")},
    )


def test_each_reason_is_named(web: WebChild) -> None:
    web.peer.tell(peer_state(1, "disconnected", reason="Connection refused"))
    web.pool.tell(capacity(1, scalers=(scaler_slots(healthy=False, reason="no docker"),)))
    web.supervisor.tell(DrainState(rev=2, draining=True, stopping=False, reason="kernel"))
    web.eventually("/status", lambda b: b["draining"] and b["scalers"])
    assert strict(web)[1] == {
        "status": "not ready",
        "checks": {
            "coordinator": "no coordinator is connected: Connection refused",
            "drain": "draining: kernel",
            "scalers": "no scaler works: pi: no docker",
            "machine": "ok",
        },
    }


@pytest.mark.parametrize(
    ("refusing", "said"),
    [
        ("disk: 3 MiB free at /, 512 MiB are the least", None),
        ("Worker is draining", "not fit for more work: disk, memory"),
    ],
)
def test_a_guard_that_holds_jobs_back_is_named(web: WebChild, refusing: str, said: str) -> None:
    web.peer.tell(peer_state(1, "connected"))
    web.pool.tell(capacity(1, refusing=refusing, guards=("disk", "memory")))
    web.eventually("/status", lambda b: b["refusing"] == refusing)
    web.eventually("/status", lambda b: b["coordinatorConnection"] == "connected")
    status, body = strict(web)
    assert status == 503
    assert body["checks"] == dict.fromkeys(CHECKS, "ok") | {"machine": said or refusing}


# W66 W68
def test_without_strict_it_is_200_all_the_same(web: WebChild) -> None:
    assert web.json("/ready") == {"status": "ready", "checks": {}}
    assert web.json("/ready?strict=0") == {"status": "ready", "checks": {}}
