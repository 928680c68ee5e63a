"""Container engines, images and agent binaries that the scalers need."""

import http.client
import json
import os
import platform
import shutil
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from kici.cli.checks.finding import Finding, Patient, fail, judged, ok, skip
from kici.config.model import Scaler

TIMEOUT_S = 1.5
#: Tried in this order when a scaler gives none (worker surface 2.2).
SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "arm64": "arm64"}


def scalers(patient: Patient) -> Iterator[Finding]:
    if patient.config is None:
        yield skip("scaler", "configuration has problems")
        return
    for scaler in patient.config.scalers.scalers:
        if scaler.unsupported:
            yield fail(
                f"scaler {scaler.name}", scaler.unsupported, "supported", "kici-worker check-config"
            )
        elif scaler.type == "container":
            yield from _container(scaler)
        else:
            yield from _binaries(scaler)


def tools(patient: Patient) -> Iterator[Finding]:
    found = shutil.which("git")
    yield judged("git", found is not None, found or "missing", "installed", "sudo apt install git")


def _binaries(scaler: Scaler) -> Iterator[Finding]:
    for path in sorted({each.binary_path for each in scaler.label_sets if each.binary_path}):
        found = shutil.which(path)
        value = found or f"{path} is missing or not executable"
        yield judged(
            f"scaler {scaler.name}", found is not None, value, "executable", f"ls -l {path}"
        )


def _container(scaler: Scaler) -> Iterator[Finding]:
    name = f"scaler {scaler.name}"
    path = socket_path(scaler)
    if path is None:
        tried = ", ".join(_candidates(scaler))
        yield fail(
            name,
            f"no socket at {tried}",
            "an engine",
            "sudo systemctl start docker (or podman.socket)",
        )
        return
    try:
        version = _get(path, "/version")
    except PermissionError:
        yield fail(
            name, f"{path}: permission denied", "readable", "sudo usermod -aG docker kici-worker"
        )
        return
    except (OSError, ValueError, http.client.HTTPException) as error:
        yield fail(
            name, f"{path}: {error}", "an engine that answers", "sudo systemctl restart docker"
        )
        return
    engine = f"{version.get('Version', '?')} at {path}"
    yield ok(f"{name} engine", engine)
    yield from _images(scaler, path, version)


def _images(scaler: Scaler, path: str, version: dict[str, Any]) -> Iterator[Finding]:
    name = f"scaler {scaler.name}"
    wanted = version.get("Arch") or _MACHINES.get(platform.machine(), platform.machine())
    for image in sorted({each.image for each in scaler.label_sets if each.image}):
        try:
            found = _get(path, f"/images/{quote(image, safe='')}/json")
        except (OSError, ValueError, http.client.HTTPException) as error:
            yield fail(f"{name} image", f"{image}: {error}", "present", f"docker pull {image}")
            continue
        arch = found.get("Architecture", "?")
        yield judged(
            f"{name} image",
            arch == wanted,
            f"{image} for {arch}",
            f"for {wanted}",
            f"docker pull --platform linux/{wanted} {image}",
        )


def _candidates(scaler: Scaler) -> list[str]:
    if scaler.socket_path:
        return [scaler.socket_path]
    if scaler.host and scaler.host.startswith("unix://"):
        return [scaler.host.removeprefix("unix://")]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [*SOCKETS, *([f"{runtime}/podman/podman.sock"] if runtime else [])]


def socket_path(scaler: Scaler) -> str | None:
    return next((path for path in _candidates(scaler) if os.path.exists(path)), None)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket: the docker package takes half a second to import."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def _get(path: str, resource: str) -> dict[str, Any]:
    connection = _UnixConnection(path)
    try:
        connection.request("GET", resource)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status == 404:
            raise ValueError("not there")
        if answer.status != 200:
            raise ValueError(f"{answer.status} {answer.reason}")
        found: dict[str, Any] = json.loads(data)
        return found
    finally:
        connection.close()


CHECKS = (scalers, tools)
