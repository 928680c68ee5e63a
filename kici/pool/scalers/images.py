"""Images: references, pull policies, pulls (scaler spec 3.4; S104, S105, S113)."""

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore

from kici.pool.scalers.engine import (
    AUTH,
    DOWN,
    FAILED,
    MISSING,
    RETRY,
    TRANSPORT,
    EngineError,
    classify,
    kind_of_text,
)
from kici.pool.scalers.engine_target import Target
from kici.pool.scalers.image_facts import image_facts
from kici.pool.scalers.pulled_images import PulledImages
from kici.pool.scalers.registry_auth import (
    BadCredentials,
    find_credentials,
    hub_or,
    registry_of,
)

log = logging.getLogger("kici.pool.container")
#: Pulls of one scaler at once: they share one disk and one line.
MAX_PULLS = 2
#: The whole of one pull; the spawn's own deadline usually comes first.
PULL_TIMEOUT_S = 1800.0
#: Between two progress events of one pull.
_PROGRESS_S = 5.0

Progress = Callable[[str], None]
#: ``{username, password}``: SECRET.
Login = Mapping[str, str]


def split_reference(reference: str) -> tuple[str, str]:
    """``(repository, tag or digest)`` (S104)."""
    if "@" in reference:
        repository, _at, digest = reference.partition("@")
        return repository, digest
    repository, colon, tag = reference.rpartition(":")
    if colon and "/" not in tag:
        return repository, tag
    return reference, "latest"


def login_for(reference: str, auth: Mapping[str, Any] | None) -> Login | None:
    """A job's ``containerRegistryAuth`` for the registry of its image and for no other.

    The user name defaults to ``x-access-token`` (scaler spec 8, 0.9.1).
    """
    given = {key: value for key, value in (auth or {}).items() if isinstance(value, str) and value}
    password = given.get("password") or given.get("token") or given.get("secret")
    if password is None:
        return None
    server = given.get("serverAddress") or given.get("registry") or given.get("server") or ""
    server = server.partition("://")[2] or server
    if server and hub_or(server.partition("/")[0]) != registry_of(split_reference(reference)[0]):
        return None
    user = given.get("username") or given.get("user") or "x-access-token"
    return {"username": user, "password": password}


class Images:
    """Owns: the pulls that run now. Several agents that want one image wait for one pull.
    Tells ``record`` what was pulled."""

    def __init__(self, record: PulledImages, environ: Mapping[str, str] | None = None) -> None:
        self._record = record
        self._environ = os.environ if environ is None else environ
        self._running: dict[tuple[Any, ...], AsyncResult[None]] = {}
        self._slots = BoundedSemaphore(MAX_PULLS)

    def ensure(
        self,
        client: Any,
        target: Target,
        reference: str,
        policy: str,
        progress: Progress,
        login: Login | None = None,
    ) -> None:
        """Make ``reference`` usable as ``policy`` says; ``EngineError`` when it is not.

        ``Always`` falls back to a local copy when the registry cannot be reached or limits
        us: an outage there must not stop what could run. ``login`` None: the worker's own.
        """
        self._record.wanted(target.base_url, reference)
        if policy == "Never" or (policy == "IfNotPresent" and _is_there(client, reference)):
            return
        progress(f"Pulling image {reference}")
        try:
            self._pull_once(client, target, reference, progress, login)
        except EngineError as error:
            if policy != "Always" or error.kind != RETRY or not _is_there(client, reference):
                raise
            log.warning(
                "Registry cannot be used, running the local copy of %s: %s", reference, error
            )
            progress(f"Pull failed, using the local copy: {error}")

    def _pull_once(
        self, client: Any, target: Target, reference: str, progress: Progress, login: Login | None
    ) -> None:
        # Whoever logs in otherwise gets an answer of its own.
        key = (reference, *sorted((login or {}).items()))
        running = self._running.get(key)
        if running is not None:
            running.get(timeout=PULL_TIMEOUT_S)
            return
        result = self._running[key] = AsyncResult()
        try:
            with self._slots:
                self._pull_and_note(client, target, reference, progress, login)
            result.set(None)
        except BaseException as error:
            # A pull that was given up for one agent is given up for the others too.
            known = error if isinstance(error, EngineError) else EngineError(RETRY, "pull given up")
            result.set_exception(known)
            raise
        finally:
            del self._running[key]

    def _pull_and_note(
        self, client: Any, target: Target, reference: str, progress: Progress, login: Login | None
    ) -> None:
        """Ours to delete one day is only what was certainly not there before."""
        before = _id_of(client, reference)
        self._pull(client, target.runtime, reference, progress, login)
        with contextlib.suppress(EngineError):
            after = None if before is None else image_facts(client, reference)
            if after is not None and after.image_id != before:
                self._record.pulled(target.base_url, after.image_id, reference, after.n_bytes)

    def _pull(
        self, client: Any, runtime: str, reference: str, progress: Progress, login: Login | None
    ) -> None:
        repository, tag = split_reference(reference)
        try:
            credentials = login or find_credentials(repository, self._environ, runtime)
        except BadCredentials as error:
            raise EngineError(AUTH, f"credentials for {registry_of(repository)}: {error}") from None
        timeout = gevent.Timeout(PULL_TIMEOUT_S)
        try:
            with timeout:
                stream = client.pull(repository, tag=tag, stream=True, auth_config=credentials)
                _follow(stream, reference, progress)
        except gevent.Timeout as caught:
            if caught is not timeout:
                raise
            text = f"pull of {reference} took more than {PULL_TIMEOUT_S:.0f} s"
            raise EngineError(RETRY, text) from None
        except TRANSPORT as error:
            raise _pull_error(reference, classify(error)) from None


def _id_of(client: Any, reference: str) -> str | None:
    """Empty when there is no such image; None when the engine does not say."""
    try:
        facts = image_facts(client, reference)
    except EngineError:
        return None
    return "" if facts is None else facts.image_id


def _is_there(client: Any, reference: str) -> bool:
    try:
        client.inspect_image(reference)
    except TRANSPORT as error:
        known = classify(error)
        if known.kind == DOWN:
            raise known from None
        return False
    return True


def _follow(stream: Any, reference: str, progress: Progress) -> None:
    """Read the pull's JSON objects to the end; an ``error`` among them fails it.

    To the end also after an error: only then is the connection given back.
    """
    last, buffer, problem = time.monotonic(), b"", ""
    for piece in stream:
        *lines, buffer = (buffer + piece).split(b"\n")
        for state in map(_object, lines):
            problem = problem or str(state.get("error") or "")
            if state.get("status") and time.monotonic() - last >= _PROGRESS_S:
                last = time.monotonic()
                progress(f"Pulling image {reference}: {_describe(state)}")
    problem = problem or str(_object(buffer).get("error") or "")
    if problem:
        raise _pull_error(reference, EngineError(kind_of_text(problem), problem))


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line) if line.strip() else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _describe(state: dict[str, Any]) -> str:
    return " ".join(str(state[key]) for key in ("id", "status", "progress") if state.get(key))


def _pull_error(reference: str, error: EngineError) -> EngineError:
    registry = registry_of(split_reference(reference)[0])
    kind = error.kind
    if kind == FAILED or (kind == MISSING and kind_of_text(str(error)) != MISSING):
        kind = kind_of_text(str(error))
    named = f" (registry {registry})" if kind == AUTH else ""
    return EngineError(kind, f"pull of {reference} failed{named}: {error}")
