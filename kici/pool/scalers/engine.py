"""The connection to one container engine: found, kept, lost, found again (scaler spec 3.1, 3.9).

The docker package is cooperative under gevent; it is imported with this module, that is only
by workers that have a container scaler.
"""

import logging
import os
import random
import re
from collections.abc import Mapping
from typing import Any

import docker
import gevent
import msgspec
import requests
from docker.auth import AuthConfig
from docker.errors import APIError, DockerException, ImageNotFound, NotFound, StreamParseError
from docker.tls import TLSConfig
from gevent.event import Event
from urllib3.exceptions import HTTPError

from kici.config.model import Scaler
from kici.pool.scalers.engine_target import PODMAN, NoEngine, Target, find_target

log = logging.getLogger("kici.pool.container")
#: One request; streams and pulls have their own limits.
REQUEST_TIMEOUT_S = 30.0
#: Launches, ``found`` and the first ``health`` wait so long for the engine's first answer.
FIRST_ANSWER_S = 5.0
#: While the engine does not answer.
_RETRY_FIRST_S, _RETRY_MAX_S = 0.5, 15.0
#: Kept connections to a remote engine. More may be open at once (each followed output has
#: its own); those are closed when they are done, which urllib3 calls worth a warning.
_KEPT_CONNECTIONS = 4
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
#: Of a stream that breaks off urllib3's and the docker package's own errors get through.
TRANSPORT = (
    requests.exceptions.RequestException,
    OSError,
    DockerException,
    HTTPError,
    StreamParseError,
)


class EngineError(Exception):
    """A request failed; ``kind`` is one of the classes below, the text is for people."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


#: Classes of 3.9.
DOWN, MISSING, AUTH, RETRY, DISK, CONFLICT, BAD, FAILED = (
    "down",
    "missing",
    "auth",
    "retry",
    "disk",
    "conflict",
    "bad-request",
    "failed",
)
_BY_TEXT = (
    (DISK, re.compile(r"no space left|disk quota|not enough space", re.I)),
    (RETRY, re.compile(r"toomanyrequests|rate limit|429|timeout|timed out|\bEOF\b|reset by", re.I)),
    (AUTH, re.compile(r"unauthorized|denied|authentication required|401|403|no basic auth", re.I)),
    (MISSING, re.compile(r"not found|manifest unknown|no such image|name unknown|404", re.I)),
    (RETRY, re.compile(r"connection refused|no such host|i/o|dial tcp|temporary", re.I)),
)


def classify(error: BaseException) -> EngineError:
    """Any failure of the docker package as an ``EngineError``."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, APIError):
        return EngineError(_kind_of(error), _text_of(error))
    return EngineError(DOWN, f"the container engine does not answer: {_root(error)}")


def kind_of_text(text: str) -> str:
    """The class of an error that the engine told in words."""
    for kind, pattern in _BY_TEXT:
        if pattern.search(text):
            return kind
    return FAILED


def _kind_of(error: APIError) -> str:
    text, status = _text_of(error), error.status_code or 0
    if isinstance(error, NotFound | ImageNotFound):
        return MISSING
    if status == 409:
        return CONFLICT
    if status == 400:
        return BAD
    return DISK if kind_of_text(text) == DISK else FAILED


def _text_of(error: APIError) -> str:
    told = error.explanation
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told or error)
    return f"(HTTP code {error.status_code}) {text}".strip()


def _root(error: BaseException) -> str:
    """The last words of urllib3's nested errors."""
    return re.sub(r"^.*?\b(\w+Error\(.*)$", r"\1", str(error) or type(error).__name__)[:300]


class Engine:
    """Owns: the client of one engine. Told by: the backend (``failed``)."""

    def __init__(self, scaler: Scaler, environ: Mapping[str, str] | None = None) -> None:
        self._scaler = scaler
        self._environ = os.environ if environ is None else environ
        self._client: Any = None
        self.target: Target | None = None
        self.reason = "the container engine was not asked yet"
        self.up, self._asked, self._wake = Event(), Event(), Event()
        self._keeper = gevent.spawn(self._keep)

    def client(self) -> Any:
        """The client; ``EngineError`` (DOWN) when there is none now."""
        if self._client is None:
            raise EngineError(DOWN, self.reason)
        return self._client

    def wait_asked(self, timeout_s: float) -> None:
        """Wait until the engine was tried once."""
        self._asked.wait(timeout_s)

    def failed(self, client: Any, error: EngineError) -> None:
        """A request of ``client`` found the engine away: look for it from now on. What an
        earlier client finds out late says nothing about the present one."""
        if error.kind == DOWN and self._client is not None and client is self._client:
            self._lose(str(error))

    def close(self) -> None:
        self._keeper.kill(block=False)
        if self._client is not None:
            self._client.close()
            self._client = None

    def _lose(self, reason: str) -> None:
        log.warning("Container engine is away: %s", reason, extra={"scaler": self._scaler.name})
        self._client.close()
        self._client, self.reason = None, reason
        self.up.clear()
        self._wake.set()

    def _keep(self) -> None:
        delay = _RETRY_FIRST_S
        while True:
            if self._connect():
                delay = _RETRY_FIRST_S
                self._wake.wait()
                self._wake.clear()
            else:
                gevent.sleep(delay * random.uniform(0.7, 1.3))
                delay = min(delay * 2, _RETRY_MAX_S)

    def _connect(self) -> bool:
        try:
            target = find_target(self._scaler, self._environ)
            client, target = _open(target)
        except NoEngine as error:
            self.reason = str(error)
        except TRANSPORT as error:
            self.reason = str(classify(error))
        else:
            log.info(
                "Container engine is there",
                extra={"scaler": self._scaler.name, "url": target.base_url},
            )
            self._client, self.target, self.reason = client, target, ""
            self.up.set()
        self._asked.set()
        return self._client is not None


def _open(target: Target) -> tuple[Any, Target]:
    """The client, and the target with the runtime that the engine says it is: a path may
    not tell."""
    client = docker.APIClient(
        base_url=target.base_url,
        version="auto",
        timeout=REQUEST_TIMEOUT_S,
        tls=_tls(target) if target.tls else False,
        max_pool_size=_KEPT_CONNECTIONS,
        use_ssh_client=target.base_url.startswith("ssh://"),
    )
    # registry_auth decides on credentials; without any no header is sent (S113).
    client._auth_configs = AuthConfig({})
    if target.base_url.startswith("unix:"):
        # The docker package keeps a pool for each of the last 25 paths it asked for: with
        # container ids in them, 25 idle sockets. Connecting anew costs a local socket nothing.
        client.headers["Connection"] = "close"
    told = client.version()
    names = " ".join(str(one.get("Name")) for one in told.get("Components") or ())
    runtime = PODMAN if "podman" in names.lower() else target.runtime
    return client, msgspec.structs.replace(target, runtime=runtime)


def _tls(target: Target) -> TLSConfig:
    """Server and client certificates as the docker command takes them."""
    if target.cert_dir is None:
        return TLSConfig(verify=True)
    names = [os.path.join(target.cert_dir, name) for name in ("ca.pem", "cert.pem", "key.pem")]
    ca, cert, key = (name if os.path.exists(name) else None for name in names)
    return TLSConfig(
        ca_cert=ca or True, client_cert=(cert, key) if cert and key else None, verify=True
    )
