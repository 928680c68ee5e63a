"""A server that behaves as a real Loki 3 was seen to."""

import gzip
import http.server
import json
import threading
import time
from collections.abc import Callable
from typing import Any

WEEK_NS = 7 * 86400 * 10**9
AHEAD_NS = 600 * 10**9
MAX_LINE = 256 * 1024


class LokiServer:
    """``trouble(number)`` says what push ``number`` meets: None, a status, or "cut"."""

    def __init__(self, trouble: Callable[[int], int | str | None] = lambda number: None) -> None:
        self.pushes: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.n_requests = 0
        self._trouble = trouble
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                trouble = outer._trouble(outer.n_requests)
                outer.n_requests += 1
                if trouble == "cut":
                    self.close_connection = True
                    return
                status, text = (trouble, "try later") if trouble else outer._take(self, body)
                data = text.encode()
                self.send_response(int(status))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_args: object) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def lines(self) -> list[tuple[str, str, dict[str, str]]]:
        """Entries of all streams in the order of arrival."""
        return [
            tuple(entry)
            for push in self.pushes
            for stream in push["streams"]
            for entry in stream["values"]
        ]

    def _take(self, handler: Any, body: bytes) -> tuple[int, str]:
        if handler.path != "/loki/api/v1/push":
            return 404, "not found"
        if handler.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        push = json.loads(body)
        refusal = next(filter(None, map(self._refusal, push["streams"])), None)
        if refusal:
            return 400, refusal
        self.pushes.append(push)
        self.headers.append(dict(handler.headers))
        return 204, ""

    @staticmethod
    def _refusal(stream: dict[str, Any]) -> str | None:
        now = time.time_ns()
        if not all(name.isidentifier() for name in stream["stream"]):
            return "bad label name"
        for stamp, line, *metadata in stream["values"]:
            if not isinstance(stamp, str):
                return "timestamp must be a string"
            if int(stamp) < now - WEEK_NS:
                return "timestamp too old"
            if int(stamp) > now + AHEAD_NS:
                return "timestamp too new"
            if len(line) > MAX_LINE:
                return "max entry size"
            if metadata and not all(isinstance(v, str) for v in metadata[0].values()):
                return "metadata must be strings"
        return None
