"""A container engine in small: Docker's API on a Unix socket, and containers that are only rows.

For what a real engine does not do on command: to die in the middle of an answer, to have an old
container, to say nothing. It answers in threads of its own, and its streams of events and output
end at once, so that the docker package's blocking calls need no patched process.
"""

import contextlib
import json
import re
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from kici.pool.scalers.container_body import (
    AGENT_LABEL,
    MANAGED_LABEL,
    NETWORK,
    OWNER_LABEL,
    SCALER_LABEL,
)

_VERSION = {"ApiVersion": "1.41", "Version": "0", "Components": [{"Name": "Engine"}]}


class Broken(bytes):
    """A stream that breaks off after these bytes."""


class FakeEngine:
    """Owns: the socket, the containers by id, and what it was asked to do."""

    def __init__(self, path):
        self.path = str(path)
        self.containers = {}
        #: References of images that are there.
        self.images = set()
        #: Pattern of ``METHOD /path`` -> ``(status, body)``, before all else.
        self.answers = {}
        self._asked = []
        self._server = _Server(self.path, _Handler)
        self._server.engine = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def add(self, container_id, agent_id, scaler, *, owner="worker-1", state="running", **more):
        """A container as an earlier start of the worker left it."""
        labels = {
            MANAGED_LABEL: "true",
            OWNER_LABEL: owner,
            SCALER_LABEL: scaler,
            AGENT_LABEL: agent_id,
        }
        fields = {"labels": labels, "state": state, "code": 0, "output": b"", "address": ""}
        self.containers[container_id] = fields | more

    def asked(self, pattern):
        """Requests ``METHOD /path`` that match."""
        return [one for one in list(self._asked) if re.search(pattern, one)]

    # --- what it answers -------------------------------------------------------------

    def answer(self, method, path, query):
        """``(status, body)``; a body of bytes is a stream."""
        self._asked.append(f"{method} {path}")
        for pattern, answer in self.answers.items():
            if re.search(pattern, f"{method} {path}"):
                return answer
        match method, *path.strip("/").split("/"):
            case "GET", "version":
                return 200, _VERSION
            case "GET", "events":
                return 200, b""
            case "GET", "containers", "json":
                return 200, self._listed(query)
            case "GET", "networks":
                return 200, [{"Name": NETWORK}]
            case "GET", "images", *name, "json":
                there = "/".join(name) in self.images
                return (200, {"Id": "sha256:1"}) if there else (404, {"message": "no such image"})
            case _, "containers", container_id, *verb if container_id in self.containers:
                return self._told(method, container_id, *verb)
        return 404, {"message": f"no such thing: {path}"}

    def _told(self, method, container_id, verb=""):
        row = self.containers[container_id]
        match method, verb:
            case "GET", "json":
                return 200, {
                    "Id": container_id,
                    "State": {"Status": row["state"], "ExitCode": row["code"]},
                    "Config": {"Tty": False},
                    "NetworkSettings": {"Networks": _networks(row)},
                }
            case "GET", "logs":
                return 200, b"\x01\0\0\0" + len(row["output"]).to_bytes(4, "big") + row["output"]
            case "POST", "stop":
                row["state"] = "exited"
                return 204, None
            case "DELETE", _:
                del self.containers[container_id]
                return 204, None
        return 404, {"message": f"cannot {method} {verb}"}

    def _listed(self, query):
        wanted = json.loads(query.get("filters", ["{}"])[0]).get("label", [])
        return [
            {
                "Id": name,
                "State": row["state"],
                "Labels": row["labels"],
                "ImageID": "sha256:1",
                # As Podman: without addresses.
                "NetworkSettings": {},
            }
            for name, row in self.containers.items()
            if set(wanted) <= {f"{key}={value}" for key, value in row["labels"].items()}
        ]


def _networks(row):
    return {NETWORK: {"IPAddress": row["address"]}} if row["address"] else {}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = False
    block_on_close = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Nothing: the test says what it saw."""

    def _serve(self):
        with contextlib.suppress(BrokenPipeError):  # who asked is gone
            self._answer()

    def _answer(self):
        parts = urlsplit(self.path)
        path = re.sub(r"^/v[\d.]+(?=/)", "", unquote(parts.path))
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        engine = self.server.engine
        status, body = engine.answer(self.command, path, parse_qs(parts.query))
        self.send_response(status)
        self.send_header("Connection", "close")  # also heard by our own side
        if isinstance(body, bytes):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._stream(body)
            return
        text = b"" if status == 204 else json.dumps(body).encode()
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _stream(self, body):
        if body:
            self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        if not isinstance(body, Broken):
            self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815
