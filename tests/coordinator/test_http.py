"""Odd requests at a real coordinator: each gets an answer, none a stack trace."""

import socket

import pytest

from tests.coordinator.conftest import JOB, LIMIT_S
from tests.coordinator.world import native


def raw(coordinator, head, body=b"", *, shut=False):
    """Status line of the answer to bytes of the test's own; empty when there is none."""
    text = (
        f"{head}\r\nHost: x\r\nAuthorization: Bearer {coordinator.token}\r\nConnection: close\r\n"
    )
    with socket.create_connection(("127.0.0.1", coordinator.port), LIMIT_S) as sock:
        sock.sendall(text.encode() + b"\r\n" + body)
        if shut:
            sock.shutdown(socket.SHUT_WR)
        return sock.makefile("rb").readline()


@pytest.fixture
def no_trace(bystander):
    before = bystander.log.read_text().count("Traceback")
    yield
    assert bystander.log.read_text().count("Traceback") == before


@pytest.mark.parametrize("name", ["limit", "state=queued&limit"])
def test_number_of_thousands_of_digits_is_cut(bystander, no_trace, name):
    status, answer = bystander.ask("GET", f"/api/v1/jobs?{name}={'9' * 5000}")
    assert status == 200
    assert isinstance(answer["jobs"], list)
    assert bystander.ask("GET", f"/api/v1/jobs?{name}={'0' * 5000}1")[0] == 200


@pytest.mark.parametrize("length", [2, 1000, 5 * 2**20])
def test_body_that_ends_too_early_is_a_bad_request(bystander, no_trace, length):
    head = f"POST /api/v1/jobs HTTP/1.1\r\nContent-Length: {length}"
    assert b" 4" in raw(bystander, head, b"{", shut=True)[:13]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("admin/join-tokens", {"expiryMs": True}, 400),
        ("jobs", {"job": JOB, "runId": "a\0b"}, 400),
        ("jobs", {"job": JOB, "runId": "a\nb"}, 400),
        ("jobs", JOB | {"name": "a\0b"}, 422),
        ("jobs", JOB | {"name": "x" * 201}, 422),
        ("jobs", JOB | {"workflow": "x" * 201}, 422),
        ("jobs", JOB | {"env": {"A": "x\0y"}}, 422),
        ("jobs", JOB | {"secrets": {"A": "x\0y"}}, 422),
        ("jobs", JOB | {"runs-on": ["x\0y"]}, 422),
        ("jobs", JOB | {"steps": [{"run": "true\0"}]}, 422),
    ],
    ids=range(10),
)
def test_what_no_worker_could_run_is_refused(bystander, no_trace, path, body, status):
    answered, answer = bystander.ask("POST", f"/api/v1/{path}", body)
    assert answered == status
    assert answer["error"]


@pytest.mark.parametrize("reason", [["x"], {"a": 1}, 7, b"[" * 900 + b"]" * 900])
def test_cancel_with_a_reason_that_is_no_text_is_refused(bystander, no_trace, reason):
    job_id = bystander.submit(JOB)
    body = {"reason": reason} if not isinstance(reason, bytes) else b'{"reason":' + reason + b"}"
    assert bystander.ask("POST", f"/api/v1/jobs/{job_id}/cancel", body)[0] == 400
    assert bystander.ask("POST", f"/api/v1/jobs/{job_id}/cancel", {})[0] == 200


# A thousand jobs with 256 KiB of details each would be one answer of 256 MB.
def test_list_of_jobs_leaves_their_details_to_each(coordinator, job):
    with coordinator.worker() as worker:
        worker.beat(native())
        job_id = coordinator.submit(job)
        reroute = worker.accept()
        worker.report(reroute, "success", data={"outputs": {"a": 1}})
        worker.expect("job.progress.ack")
    (listed,) = coordinator.ask("GET", "/api/v1/jobs")[1]["jobs"]
    assert "data" not in listed
    assert coordinator.job(job_id)["data"] == {"outputs": {"a": 1}}
