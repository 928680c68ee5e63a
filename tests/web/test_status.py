"""``/status``, ``/cluster/health`` and ``/drain`` follow what the owners say."""

import re
import time

from kici.contracts.link.lifecycle import DrainRequest, DrainState
from tests.support.web_child import (
    WebChild,
    capacity,
    finished,
    job,
    peer_state,
    slot,
)

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SEED_KEYS = {
    "instanceId": str,
    "role": str,
    "coordinatorConnection": str,
    "draining": bool,
    "uptimeSeconds": int,
    "agents": dict,
    "activeJobs": int,
    "recentJobs": list,
}


# W69 W70 W75
def test_status_has_the_seeds_keys_before_anything_was_told(web: WebChild) -> None:
    body = web.json("/status")
    assert list(body)[: len(SEED_KEYS)] == list(SEED_KEYS)
    assert {key: type(body[key]) for key in SEED_KEYS} == SEED_KEYS
    assert body["instanceId"] == "pi-7"
    assert body["role"] == "worker"
    assert body["coordinatorConnection"] == "disconnected"
    assert body["agents"] == {"total": 0, "active": 0, "idle": 0}
    assert body["recentJobs"] == []


# W74
def test_status_follows_the_first_coordinators_link(web: WebChild) -> None:
    for rev, state in enumerate(
        ["connecting", "handshaking", "authenticating", "connected", "disconnected"], 1
    ):
        web.peer.tell(peer_state(rev, state))
        web.eventually("/status", lambda body, s=state: body["coordinatorConnection"] == s)


def test_an_older_revision_changes_nothing(web: WebChild) -> None:
    web.peer.tell(peer_state(5, "connected"))
    web.peer.tell(peer_state(4, "connecting"))
    web.pool.tell(capacity(1, slot("a")))
    web.peer.tell(peer_state(6, "connected", reason="marker"))
    body = web.eventually("/status", lambda b: b["coordinators"][0]["reason"] == "marker")
    assert body["coordinatorConnection"] == "connected"


def test_what_was_queued_before_an_owners_restart_is_ignored(web: WebChild) -> None:
    old = web.peer.boot_id
    web.peer.restart()
    web.peer.tell(peer_state(1, "connecting"))
    web.peer.tell(peer_state(99, "connected"), boot_id=old)
    web.peer.tell(peer_state(2, "connecting", reason="marker"))
    body = web.eventually("/status", lambda b: b["coordinators"][0]["reason"] == "marker")
    assert body["coordinatorConnection"] == "connecting"


def test_an_owners_restart_is_shown_as_stale_until_its_snapshot(web: WebChild) -> None:
    def pool(body: dict) -> dict:
        return next((s for s in body["sources"] if s["name"] == "pool"), {})

    web.pool.tell(capacity(1, slot("a")))
    web.eventually("/status", lambda b: b["agents"]["total"] == 1)
    web.pool.restart()
    body = web.eventually("/status", lambda b: pool(b)["stale"])
    assert body["agents"]["total"] == 1
    assert b"has just started anew" in web.request("GET", "/")[2]
    web.pool.tell(capacity(1))
    body = web.eventually("/status", lambda b: not pool(b)["stale"])
    assert body["agents"]["total"] == 0


def test_agents_and_jobs_are_the_pools_numbers(web: WebChild) -> None:
    web.pool.tell(capacity(1, slot("a", 1), slot("b", 2), slot("c"), n_queued_jobs=4))
    body = web.eventually("/status", lambda b: b["activeJobs"] == 3)
    assert body["agents"] == {"total": 3, "active": 2, "idle": 1}
    assert body["queuedJobs"] == 4


# W71 W72
def test_a_finished_job_is_shown_with_iso_times(web: WebChild) -> None:
    web.pool.tell(job(1, "j-1"))
    web.pool.tell(finished(2, "j-1", started_at=1_000_000.0, completed_at=1_000_150.0))
    body = web.eventually("/status", lambda b: b["recentJobs"])
    assert body["recentJobs"] == [
        {
            "runId": "run-1",
            "jobId": "j-1",
            "jobName": "build",
            "workflowName": "ci",
            "status": "success",
            "startedAt": "1970-01-12T13:46:40.000Z",
            "completedAt": "1970-01-12T13:49:10.000Z",
            "durationMs": 150000,
        }
    ]


# W73 W115
def test_recent_jobs_are_the_newest_twenty_and_two_of_one_run_both_appear(web: WebChild) -> None:
    for number in range(25):
        web.pool.tell(finished(number + 1, f"j-{number}"))
    body = web.eventually(
        "/status", lambda b: b["recentJobs"][:1] and b["recentJobs"][0]["jobId"] == "j-24"
    )
    assert [row["jobId"] for row in body["recentJobs"]] == [f"j-{n}" for n in range(24, 4, -1)]


def test_a_job_told_twice_is_in_the_history_once(web: WebChild) -> None:
    ended = time.time()
    web.pool.tell(finished(1, "j-1", completed_at=ended))
    web.pool.tell(finished(1, "j-1", completed_at=ended))
    web.pool.tell(finished(2, "j-2"))
    body = web.eventually("/status", lambda b: len(b["recentJobs"]) >= 2)
    assert [row["jobId"] for row in body["recentJobs"]] == ["j-2", "j-1"]


def test_the_history_outlives_the_web_process(web: WebChild) -> None:
    web.pool.tell(finished(1, "j-1"))
    web.eventually("/status", lambda b: b["recentJobs"])
    web.restart()
    assert [row["jobId"] for row in web.json("/status")["recentJobs"]] == ["j-1"]


def test_nothing_is_written_while_no_job_ends(web: WebChild) -> None:
    before = {path.name for path in web.data_dir.iterdir()}
    web.peer.tell(peer_state(1, "connected"))
    web.pool.tell(capacity(1, slot("a", 1)))
    web.pool.tell(job(1, "j-1"))
    web.eventually("/cluster/health", lambda b: b["activeRuns"] == 1)
    assert {path.name for path in web.data_dir.iterdir()} == before


# W79 W81 W93
def test_cluster_health_has_nine_keys(shared: WebChild) -> None:
    assert shared.json("/cluster/health") == {
        "status": "down",
        "instanceId": "pi-7",
        "role": "worker",
        "term": 0,
        "leaderId": None,
        "peerCount": 1,
        "connectedPeers": 0,
        "agentCount": 0,
        "activeRuns": 0,
    }


# W80
def test_cluster_health_counts_links(tmp_path) -> None:
    one, two = "ws://127.0.0.1:1/ws/peer", "ws://127.0.0.1:2/ws/peer"
    child = WebChild(tmp_path, coordinator_urls=(one, two))
    try:
        assert child.json("/cluster/health")["status"] == "down"
        child.peer.tell(peer_state(1, "connected", one))
        body = child.eventually("/cluster/health", lambda b: b["status"] == "degraded")
        assert (body["peerCount"], body["connectedPeers"]) == (2, 1)
        child.peer.tell(peer_state(1, "connected", two, index=1))
        child.eventually("/cluster/health", lambda b: b["status"] == "healthy")
    finally:
        child.close()


def test_a_coordinator_with_a_password_in_its_url_is_known_and_the_password_is_not(
    tmp_path,
) -> None:
    configured = "ws://me:hunter2@127.0.0.1:1/ws/peer"
    child = WebChild(tmp_path, coordinator_urls=(configured,))
    try:
        said = [child.text("/status"), child.text("/metrics")]
        child.peer.tell(peer_state(1, "connected", "ws://127.0.0.1:1/ws/peer"))
        child.eventually("/status", lambda b: b["coordinatorConnection"] == "connected")
        child.pool.tell(job(1, "j-1", owner=configured))
        child.eventually("/api/v1/jobs", lambda b: b["jobs"])
        said += [child.text(path) for path in ("/status", "/metrics", "/", "/api/v1/jobs")]
        child.pool.tell(finished(2, "j-1", owner=configured))
        child.eventually("/status", lambda b: b["recentJobs"])
        said += [child.text(path) for path in ("/status", "/", "/api/v1/jobs")]
    finally:
        child.close()
    said += [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("j-1" in text for text in said[-1:])
    assert not [text for text in said if "hunter2" in text]


# W94
def test_active_runs_are_counted_once_each(web: WebChild) -> None:
    web.pool.tell(job(1, "j-1"))
    web.pool.tell(job(2, "j-2"))
    web.pool.tell(job(3, "j-3", run_id="run-2"))
    web.eventually("/cluster/health", lambda b: b["activeRuns"] == 2)


# W76 W77 W132
def test_drain_asks_the_supervisor_and_answers_at_once(web: WebChild) -> None:
    web.pool.tell(capacity(1, slot("a", 1)))
    web.eventually("/status", lambda b: b["activeJobs"] == 1)
    for _ in range(2):
        status, headers, body = web.request("POST", "/drain")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert body == b'{"draining":true,"activeJobs":1}'
        wish, _fds = web.supervisor.hear(DrainRequest)
        assert (wish.deadline_s, wish.reason) == (None, "")
    assert web.process.poll() is None


# W133
def test_drain_takes_what_the_reference_command_sends(shared: WebChild) -> None:
    status, _headers, _body = shared.request("POST", "/drain", Content_Type="application/json")
    assert status == 200


# W68 W95
def test_routes_answer_while_draining(web: WebChild) -> None:
    web.supervisor.tell(DrainState(rev=2, draining=True, stopping=True, reason="SIGTERM"))
    web.eventually("/status", lambda b: b["draining"] is True)
    for path in ("/health", "/ready", "/cluster/health"):
        assert web.request("GET", path)[0] == 200


def test_leave_ends_the_process_with_0(web: WebChild) -> None:
    assert web.leave() == 0


def test_the_end_of_the_supervisor_ends_the_process(web: WebChild) -> None:
    web.supervisor.close()
    web._kept["supervisor"].close()
    assert web.process.wait(15) == 4
