"""Colours and screens on a real terminal."""

import os
import pty
import subprocess
import sys
import time

from tests.support.command import ROOT
from tests.support.web_child import DEADLINE_S, WebChild, peer_state


def on_terminal(*words: str, until: bytes | None = None, **environ: str) -> bytes:
    """What ``kici-worker words…`` writes to a terminal; stopped once ``until`` was seen."""
    ours, theirs = pty.openpty()
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", "from kici.cli.worker import main; main()", *words],
        env={**base, **environ},
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen, end = b"", time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < end and not (until and until in seen):
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the terminal's other side is closed
                break
            if not chunk:
                break
            seen += chunk
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        os.close(ours)
    return seen


def test_a_terminal_gets_colours_unless_it_says_no(web: WebChild, url: str) -> None:
    web.peer.tell(peer_state(1, "connected"))
    web.eventually("/status", lambda b: b["coordinatorConnection"] == "connected")
    assert b"\x1b[32mconnected\x1b[0m" in on_terminal("status", "--url", url)
    assert b"\x1b[" not in on_terminal("status", "--url", url, NO_COLOR="1")
    assert b"\x1b[" not in on_terminal("status", "--url", url, TERM="dumb")


def test_watch_draws_again_when_the_worker_changes_and_when_it_is_gone(
    web: WebChild, url: str
) -> None:
    assert b"disconnected" in on_terminal("status", "--watch", "--url", url, until=b"disconnected")
    web.process.kill()
    web.process.wait(DEADLINE_S)
    web._listener.close()
    gone = on_terminal("status", "--watch", "--url", url, until=b"Failed to connect")
    assert b"Failed to connect" in gone
