"""The agent's own little HTTP server (agent spec 6.1): ``/health`` and ``/ready``.

Only where ``KICI_PORT`` names a port: agents that a worker starts have none.
"""

import json
import logging
from collections.abc import Callable, Iterable
from typing import Any

import kici

log = logging.getLogger("kici.agent")

#: () -> (registered at a worker, jobs that run)
Look = Callable[[], tuple[bool, int]]


def answer(path: str, registered: bool, n_jobs: int) -> tuple[str, dict[str, Any]]:
    """Status line and body."""
    body = {"connected": registered, "activeJobs": n_jobs, "version": kici.__version__}
    if path == "/health":
        return "200 OK", {"status": "ok"} | body
    if path == "/ready":
        status = "200 OK" if registered else "503 Service Unavailable"
        return status, {"ready": registered} | body
    return "404 Not Found", {"error": "Not found"}


def serve(host: str, port: int, look: Look) -> Any:
    """A started server; None, with an error line, when the port cannot be had: the jobs
    matter more than the probe."""
    from gevent.pywsgi import WSGIServer

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, body = answer(environ["PATH_INFO"], *look())
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(body).encode()]

    server = WSGIServer((host, port), application, log=None, error_log=None)
    try:
        server.start()
    except OSError as error:
        log.error("Cannot serve /health on %s:%d: %s", host, port, error)
        return None
    return server
