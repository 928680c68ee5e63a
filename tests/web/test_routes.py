"""The routes from outside: status lines, headers and bodies (worker surface 3, W64-W95)."""

import json
import re

import pytest

from tests.support.web_child import WebChild

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
GET_ROUTES = ["/health", "/ready", "/status", "/cluster/health"]


# W64 W65
def test_health_is_200_and_says_what_runs_here(shared: WebChild) -> None:
    body = shared.json("/health")
    assert body["status"] == "ok"
    assert ISO.fullmatch(body["timestamp"])
    assert isinstance(body["uptime"], float)
    assert body["role"] == "worker"
    assert set(body) == {
        "status",
        "timestamp",
        "uptime",
        "role",
        "version",
        "buildCommit",
        "sdkVersion",
        "sdkBundleHash",
        "sharedVersion",
        "sharedBundleHash",
        "engineVersion",
        "engineBundleHash",
    }


# W66 W67
def test_ready_is_200_while_disconnected(shared: WebChild) -> None:
    assert shared.json("/ready") == {"status": "ready", "checks": {}}


@pytest.mark.parametrize("path", GET_ROUTES)
def test_json_routes_say_application_json(shared: WebChild, path: str) -> None:
    status, headers, body = shared.request("GET", path)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert b": " not in body.split(b'"timestamp"')[0]
    json.loads(body)


# W84
@pytest.mark.parametrize("path", GET_ROUTES)
def test_head_is_get_without_a_body(shared: WebChild, path: str) -> None:
    status, headers, body = shared.request("HEAD", path)
    assert (status, headers["content-type"], body) == (200, "application/json", b"")


# W78 W82 W83 W85 W86
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/drain"),
        ("PUT", "/drain"),
        ("OPTIONS", "/drain"),
        ("GET", "/nope"),
        ("POST", "/nope"),
        ("GET", "/ws"),
        ("GET", "/ws/peer"),
        ("GET", "/cluster/peers"),
        ("GET", "/cluster/runs"),
        ("GET", "/api/v1/admin/runs"),
        ("GET", "/admin/x"),
        ("GET", "/webhook/a/generic/b"),
        ("GET", "/.well-known/x"),
        ("GET", "/health/"),
        ("GET", "/status/"),
        ("GET", "//health"),
        ("GET", "/HEALTH"),
        ("POST", "/health"),
        ("PUT", "/status"),
        ("DELETE", "/health"),
        ("PATCH", "/status"),
        ("OPTIONS", "/health"),
        ("OPTIONS", "/status"),
        ("POST", "/cluster/health"),
        ("POST", "/ready"),
    ],
)
def test_what_is_not_there_is_404_in_plain_text(shared: WebChild, method: str, path: str) -> None:
    status, headers, body = shared.request(method, path)
    assert (status, body) == (404, b"404 Not Found")
    assert headers["content-type"] == "text/plain; charset=UTF-8"
    assert not [name for name in headers if name.startswith("access-control")]


# W78
def test_head_of_drain_is_404(shared: WebChild) -> None:
    assert shared.request("HEAD", "/drain")[0] == 404


def test_a_query_changes_nothing(shared: WebChild) -> None:
    assert shared.request("GET", "/health?x=1")[0] == 200


def test_http_1_0_is_answered(shared: WebChild) -> None:
    assert shared.raw(b"GET /health HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


# W87
def test_the_base_path_moves_every_route(tmp_path) -> None:
    child = WebChild(tmp_path, base_path="/x")
    try:
        for path in [*GET_ROUTES, "/"]:
            assert child.request("GET", "/x" + path)[0] == 200, path
            assert child.request("GET", path)[0] == 404, path
        assert child.request("POST", "/x/drain")[0] == 200
    finally:
        child.close()
