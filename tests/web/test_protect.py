"""Who may read and who may write (issue 5, "Protection")."""

import json

import pytest

from kici.contracts.link.lifecycle import DrainRequest, UndrainRequest
from kici.web.protect import BURST, Bucket, host_allowed, same_site
from tests.support.web_child import WebChild, secret


@pytest.mark.parametrize(
    "host",
    [
        None,
        "192.168.1.7:4000",
        "[::1]:4000",
        "[fe80::1%25eth0]:4000",
        "localhost:4000",
        "worker-host:4000",
        "pi.local",
        "pi.home.arpa:4000",
        "allowed.example.org",
        "ALLOWED.example.org.:80",
    ],
)
def test_hosts_that_no_stranger_can_own_are_let_in(host: str | None) -> None:
    assert host_allowed(host, ["allowed.example.org"])


@pytest.mark.parametrize(
    "host", ["evil.com", "localhost.evil.com:4000", "", "[::1", "1.2.3.4.evil.com"]
)
def test_other_hosts_are_not(host: str) -> None:
    assert not host_allowed(host, ["allowed.example.org"])


def test_an_unknown_host_is_421(shared: WebChild) -> None:
    status, _headers, body = shared.request("GET", "/status", Host="rebind.evil.com:4000")
    assert status == 421
    assert b"KICI_ALLOWED_HOSTS" in body


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.com"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://[::1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_cross_site_drain_is_refused(shared: WebChild, headers: dict[str, str]) -> None:
    assert shared.request("POST", "/drain", **headers)[0] == 403
    assert shared.request("DELETE", "/drain", **headers)[0] == 403


def test_another_sites_page_cannot_hold_our_streams(shared: WebChild) -> None:
    for path in ("/api/v1/events", "/api/v1/jobs/j/log"):
        assert shared.request("GET", path, Sec_Fetch_Site="cross-site")[0] == 403


def test_the_pages_own_drain_is_taken(shared: WebChild) -> None:
    own = f"http://127.0.0.1:{shared.port}"
    status, _headers, _body = shared.request(
        "POST", "/drain", Origin=own, Sec_Fetch_Site="same-origin"
    )
    assert status == 200


def test_a_configured_origin_is_the_same_site() -> None:
    headers = {"Origin": "https://ci.example.org", "Host": "10.0.0.1:4000"}
    assert same_site(headers, ["ci.example.org"])
    assert not same_site(headers, [])


# W92
def test_with_an_admin_token_writes_need_it_and_reads_do_not(tmp_path) -> None:
    child = WebChild(tmp_path, admin_token=secret("s3cret"))
    try:
        status, headers, body = child.request("POST", "/drain")
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert b"s3cret" not in body
        assert child.request("POST", "/drain", Authorization="Bearer wrong")[0] == 401
        assert child.request("DELETE", "/drain")[0] == 401
        assert child.request("POST", "/drain", Authorization="bearer s3cret")[0] == 200
        child.supervisor.hear(DrainRequest)
        form = child.request(
            "POST",
            "/drain",
            "token=s3cret&reason=by+hand",
            Content_Type="application/x-www-form-urlencoded",
        )
        assert form[0] == 200
        assert child.supervisor.hear(DrainRequest)[0].reason == "by hand"
        assert child.request("GET", "/status")[0] == 200
    finally:
        child.close()


def test_every_answer_carries_the_security_headers(shared: WebChild) -> None:
    for path in ("/", "/health", "/nope"):
        headers = shared.request("GET", path)[1]
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers


def test_too_many_writes_are_429(web: WebChild) -> None:
    seen = [web.request("POST", "/drain")[0] for _ in range(BURST + 3)]
    assert seen[:BURST] == [200] * BURST
    assert 429 in seen[BURST:]


def test_the_bucket_refills() -> None:
    bucket = Bucket()
    assert [bucket.take(0.0) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert bucket.take(5.0)


def test_a_drain_takes_deadline_and_reason_as_json(web: WebChild) -> None:
    web.request(
        "POST",
        "/drain",
        '{"deadline": "30m", "reason": "new\\nkernel"}',
        Content_Type="application/json",
    )
    wish = web.supervisor.hear(DrainRequest)[0]
    assert (wish.deadline_s, wish.reason, wish.source) == (1800.0, "new kernel", "http")


@pytest.mark.parametrize("deadline", ["soon", "-1", "0", "9999d", True, [1], "1e309"])
def test_an_impossible_deadline_is_400(shared: WebChild, deadline: object) -> None:
    body = json.dumps({"deadline": deadline})
    status, _h, answer = shared.request("POST", "/drain", body, Content_Type="application/json")
    assert status == 400
    assert b"deadline" in answer


@pytest.mark.parametrize("body", ["", "not json", "[1, 2]", '"text"', "{}"])
def test_any_other_body_is_ignored_as_the_reference_does(web: WebChild, body: str) -> None:
    assert web.request("POST", "/drain", body, Content_Type="application/json")[0] == 200


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_form_in_parts_that_has_none_is_ignored_too(tmp_path, kind: str) -> None:
    child = WebChild(tmp_path, admin_token=secret("s3cret"))
    try:
        headers = {"Authorization": "Bearer s3cret", "Content_Type": kind}
        assert child.request("POST", "/drain", "no parts", **headers)[0] == 200
    finally:
        child.close()


def test_undrain_asks_the_supervisor(web: WebChild) -> None:
    status, _headers, body = web.request("DELETE", "/drain")
    assert (status, body) == (200, b'{"draining":false,"activeJobs":0}')
    web.supervisor.hear(UndrainRequest)


def test_a_form_of_the_page_comes_back_to_the_page(web: WebChild) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded", "Accept": "text/html,*/*"}
    status, headers, _body = web.request("POST", "/drain", "wish=undrain", **form)
    assert (status, headers["location"]) == (303, "/")
    web.supervisor.hear(UndrainRequest)
