"""The worker as a service: port, processes, link, unit."""

import shutil
import socket
import subprocess
from collections.abc import Iterator

from kici.cli.checks.finding import Finding, Patient, fail, judged, ok, skip, warn

#: Systemd must wait longer than the drain (300 s) before it kills.
MIN_STOP_S = 330
LOGS = "journalctl -u kici-worker -n 50"
START = "sudo systemctl start kici-worker"


def worker(patient: Patient) -> Iterator[Finding]:
    if patient.status is None:
        yield fail("worker", patient.where, "answers", START)
        yield from _port(patient)
        return
    status = patient.status
    yield ok("worker", f"{status['instanceId']}, version {status['version']}")
    yield from _links(status)
    draining = status["draining"]
    reason = status["drain"]["reason"] or "yes"
    yield judged(
        "draining", not draining, reason if draining else "no", "no", "kici-worker undrain"
    )
    refusing = status["refusing"]
    yield judged(
        "takes jobs", not refusing, refusing or "yes", "yes", "kici-worker explain --labels LABELS"
    )


def _port(patient: Patient) -> Iterator[Finding]:
    if patient.config is None:
        yield skip("port", "configuration has problems")
        return
    host, port = patient.config.settings.host, patient.config.settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
        yield ok("port", f"{port} is free")
    except OSError as error:
        yield fail("port", f"{port}: {error.strerror}", "free", f"sudo ss -ltnp sport = :{port}")


def _links(status: dict) -> Iterator[Finding]:
    for link in status["coordinators"]:
        good = link["state"] == "connected"
        value = f"{link['url']} {link['state']}" + (f": {link['reason']}" if link["reason"] else "")
        yield judged("link", good, value, "connected", LOGS)


def processes(patient: Patient) -> Iterator[Finding]:
    if patient.status is None:
        yield skip("processes", "the worker does not answer")
        return
    for child in patient.status["processes"]:
        running = child["state"].upper() == "RUNNING"
        value = f"{child['state'].lower()}, {child['restarts']} restarts"
        if running and child["restarts"]:
            yield warn(f"process {child['name']}", value, "no restarts", LOGS)
        else:
            yield judged(f"process {child['name']}", running, value, "running", LOGS)


def waiting_results(patient: Patient) -> Iterator[Finding]:
    if patient.status is None:
        yield skip("results waiting", "the worker does not answer")
        return
    outbox, spool = patient.status["outbox"], patient.status["logSpool"]
    connected = any(link["state"] == "connected" for link in patient.status["coordinators"])
    n_waiting = outbox["concluded"]
    fix = "connect the worker; results are kept for KICI_OUTBOX_MAX_AGE"
    yield judged("results waiting", not n_waiting or connected, n_waiting, "0", fix)
    lost = spool["lostLines"]
    yield judged("log lines lost", not lost, lost, "0", "raise KICI_LOG_SPOOL_MAX")
    scalers = [scaler for scaler in patient.status["scalers"] if not scaler["healthy"]]
    for scaler in scalers:
        yield fail(f"scaler {scaler['name']}", scaler["reason"], "works", LOGS)


def unit(patient: Patient) -> Iterator[Finding]:
    shown = _unit_properties()
    if shown is None:
        yield skip("unit", "no kici-worker.service here")
        return
    active = shown.get("ActiveState", "?")
    yield judged("unit", active == "active", active, "active", START)
    stop = shown.get("TimeoutStopUSec", "")
    yield judged(
        "unit stop time",
        _seconds(stop) >= MIN_STOP_S,
        stop,
        f"{MIN_STOP_S} s",
        "sudo systemctl revert kici-worker",
    )
    files = shown.get("LimitNOFILE", "0")
    enough = files == "infinity" or (files.isdigit() and int(files) >= 4096)
    yield judged("unit open files", enough, files, "4096", "sudo systemctl revert kici-worker")


def _unit_properties() -> dict[str, str] | None:
    if shutil.which("systemctl") is None:
        return None
    done = subprocess.run(
        [
            "systemctl",
            "show",
            "kici-worker",
            "-p",
            "LoadState,ActiveState,TimeoutStopUSec,LimitNOFILE",
        ],
        capture_output=True,
        text=True,
        timeout=2,
        check=False,
    )
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return shown if shown.get("LoadState") == "loaded" else None


def _seconds(text: str) -> float:
    """``6min``, ``5min 30s``, ``infinity`` as systemd writes them."""
    if text == "infinity":
        return float("inf")
    units = {"h": 3600, "min": 60, "s": 1, "ms": 0.001}
    total = 0.0
    for word in text.split():
        digits = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        if digits:
            total += float(digits) * units.get(word[len(digits) :], 0)
    return total


CHECKS = (worker, processes, waiting_results, unit)
