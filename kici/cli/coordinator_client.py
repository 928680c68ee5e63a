"""Speaks to a coordinator's HTTP API for ``kici`` and ``kici-admin``."""

import argparse
import http.client
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from kici.cli.verbs import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, Failed

#: One request; a waiting log reader is answered after 20 s at the latest.
TIMEOUT_S = 40.0
_BLOCK_BYTES = 64 * 1024
EXITS = """\
Exit codes: 0 done, 1 refused or not successful, 2 wrong usage or document, 3 not reachable.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where the coordinator is and what opens it."""
    parser.add_argument("-u", "--url", help="coordinator (KICI_URL; else of the data directory)")
    parser.add_argument("-t", "--token", help="API token; others can see it: prefer KICI_TOKEN")
    parser.add_argument("--token-file", metavar="FILE", help="file that holds the API token")
    parser.add_argument("--data-dir", metavar="DIR", help="data directory of a coordinator here")
    parser.add_argument("--json", action="store_true", help="machine-readable output")


class Coordinator:
    """One coordinator's API. ``Failed`` for everything that is not a 2xx."""

    def __init__(self, url: str, token: str) -> None:
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError:
            raise Failed(f"{url!r} is no URL", EXIT_USAGE) from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failed(f"{url!r} is no http:// or https:// URL", EXIT_USAGE)
        self.url = url.rstrip("/")
        self._parts = parts
        self._token = token

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer."""
        status, text = self._exchange(method, path, body)
        answer = _decoded(text)
        if answer is None:
            answer = {"error": "the answer is not JSON; is this a coordinator?"}
            status = status if status >= 300 else 502
        if status >= 300:
            raise Failed(_explained(status, answer), EXIT_USAGE if status == 422 else EXIT_FAILED)
        return answer

    def download(self, path: str, body: Any, file: BinaryIO, timeout_s: float) -> int:
        """POST, and the answer's body into ``file``; its size in bytes."""
        with self._answer("POST", path, body, timeout_s) as response:
            if response.status >= 300:
                raise Failed(_explained(response.status, _decoded(response.read())))
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
            n_bytes = file.tell()
            if response.headers.get("Content-Length") != str(n_bytes):
                raise Failed(f"the answer of {self.url} ended too soon", EXIT_UNREACHABLE)
            return n_bytes

    def _exchange(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        with self._answer(method, path, body, TIMEOUT_S) as response:
            return response.status, response.read()

    @contextmanager
    def _answer(
        self, method: str, path: str, body: Any, timeout_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._parts.hostname or "", self._port, timeout=timeout_s)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        payload = None if body is None else json.dumps(body).encode()
        if method == "POST" and payload is None:
            payload = b"{}"
        try:
            try:
                connection.request(method, self._parts.path.rstrip("/") + path, payload, headers)
            except ValueError:  # its text may quote the token
                what = "the URL or the API token has characters that HTTP cannot carry"
                raise Failed(f"{self.url}: {what}", EXIT_USAGE) from None
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            cause = str(error) or type(error).__name__
            raise Failed(f"cannot reach {self.url}: {cause}", EXIT_UNREACHABLE) from None
        finally:
            connection.close()


def coordinator_of(args: argparse.Namespace) -> Coordinator:
    """The coordinator that flags, environment or data directory name, in this order."""
    from kici.coordinator.admin_token import FILE_NAME
    from kici.coordinator.settings import ENDPOINT_FILE, data_dir_of

    data_dir = Path(data_dir_of(os.environ, args.data_dir))
    url = args.url or os.environ.get("KICI_URL") or _read(data_dir / ENDPOINT_FILE)
    if not url:
        raise Failed("no coordinator: give --url, KICI_URL or --data-dir", EXIT_USAGE)
    token = args.token or os.environ.get("KICI_TOKEN")
    if not token:
        token = _read(Path(args.token_file) if args.token_file else data_dir / FILE_NAME)
    if not token:
        raise Failed("no API token: give KICI_TOKEN, --token-file or --data-dir", EXIT_USAGE)
    return Coordinator(url, token)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        return ""


def _decoded(text: bytes) -> Any:
    """The JSON value; None when there is none."""
    try:
        return json.loads(text or b"{}")
    except ValueError:
        return None


def _explained(status: int, answer: Any) -> str:
    if not isinstance(answer, dict):
        return f"HTTP {status}"
    lines = [str(answer.get("error", f"HTTP {status}"))]
    lines += [f"  - {one['where']}: {one['what']}" for one in answer.get("problems", ())]
    return "\n".join(lines)
