"""A worker's agent endpoint on a real socket, steered by the test line by line."""

import json
import queue
import threading
import time
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

DEADLINE_S = 15.0


class WorkerSide:
    """One accepted agent connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.closed: tuple[int, str] | None = None
        self.seen: list[dict[str, Any]] = []
        self.sizes: list[tuple[float, int]] = []
        self._frames: queue.Queue[dict[str, Any] | None] = queue.Queue()
        #: Cleared, nothing more is read: the agent's socket fills up.
        self.reading = threading.Event()
        self.reading.set()

    def read_all(self) -> None:
        try:
            for text in self.connection:
                self.reading.wait(DEADLINE_S)
                self.sizes.append((time.monotonic(), len(text)))
                self._frames.put(json.loads(text))
        except ConnectionClosed:
            pass
        close = self.connection.protocol.close_rcvd
        self.closed = (close.code, close.reason) if close else (1006, "")
        self._frames.put(None)

    def send(self, type_: str, **fields: Any) -> None:
        self.connection.send(json.dumps({"type": type_, **fields}))

    def next(self, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        frame = self._frames.get(timeout=timeout_s)
        if frame is None:
            self._frames.put(None)
            raise ConnectionError(f"closed {self.closed}")
        self.seen.append(frame)
        return frame

    def until(self, type_: str, timeout_s: float = DEADLINE_S, **fields: Any) -> dict[str, Any]:
        """The next frame of this type with these fields; all others go to ``seen``."""
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {type_} {fields}; seen {self.seen[-5:]}")
            try:
                frame = self.next(left)
            except queue.Empty:
                continue
            if frame["type"] == type_ and all(frame.get(k) == v for k, v in fields.items()):
                return frame

    def until_closed(self, timeout_s: float = DEADLINE_S) -> tuple[int, str]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                self.next(max(deadline - time.monotonic(), 0.01))
            except ConnectionError:
                assert self.closed is not None
                return self.closed
            except queue.Empty:
                break
        raise AssertionError("not closed in time")

    def register(self, **ack: Any) -> dict[str, Any]:
        """Play the handshake; returns ``agent.register``."""
        frame = self.next()
        if frame["type"] == "auth.request":
            self.send("auth.success", connectionId="c1")
            frame = self.next()
        assert frame["type"] == "agent.register", frame
        self.send("register.ack", agentId=frame["agentId"], labels=frame["labels"], **ack)
        return frame

    def dispatch(self, steps: list[dict[str, Any]] | None = None, **fields: Any) -> None:
        config = {"name": "build", **fields.pop("jobConfig", {})}
        if steps is not None:
            config["native"] = {"version": 1, "steps": steps, **fields.pop("native", {})}
        message = {
            "messageId": "m1",
            "runId": "run-1",
            "jobId": "job-1",
            "repoUrl": "",
            "ref": "",
            "sha": "",
            "lockFileUrl": "",
            "timestamp": 1,
            "jobConfig": config,
        }
        self.send("job.dispatch", **{**message, **fields})

    def log_lines(self, step: int | None = None) -> list[str]:
        return [
            line
            for frame in self.seen
            if frame["type"] == "log.chunk" and step in (None, frame["stepIndex"])
            for line in frame["lines"]
        ]

    def cut(self) -> None:
        """Drop the connection as a killed process does."""
        self.connection.socket.close()


class ScriptedWorker:
    """Owns: a listening socket. ``accept`` gives the agents' connections in order."""

    def __init__(self, port: int = 0) -> None:
        self._sides: queue.Queue[WorkerSide] = queue.Queue()
        self._server = serve(
            self._handle, "127.0.0.1", port, ping_interval=None, max_size=None, compression=None
        )
        self.port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/ws"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        side = WorkerSide(connection)
        self._sides.put(side)
        side.read_all()

    def accept(self, timeout_s: float = DEADLINE_S) -> WorkerSide:
        return self._sides.get(timeout=timeout_s)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
