"""Brings the source of a job into its directory (agent spec 3.1, 3.4, 6.8, A101).

Credentials reach git through its environment, never through a command line or a file.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from kici.agent.native import JobRefused
from kici.agent.steps import Outcome
from kici.contracts.wire.agent.jobs import JobDispatch
from kici.shell.secret_file import secret_file

_SHA = re.compile(r"[0-9a-fA-F]{4,64}\Z")
#: Deep enough for a branch that moved on while the job waited.
_FALLBACK_DEPTH = 50

#: A credential helper of git. The shell prints by itself: no command line shows the values.
_HELPER = (
    """!f() { printf 'username=%s\\npassword=%s\\n' "$KICI_GIT_USER" "$KICI_GIT_PASSWORD"; }; f"""
)

#: (argv, extra environment) -> how it ended; output goes to the job's log.
Git = Callable[[list[str], Mapping[str, str]], Outcome]


def check_out(dispatch: JobDispatch, directory: str, git: Git, say: Callable[[str], None]) -> None:
    """Clone into the empty ``directory``. Raises ``JobRefused``."""
    try:
        url, credential = _split_credential(dispatch.repo_url)
    except ValueError:
        # Its text may hold the password.
        raise JobRefused("repository URL cannot be read") from None
    ref, sha = dispatch.ref, "" if dispatch.sha == "HEAD" else dispatch.sha
    if url.startswith("-") or ref.startswith("-"):
        raise JobRefused("repository URL or ref starts with a dash")
    if sha and not _SHA.match(sha):
        raise JobRefused(f"not a commit id: {sha[:80]!r}")
    say(f"Cloning {url} ref={ref or '(default)'} sha={sha or '(any)'}")
    with _credentials(dispatch, url, credential) as environment:

        def run(*arguments: str) -> bool:
            return git(["git", "-C", directory, *arguments], environment).ok

        if not run("init", "--quiet") or not run("remote", "add", "origin", url):
            raise JobRefused("git is not usable here")
        if not _fetch(run, ref, sha):
            raise JobRefused(f"cannot fetch {ref or sha or 'HEAD'} from {url}")
        target = sha or "FETCH_HEAD"
        if not run("-c", "advice.detachedHead=false", "checkout", "--quiet", "--force", target):
            raise JobRefused(f"commit {sha} is not in {url}")
    head = _head(directory)
    if sha and not head.startswith(sha.lower()):
        raise JobRefused(f"checked out {head or 'nothing'}, expected {sha}")
    say(f"Clone complete at {head}")


def _fetch(run: Callable[..., bool], ref: str, sha: str) -> bool:
    fetch = ("fetch", "--quiet", "--no-tags", "--force")
    if len(sha) in (40, 64) and run(*fetch, "--depth=1", "origin", sha):
        return True
    # An abbreviated id, or a server that gives out refs only.
    wanted = ref or "HEAD"
    depth = 1 if not sha else _FALLBACK_DEPTH
    if not run(*fetch, f"--depth={depth}", "origin", wanted):
        return False
    if not sha or run("cat-file", "-e", f"{sha}^{{commit}}"):
        return True
    # Deeper down, or on another branch; the checkout says whether it is there now.
    run(*fetch, "--unshallow", "origin", "+refs/heads/*:refs/remotes/origin/*")
    return True


def _head(directory: str) -> str:
    try:
        with open(os.path.join(directory, ".git", "HEAD"), encoding="ascii") as file:
            return file.read(200).strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _split_credential(url: str) -> tuple[str, tuple[str, str] | None]:
    """``https://user:password@host`` without both, which must not be in argv: a forge's token
    may be either. Elsewhere the user stays, without which ssh cannot log in."""
    parts = urlsplit(url)
    userinfo, _, host = parts.netloc.rpartition("@")
    if not userinfo:
        return url, None
    user, _, password = userinfo.partition(":")
    if parts.scheme in ("http", "https"):
        plain = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
        return plain, (unquote(user), unquote(password))
    return urlunsplit(parts._replace(netloc=f"{user}@{host}")), None


class _credentials:  # noqa: N801 - a context manager, used like a function
    """The environment with which git authenticates; an ssh key lives in memory only."""

    def __init__(self, dispatch: JobDispatch, url: str, credential: tuple[str, str] | None) -> None:
        auth: Mapping[str, Any] = dispatch.source_auth or {}
        if auth.get("kind") == "basic":
            credential = (str(auth.get("user") or "x-access-token"), str(auth.get("secret", "")))
        elif dispatch.token:
            credential = ("x-access-token", dispatch.token)
        self._url, self._credential = url, credential
        self._key = str(auth.get("secret", "")) if auth.get("kind") == "ssh" else None
        self._known_hosts = auth.get("sshKnownHostsPem")
        self._pinned = auth.get("sshHostKeyPolicy") == "pinned"
        if self._pinned and not self._known_hosts:
            raise JobRefused("sourceAuth: pinned host keys without known hosts")
        self._files: list[Any] = []

    def __enter__(self) -> dict[str, str]:
        pairs = [("credential.helper", ""), ("core.askPass", "")]
        environment = {"GIT_TERMINAL_PROMPT": "0"}
        if self._credential and self._url.startswith(("http://", "https://")):
            parts = urlsplit(self._url)
            # For this server only, and when it asks: a header of our own would go along to
            # whom it sends git.
            pairs.append((f"credential.{parts.scheme}://{parts.netloc}.helper", _HELPER))
            user, environment["KICI_GIT_PASSWORD"] = self._credential
            environment["KICI_GIT_USER"] = user or "x-access-token"  # git takes no empty one
        environment["GIT_CONFIG_COUNT"] = str(len(pairs))
        for number, (key, value) in enumerate(pairs):
            environment[f"GIT_CONFIG_KEY_{number}"] = key
            environment[f"GIT_CONFIG_VALUE_{number}"] = value
        environment["GIT_SSH_COMMAND"] = " ".join(self._ssh())
        return environment

    def _ssh(self) -> list[str]:
        command = ["ssh", "-o", "BatchMode=yes"]
        if self._key is not None:
            key = secret_file((self._key.rstrip("\n") + "\n").encode())
            self._files.append(key)
            command += ["-o", "IdentitiesOnly=yes", "-i", key.path]
        policy = "yes" if self._pinned else "accept-new"
        command += ["-o", f"StrictHostKeyChecking={policy}"]
        if self._known_hosts:
            known = secret_file(str(self._known_hosts).encode())
            self._files.append(known)
            command += ["-o", f"UserKnownHostsFile={known.path}"]
        return command

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()


def check_content_hash(job_config: Mapping[str, Any], directory: str) -> None:
    """Drift gate of 3.3, for a job that names its source file and no further files."""
    expected, source = job_config.get("contentHash"), job_config.get("source")
    if not expected or not isinstance(source, Mapping) or job_config.get("resolvedHashFiles"):
        return
    root = os.path.realpath(directory)
    try:
        path = os.path.realpath(os.path.join(root, str(source.get("file", ""))))
        if os.path.commonpath([path, root]) != root:
            raise JobRefused("source file is outside the checkout")
        with open(path, "rb") as file:
            text = file.read().replace(b"\r\n", b"\n")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise JobRefused(f"source file cannot be read: {why}") from None
    if hashlib.sha256(b"5:" + text).hexdigest() != expected:
        raise JobRefused("content hash of the source file does not match: it has changed")
