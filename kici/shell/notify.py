"""The service manager's notification socket (sd_notify(3)); does nothing elsewhere.

Own code of 40 lines instead of a dependency: the protocol is one datagram of lines.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping

from kici.shell import host

_log = logging.getLogger("kici.supervisor")


def _address(value: str) -> str | None:
    """The socket address in ``NOTIFY_SOCKET``; None when it cannot be used here."""
    if value.startswith("/"):
        return value
    if value.startswith("@") and host.abstract_sockets():
        return "\0" + value[1:]
    return None


class Notifier:
    """Owns: the notification socket. ``watchdog_s`` is the manager's patience, or None.

    Failures are logged and never raised: a lost message must not stop the worker.
    """

    def __init__(self, environ: Mapping[str, str], pid: int | None = None) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = self._read_watchdog(environ, os.getpid() if pid is None else pid)
        self._said: str | None = None

    def _read_watchdog(self, environ: Mapping[str, str], pid: int) -> float | None:
        if self._address is None or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
            return None
        usec = environ.get("WATCHDOG_USEC", "")
        return int(usec) / 1e6 if usec.isdigit() and int(usec) > 0 else None

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """One line for ``systemctl status``; sent when it changes."""
        if status != self._said:
            self._said = status
            self._send(f"STATUS={status}")

    def reloading(self) -> None:
        """Needs ``ready`` after it (Type=notify-reload wants the monotonic time)."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={usec}")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={status}")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), self._address)
        except OSError as error:
            _log.debug("The service manager was not told", extra={"error": str(error)})
