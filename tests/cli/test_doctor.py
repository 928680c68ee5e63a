"""``doctor``: each trouble is named with its fix, also when the worker is down."""

import http.server
import json
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from kici.cli.checks import configuration, engine, machine, network, service
from kici.cli.checks.finding import Finding, Patient, fail, ok, run_all
from kici.cli.doctor import line
from kici.config.model import Config, LabelSet, Scaler, ScalerConfig
from kici.contracts.link.lifecycle import DrainState
from tests.support.command import run_worker
from tests.support.web_child import WebChild, capacity, child_state, peer_state, settings

OLD, NEW = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


class Upgrading(http.server.BaseHTTPRequestHandler):
    """A coordinator's port: 101 on /ws/peer, its own idea of the time."""

    skew_s = 0.0
    status = 101

    def do_GET(self) -> None:
        self.send_response_only(self.status)
        self.send_header("Date", self.date_time_string(time.time() - self.skew_s))
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture
def coordinator() -> Iterator[tuple[str, type[Upgrading]]]:
    handler = type("Handler", (Upgrading,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"ws://127.0.0.1:{server.server_port}/ws/peer", handler
    server.shutdown()
    thread.join(5)
    server.server_close()


def patient(tmp_path, scalers: tuple[Scaler, ...] = (), **changes) -> Patient:
    config = Config(
        settings=settings(str(tmp_path), **changes), scalers=ScalerConfig(scalers=scalers)
    )
    return Patient(environ={}, where="does not answer", config=config)


def found(findings, name: str) -> Finding:
    return next(each for each in findings if each.name == name)


def outcomes(ran) -> dict[str, str]:
    return {each["name"]: each["outcome"] for each in json.loads(ran.out)["checks"]}


def environ(tmp_path, url: str) -> dict[str, str]:
    return {
        "KICI_CLUSTER_ROLE": "worker",
        "KICI_CLUSTER_COORDINATOR_URL": url,
        "KICI_CLUSTER_JOIN_TOKEN": "kici_join_v1.xxx.hidden",
        "KICI_DATA_DIR": str(tmp_path),
    }


def test_a_healthy_worker_has_nothing_that_failed_but_its_scalers(
    web: WebChild, url: str, coordinator, tmp_path
) -> None:
    web.peer.tell(peer_state(1, "connected"))
    web.pool.tell(capacity(1))
    for rev, name in enumerate(("peer", "pool", "web"), 1):
        web.supervisor.tell(child_state(rev, name))
    web.eventually("/status", lambda b: len(b["processes"]) == 3 and b["scalers"])
    start = time.monotonic()
    ran = run_worker("doctor", "--url", url, "--json", **environ(tmp_path, coordinator[0]))
    assert time.monotonic() - start < 3
    seen = outcomes(ran)
    assert len(seen) >= 25
    seen.pop("load")  # is the machine's, which runs other tests
    assert [name for name, outcome in seen.items() if outcome == "fail"] == ["scalers"]
    assert "hidden" not in ran.out


def test_a_worker_that_is_down_is_examined_all_the_same(tmp_path) -> None:
    ran = run_worker(
        "doctor", "--url", "http://127.0.0.1:1", **environ(tmp_path, "ws://127.0.0.1:1")
    )
    assert ran.code == 1
    assert "✗ worker: does not answer" in ran.out
    assert "fix: sudo systemctl start kici-worker" in ran.out
    assert "✗ tcp: 127.0.0.1:1: Connection refused" in ran.out
    assert "✓ disk free" in ran.out


def test_a_wrong_configuration_is_a_finding_and_the_rest_goes_on() -> None:
    ran = run_worker(
        "doctor", "--url", "http://127.0.0.1:1", KICI_PORT="abc", KICI_CLUSTER_ROLE="worker"
    )
    assert ran.code == 1
    assert "KICI_PORT" in ran.out
    assert "fix: kici-worker check-config" in ran.out
    assert "memory" in ran.out


def test_a_wrong_clock_is_named(coordinator, tmp_path) -> None:
    url, handler = coordinator
    handler.skew_s = 7200.0
    skew = found(network.coordinators(patient(tmp_path, coordinator_urls=(url,))), "clock skew")
    assert (skew.outcome, skew.value) == ("fail", "ahead by 2h00m")
    assert "timedatectl" in skew.fix


def test_a_proxy_that_passes_no_upgrade_is_named(coordinator, tmp_path) -> None:
    url, handler = coordinator
    handler.status = 400
    upgrade = found(network.coordinators(patient(tmp_path, coordinator_urls=(url,))), "upgrade")
    assert upgrade.outcome == "fail"
    assert "400" in upgrade.value


def test_a_name_that_does_not_resolve_is_dns(tmp_path) -> None:
    url = "ws://no-such-host.invalid:4000/ws/peer"
    (dns,) = network.coordinators(patient(tmp_path, coordinator_urls=(url,)))
    assert (dns.name, dns.outcome) == ("dns", "fail")


def test_tls_to_a_plain_port_is_tls(coordinator, tmp_path) -> None:
    url = coordinator[0].replace("ws://", "wss://")
    tls = found(network.coordinators(patient(tmp_path, coordinator_urls=(url,))), "tls")
    assert tls.outcome == "fail"
    assert "openssl s_client" in tls.fix


@pytest.mark.parametrize(
    ("content", "mode", "name", "outcome"),
    [
        (
            {"issuedAt": "2099-01-01T00:00:00Z", "instanceId": "pi-7"},
            0o644,
            "credential mode",
            "fail",
        ),
        (
            {"issuedAt": "2099-01-01T00:00:00Z", "instanceId": "pi-8"},
            0o600,
            "credential owner",
            "fail",
        ),
        (
            {"issuedAt": "2020-01-01T00:00:00Z", "instanceId": "pi-7"},
            0o600,
            "credential age",
            "fail",
        ),
        ({"issuedAt": NEW, "instanceId": "pi-7"}, 0o644, "credential mode", "fail"),
        ({"issuedAt": NEW, "instanceId": "pi-8"}, 0o600, "credential owner", "fail"),
        ({"issuedAt": OLD, "instanceId": "pi-7"}, 0o600, "credential age", "fail"),
        ({"issuedAt": NEW, "instanceId": "pi-7"}, 0o600, "credential age", "ok"),
        ({}, 0o600, "credential", "fail"),
    ],
)
def test_the_credential_is_judged(tmp_path, content, mode: int, name: str, outcome: str) -> None:
    file = tmp_path / "peer-credential"
    file.write_text(json.dumps({"credential": "f" * 64, **content}))
    file.chmod(mode)
    findings = list(configuration.credential(patient(tmp_path)))
    assert found(findings, name).outcome == outcome
    assert "f" * 64 not in repr(findings)


def container(path: str) -> Scaler:
    return Scaler(
        name="docker",
        type="container",
        max_agents=1,
        socket_path=path,
        label_sets=(LabelSet(labels=("a",), enriched=("a",), image="kici-agent:latest"),),
    )


def test_a_stopped_engine_is_named_with_its_fix(tmp_path) -> None:
    (missing,) = engine.scalers(patient(tmp_path, (container(str(tmp_path / "no.sock")),)))
    assert missing.outcome == "fail"
    assert "systemctl start docker" in missing.fix
    path = str(tmp_path / "dead.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        (refused,) = engine.scalers(patient(tmp_path, (container(path),)))
    assert "Connection refused" in refused.value


def serve_engine(path: str, answers: dict[str, tuple[int, dict]]) -> socket.socket:
    """A Unix socket that answers like an engine until it is closed."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def loop() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                target = client.recv(65536).split(b" ")[1].decode()
                status, body = answers.get(target, (404, {}))
                data = json.dumps(body).encode()
                head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(data)}\r\n\r\n"
                client.sendall(head.encode() + data)

    threading.Thread(target=loop, daemon=True).start()
    return listener


def test_an_image_for_another_machine_is_named(tmp_path) -> None:
    path = str(tmp_path / "engine.sock")
    answers = {
        "/version": (200, {"Version": "20.10", "Arch": "arm64"}),
        "/images/kici-agent%3Alatest/json": (200, {"Architecture": "amd64"}),
    }
    listener = serve_engine(path, answers)
    try:
        findings = list(engine.scalers(patient(tmp_path, (container(path),))))
        assert found(findings, "scaler docker engine").value == f"20.10 at {path}"
        image = found(findings, "scaler docker image")
        assert (image.outcome, image.limit) == ("fail", "for arm64")
        del answers["/images/kici-agent%3Alatest/json"]
        image = found(
            list(engine.scalers(patient(tmp_path, (container(path),)))), "scaler docker image"
        )
        assert image.fix == "docker pull kici-agent:latest"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_missing_agent_binary_is_named(tmp_path) -> None:
    labels = LabelSet(labels=("a",), enriched=("a",), binary_path=str(tmp_path / "none"))
    scaler = Scaler(name="pi", type="bare-metal", max_agents=1, label_sets=(labels,))
    (finding,) = engine.scalers(patient(tmp_path, (scaler,)))
    assert "missing or not executable" in finding.value


def test_a_full_disk_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(machine, "MIN_DISK_FREE", 2**63)
    disk = found(list(machine.disk(patient(tmp_path))), "disk free")
    assert disk.outcome == "fail"
    assert "du -xh" in disk.fix


def test_a_port_in_use_is_named(tmp_path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sick = patient(tmp_path, port=taken.getsockname()[1])
        port = found(list(service.worker(sick)), "port")
    assert (port.outcome, "Address already in use" in port.value) == ("fail", True)


def test_draining_and_restarts_are_named(web: WebChild, tmp_path) -> None:
    web.supervisor.tell(DrainState(rev=2, draining=True, stopping=False, reason="kernel"))
    web.supervisor.tell(child_state(3, "pool", n_restarts=4))
    status = web.eventually("/status", lambda b: b["draining"] and b["processes"])
    sick = patient(tmp_path)
    sick.status = status
    draining = found(list(service.worker(sick)), "draining")
    assert (draining.outcome, draining.fix) == ("fail", "kici-worker undrain")
    assert found(list(service.processes(sick)), "process pool").outcome == "warn"


def test_an_open_port_without_a_token_is_a_warning(tmp_path) -> None:
    (finding,) = configuration.exposure(patient(tmp_path, host="0.0.0.0"))
    assert finding.outcome == "warn"


def test_a_check_that_hangs_or_breaks_is_a_finding(tmp_path) -> None:
    release = threading.Event()

    def hangs(_patient):
        release.wait(10)
        return [ok("never", "")]

    def breaks(_patient):
        raise RuntimeError("boom")

    findings = run_all((hangs, breaks), patient(tmp_path), limit_s=0.2)
    release.set()
    assert [(each.name, each.outcome) for each in findings] == [
        ("hangs", "fail"),
        ("breaks", "fail"),
    ]
    assert "boom" in findings[1].value


def test_a_line_has_symbol_value_limit_and_fix() -> None:
    assert line(fail("disk", "1 B\x1b[2J", "1 GiB", "rm x")) == (
        "✗ disk: 1 B [2J (wanted: 1 GiB)\n    fix: rm x"
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("5min 30s", 330), ("6min", 360), ("infinity", float("inf")), ("", 0)]
)
def test_systemds_durations_are_read(text: str, seconds: float) -> None:
    assert service._seconds(text) == seconds


def test_a_data_directory_of_somebody_else_is_named(tmp_path, monkeypatch) -> None:
    # Root may write anywhere, so the answer of access(2) for another user is given here.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    (finding,) = configuration.data_directory(patient(tmp_path))
    assert finding.outcome == "fail"


def test_a_file_that_was_not_read_is_a_finding_beside_the_problems_it_may_have_caused() -> None:
    patient = Patient(environ={}, where="", problems=["KICI_X: missing"], unread="no /etc/kici/w")
    first, second = configuration.configuration(patient)
    assert (first.outcome, second.outcome) == ("fail", "warn")
    assert second.value == "no /etc/kici/w"
    patient.unread = None
    assert len(list(configuration.configuration(patient))) == 1
