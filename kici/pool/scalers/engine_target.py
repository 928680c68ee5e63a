"""Which container engine a scaler means (scaler spec 3.1). No IO but what ``usable`` does."""

import os
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec

from kici.config.model import Scaler

DOCKER, PODMAN = "docker", "podman"
_PORT, _TLS_PORT = 2375, 2376


class NoEngine(Exception):
    """No engine can be named; the text says what was looked for."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """``base_url`` as the docker package takes it. ``socket_path`` is a local socket that
    may be shared with agents. ``cert_dir`` set: TLS with the files in it."""

    base_url: str
    runtime: str
    on_local_host: bool = True
    socket_path: str | None = None
    tls: bool = False
    cert_dir: str | None = None


def is_usable(path: str) -> bool:
    """Readable and writable for this process; whether somebody answers is another thing."""
    return os.access(path, os.R_OK | os.W_OK)


def find_target(
    scaler: Scaler, environ: Mapping[str, str], usable: Callable[[str], bool] = is_usable
) -> Target:
    """The engine of ``scaler`` as things are now; ``NoEngine`` when none can be found."""
    if scaler.host:
        runtime = PODMAN if scaler.runtime == PODMAN else DOCKER
        return _at(scaler.host, runtime, environ, given=True)
    if scaler.socket_path:
        runtime = PODMAN if "podman" in scaler.socket_path else DOCKER
        return _local(scaler.socket_path, runtime)
    candidates = _candidates(scaler.runtime, environ)
    for path, runtime in candidates:
        if usable(path):
            return _local(path, runtime)
    name = "CONTAINER_HOST" if scaler.runtime == PODMAN else "DOCKER_HOST"
    if environ.get(name):
        return _at(environ[name], PODMAN if scaler.runtime == PODMAN else DOCKER, environ)
    tried = ", ".join(path for path, _runtime in candidates)
    raise NoEngine(f"no container runtime found (readable and writable): {tried}; {name} not set")


def _candidates(runtime: str, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """The probe order of 3.1; after it the places that the reference does not look at."""
    run, home = environ.get("XDG_RUNTIME_DIR"), environ.get("HOME")
    found = [("/var/run/docker.sock", DOCKER), ("/run/podman/podman.sock", PODMAN)]
    if run:
        found.append((f"{run}/podman/podman.sock", PODMAN))
        found.append((f"{run}/docker.sock", DOCKER))
    if home:
        found.append((f"{home}/.docker/run/docker.sock", DOCKER))
    return [one for one in found if runtime in ("auto", one[1])]


def _local(path: str, runtime: str) -> Target:
    return Target(base_url=f"unix://{path}", runtime=runtime, socket_path=path)


def _at(host: str, runtime: str, environ: Mapping[str, str], given: bool = False) -> Target:
    """``tcp://h:p``, ``http://``, ``https://``, ``unix://``, ``ssh://`` or bare ``h:p``."""
    url = urlsplit(host if "://" in host else f"tcp://{host}")
    if url.scheme == "unix":
        local = _local(url.path, PODMAN if "podman" in url.path else runtime)
        # ``host`` is never local (S90, S103): its agents dial back from elsewhere.
        return msgspec.structs.replace(local, on_local_host=not given, socket_path=None)
    if url.scheme == "ssh":
        return Target(base_url=host, runtime=runtime, on_local_host=False)
    if url.scheme not in ("tcp", "http", "https") or not url.hostname:
        raise NoEngine(f"host must be tcp://, http://, https://, unix:// or ssh://, not {host!r}")
    verify = environ.get("DOCKER_TLS_VERIFY", "") != ""
    tls = url.scheme == "https" or url.port == _TLS_PORT or (verify and url.scheme == "tcp")
    port = url.port or (_TLS_PORT if tls else _PORT)
    name = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return Target(
        base_url=f"{'https' if tls else 'http'}://{name}:{port}",
        runtime=runtime,
        on_local_host=False,
        tls=tls,
        cert_dir=_cert_dir(environ) if tls else None,
    )


def _cert_dir(environ: Mapping[str, str]) -> str | None:
    return environ.get("DOCKER_CERT_PATH") or environ.get("DOCKER_CONFIG") or None
