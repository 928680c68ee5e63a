"""What agents in containers write: to our own output as JSON lines, and a tail (S109, S110)."""

import json
import logging
import re
import sys
from collections import deque
from typing import Any

from kici.log_stream import LineStream
from kici.redaction import redact

#: Lines kept for the report of an agent that fails, and how much of each.
TAIL_LINES = 50
_TAIL_CHARACTERS = 400
#: A line without end is cut here.
_MAX_LINE_BYTES = 256 * 1024
_TOKEN = re.compile(r"kat_[0-9a-f]{8,}")


class AgentOutput:
    """Owns: the unfinished line and the tail of one agent's output."""

    def __init__(self, agent_id: str, source: str) -> None:
        self._fields = {"service": "agent", "agentId": agent_id, "logsSource": source}
        self._rest = b""
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def feed(self, data: bytes) -> None:
        """Bytes of stdout and stderr, as they come; lines end with LF or CRLF."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.removesuffix(b"\r"))
        if len(self._rest) > _MAX_LINE_BYTES:
            self.finish()

    def finish(self) -> None:
        """The output is over: its last line may lack an end."""
        rest, self._rest = self._rest, b""
        if rest:
            self._line(rest)

    def tail(self) -> str:
        """The last lines, without tokens, for reports."""
        return "\n".join(self._tail)

    def _line(self, raw: bytes) -> None:
        text = raw.decode("utf-8", "replace")
        self._tail.append(_TOKEN.sub("kat_***", text)[:_TAIL_CHARACTERS])
        _write(redact(json.dumps(self.wrapped(text), ensure_ascii=False)))

    def wrapped(self, text: str) -> dict[str, Any]:
        """A JSON object is kept, anything else becomes a message; our fields win."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            found = {"level": "info", "message": text}
        return found | self._fields


_streams: dict[int, LineStream] = {}


def _write(line: str) -> None:
    """One line to our stdout, as the log goes there: never waiting long for its reader."""
    stream = _streams.get(id(sys.stdout))
    if stream is None:
        _streams.clear()
        stream = _streams[id(sys.stdout)] = LineStream(sys.stdout)
    stream.emit(logging.LogRecord("kici.agent", logging.INFO, "", 0, "%s", (line,), None))
