"""The way to each coordinator, step by step: DNS, TCP, TLS, upgrade, each timed apart."""

import base64
import email.utils
import os
import socket
import ssl
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from kici.cli.checks.finding import Finding, Patient, fail, judged, ok, skip, warn
from kici.wording import duration

STEP_S = 0.8
#: Older TLS and slow links are fine; this is where people notice.
SLOW_S = 0.5
MAX_SKEW_S = 30.0
MIN_CERTIFICATE_DAYS = 14
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def coordinators(patient: Patient) -> Iterator[Finding]:
    if patient.config is None:
        yield skip("coordinator", "configuration has problems")
        return
    for url in patient.config.settings.coordinator_urls:
        yield from _reach(url)


def proxy(patient: Patient) -> Iterator[Finding]:
    found = [name for name in _PROXIES if os.environ.get(name) or patient.environ.get(name)]
    if found:
        value = f"{found[0]} is set"
        yield warn(
            "proxy",
            value,
            "the link dials directly",
            "allow the coordinator's port in the firewall",
        )
    else:
        yield ok("proxy", "none")


def loki(patient: Patient) -> Iterator[Finding]:
    url = patient.config.settings.loki_url if patient.config else None
    if not url:
        yield skip("loki", "KICI_LOKI_URL is not set")
        return
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), STEP_S).close()
        yield ok("loki", f"{parts.hostname}:{port} reachable")
    except OSError as error:
        yield fail(
            "loki",
            error.strerror or error,
            "reachable",
            f"curl -v {parts.scheme}://{parts.hostname}:{port}/ready",
        )


def _reach(url: str) -> Iterator[Finding]:
    parts = urlsplit(url if "//" in url else f"ws://{url}")
    host, is_tls = parts.hostname or "", parts.scheme in ("wss", "https")
    port = parts.port or (443 if is_tls else 80)
    try:
        start = time.monotonic()
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4]
        yield _timed("dns", start, f"{host} is {address[0]}")
    except OSError as error:
        yield fail(
            "dns",
            f"{host}: {error.strerror or error}",
            "a name that resolves",
            f"getent hosts {host}",
        )
        return
    yield from _connect(host, port, is_tls, parts.path)


def _connect(host: str, port: int, is_tls: bool, path: str) -> Iterator[Finding]:
    start = time.monotonic()
    try:
        plain = socket.create_connection((host, port), STEP_S)
    except OSError as error:
        value = f"{host}:{port}: {error.strerror or error}"
        yield fail("tcp", value, "open", f"curl -v http://{host}:{port}/health")
        return
    with plain:
        yield _timed("tcp", start, f"{host}:{port}")
        if not is_tls:
            yield skip("tls", "ws:// is not encrypted")
            yield from _upgrade(plain, host, port, path)
            return
        start = time.monotonic()
        try:
            secure = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        except OSError as error:
            reason = getattr(error, "verify_message", "") or error
            yield fail(
                "tls", reason, "a trusted certificate", f"openssl s_client -connect {host}:{port}"
            )
            return
        with secure:
            yield _timed("tls", start, secure.version() or "")
            yield _certificate(secure.getpeercert())
            yield from _upgrade(secure, host, port, path)


def _certificate(certificate: object) -> Finding:
    until = certificate.get("notAfter") if isinstance(certificate, dict) else None
    if not isinstance(until, str):
        return skip("certificate", "no end date")
    days = (ssl.cert_time_to_seconds(until) - time.time()) / 86400
    value = f"ends in {days:.0f} days"
    return judged(
        "certificate",
        days > MIN_CERTIFICATE_DAYS,
        value,
        f"over {MIN_CERTIFICATE_DAYS} days",
        "renew it on the coordinator",
    )


def _upgrade(sock: socket.socket, host: str, port: int, path: str) -> Iterator[Finding]:
    path = path.rstrip("/")
    path = path if path.endswith("/ws/peer") else path + "/ws/peer"
    start = time.monotonic()
    sock.settimeout(STEP_S)
    try:
        sock.sendall(_request(host, port, path))
        head = _read_head(sock)
    except OSError as error:
        yield fail(
            "upgrade",
            error,
            "101 Switching Protocols",
            "let the reverse proxy pass WebSocket upgrades",
        )
        return
    status = head.split("\r\n")[0][:80]
    if " 101" in status:
        yield _timed("upgrade", start, status.partition(" ")[2])
    else:
        yield fail(
            "upgrade",
            status or "closed",
            "101 Switching Protocols",
            f"check the URL's path ({path}) and the reverse proxy",
        )
    yield _skew(head)


def _request(host: str, port: int, path: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def _read_head(sock: socket.socket) -> str:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 16384:
        chunk = sock.recv(4096)
        if not chunk:
            break
        head += chunk
    return head.split(b"\r\n\r\n")[0].decode("latin-1")


def _skew(head: str) -> Finding:
    """Our clock against the coordinator's, when it tells its time."""
    dates = [line[5:].strip() for line in head.split("\r\n") if line.lower().startswith("date:")]
    try:
        skew = time.time() - email.utils.parsedate_to_datetime(dates[0]).timestamp()
    except (IndexError, ValueError, TypeError):
        return skip("clock skew", "the coordinator does not tell its time")
    value = f"{'ahead' if skew > 0 else 'behind'} by {duration(abs(skew))}"
    good = abs(skew) < MAX_SKEW_S
    return judged(
        "clock skew", good, value, f"under {MAX_SKEW_S:.0f} s", "sudo timedatectl set-ntp true"
    )


def _timed(name: str, start: float, value: str) -> Finding:
    took = time.monotonic() - start
    text = f"{value} ({took * 1000:.0f} ms)"
    if took < SLOW_S:
        return ok(name, text, f"under {SLOW_S * 1000:.0f} ms")
    return warn(name, text, f"under {SLOW_S * 1000:.0f} ms", "ping the host; look for packet loss")


CHECKS = (coordinators, proxy, loki)
