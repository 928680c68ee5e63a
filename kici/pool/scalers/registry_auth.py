"""Registry credentials of the worker's user: config.json, auth.json, helpers (S113, R).

Nothing is kept: files and helpers are asked at each pull, so a new login counts at once.
Values are SECRET and go nowhere but into one request's header.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gevent import subprocess

#: How Docker Hub is called in credential files.
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
#: A helper may ask an agent or a keyring.
_HELPER_TIMEOUT_S = 20.0
_MAX_FILE_BYTES = 1 << 20
_HELPER = re.compile(r"[A-Za-z0-9._-]+\Z")


class BadCredentials(Exception):
    """A credential file or helper is broken; the text names it and no secret."""


def registry_of(repository: str) -> str:
    """``r.example:5000`` of ``r.example:5000/a/b``; ``docker.io`` when there is none."""
    first, slash, _rest = repository.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first
    return "docker.io"


def hub_or(registry: str) -> str:
    """``registry``, or ``docker.io`` for each of Docker Hub's names."""
    return "docker.io" if registry in _HUB_KEYS else registry


def find_credentials(
    repository: str, environ: Mapping[str, str], runtime: str
) -> dict[str, str] | None:
    """``{username, password}`` or ``{identitytoken}`` for a pull, None when none is configured."""
    for path in _files(environ, runtime):
        content = _read(path)
        if content is None:
            continue
        found = _from_file(path, content, repository, environ)
        if found is not None:
            return found
    return None


def _files(environ: Mapping[str, str], runtime: str) -> Iterator[str]:
    """Docker's file first for Docker, Podman's first for Podman."""
    home = environ.get("HOME", "")
    config = environ.get("DOCKER_CONFIG") or (f"{home}/.docker" if home else "")
    docker = [f"{config}/config.json"] if config else []
    podman = [environ["REGISTRY_AUTH_FILE"]] if environ.get("REGISTRY_AUTH_FILE") else []
    if environ.get("XDG_RUNTIME_DIR"):
        podman.append(f"{environ['XDG_RUNTIME_DIR']}/containers/auth.json")
    podman.append(f"/run/containers/{os.getuid()}/auth.json")
    if home:
        podman.append(f"{environ.get('XDG_CONFIG_HOME') or home + '/.config'}/containers/auth.json")
    yield from (*podman, *docker) if runtime == "podman" else (*docker, *podman)


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(_MAX_FILE_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadCredentials(f"{path}: {type(error).__name__}") from None
    if not isinstance(content, dict):
        raise BadCredentials(f"{path}: is no JSON object")
    return content


def _from_file(
    path: str, content: dict[str, Any], repository: str, environ: Mapping[str, str]
) -> dict[str, str] | None:
    registry = registry_of(repository)
    names = _HUB_KEYS if registry == "docker.io" else (registry, f"https://{registry}")
    helpers = content.get("credHelpers")
    for name in names:
        if isinstance(helpers, dict) and isinstance(helpers.get(name), str):
            return _ask_helper(helpers[name], name, environ)
    auths = content.get("auths")
    if isinstance(auths, dict):
        for key in _keys(repository, registry, names):
            if isinstance(auths.get(key), dict) and (found := _decode(path, key, auths[key])):
                return found
    store = content.get("credsStore")
    return _ask_helper(store, names[0], environ) if isinstance(store, str) and store else None


def _keys(repository: str, registry: str, names: tuple[str, ...]) -> Iterator[str]:
    """Most specific first: auth.json may name a namespace of a registry."""
    full = repository if repository.startswith(registry + "/") else f"{registry}/{repository}"
    while "/" in full:
        yield full
        full = full.rpartition("/")[0]
    for name in names:
        yield from (name, f"{name}/", f"{name}/v1/", f"{name}/v2/")


def _decode(path: str, key: str, entry: dict[str, Any]) -> dict[str, str] | None:
    if entry.get("identitytoken"):
        return {"identitytoken": str(entry["identitytoken"])}
    if entry.get("username") and entry.get("password"):
        return {"username": str(entry["username"]), "password": str(entry["password"])}
    if not entry.get("auth"):
        return None
    try:
        text = base64.b64decode(entry["auth"], validate=True).decode("utf-8")
    except (binascii.Error, ValueError, TypeError):
        raise BadCredentials(f"{path}: auth of {key} is not base64") from None
    name, colon, password = text.partition(":")
    if not colon:
        raise BadCredentials(f"{path}: auth of {key} is not user:password")
    return {"username": name, "password": password.rstrip("\0")}


def _ask_helper(name: str, server: str, environ: Mapping[str, str]) -> dict[str, str] | None:
    """``docker-credential-<name> get``; None when it knows nothing of ``server``."""
    if not _HELPER.match(name):
        raise BadCredentials(f"credential helper {name!r} is no program name")
    command = [f"docker-credential-{name}", "get"]
    try:
        done = subprocess.run(
            command,
            input=server.encode(),
            capture_output=True,
            timeout=_HELPER_TIMEOUT_S,
            env=dict(environ),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BadCredentials(f"{command[0]} did not answer") from None
    except OSError as error:
        raise BadCredentials(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        if b"not found" in done.stdout + done.stderr:
            return None
        raise BadCredentials(f"{command[0]} failed with exit code {done.returncode}")
    try:
        answer = json.loads(done.stdout)
        user, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError):
        raise BadCredentials(f"{command[0]} answered no credentials") from None
    return (
        {"identitytoken": secret} if user == "<token>" else {"username": user, "password": secret}
    )
